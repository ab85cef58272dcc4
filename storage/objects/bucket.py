"""Objects in a bucket, read through a cache on a local disk.

What makes an object durable is the server's answer to `put`; nothing of this node is needed
to find it or to read it again. Local are only conveniences: the cache, what is just being
received, and the journal of keys, by which a node that comes back removes what it had put and
not indexed. What a node that never comes back has left, `fileroom verify` finds.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Protocol, Self
from uuid import uuid4

from storage.errors import ObjectMissingError, ObjectUnreadableError, StorageError
from storage.objects.base import Buffer, Spool, StoredObject
from storage.objects.cache import BLOCK_BYTES, ReadCache
from storage.objects.discarding import Discarding
from storage.objects.journal import OwnJournal, abandoned
from storage.objects.remote import Bucket
from storage.objects.spool import DiskSpool, Room, translated

_INCOMING: Final = "incoming"
_JOURNAL: Final = "journal"
_CACHE: Final = "cache"


class _Block(Protocol):
    """A stretch of an object, from the cache or from memory."""

    def read(self, offset: int, length: int) -> Buffer: ...
    def fill(self, memory: memoryview, offset: int) -> int: ...
    def close(self) -> None: ...


class _HeldBlock:
    """A block in memory, just fetched; or as much of it as is wanted, from ``start``."""

    def __init__(self, data: Buffer, start: int = 0) -> None:
        self._data = memoryview(data)
        self._start = start

    def read(self, offset: int, length: int) -> Buffer:
        first = offset - self._start
        return self._data[first : first + length]

    def fill(self, memory: memoryview, offset: int) -> int:
        piece = self.read(offset, len(memory))
        memory[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        pass


class _Once:
    """Lets those who want the same at the same time share one fetch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], Future[_Block]] = {}

    def __call__(self, name: tuple[str, int], fetch: Callable[[], _Block]) -> _Block:
        """Return what ``fetch`` does, or what is just being fetched under ``name``."""
        mine = Future[_Block]()
        with self._lock:
            shared = self._running.setdefault(name, mine)
        if shared is mine:
            try:
                mine.set_result(fetch())
            except BaseException as error:  # noqa: BLE001 - raised below, to all who wait
                mine.set_exception(error)
            finally:
                with self._lock:
                    del self._running[name]
        return shared.result()


class BucketObject:
    """An object of a bucket, being read from."""

    def __init__(self, block: Callable[[int], _Block], key: str) -> None:
        self._block = block
        self._key = key
        self._index = 0
        self._current = block(0)

    def fill(self, pieces: Sequence[memoryview], offset: int) -> None:
        """Read what begins at ``offset`` into pieces of memory, one after the other."""
        for piece in pieces:
            left = piece
            while left:
                index, start = divmod(offset, BLOCK_BYTES)
                count = self._at(index).fill(left[: BLOCK_BYTES - start], start)
                if not count:
                    raise ObjectUnreadableError(f"{self._key} ends early")
                left = left[count:]
                offset += count

    def _at(self, index: int) -> _Block:
        if index != self._index:
            following = self._block(index)
            self._current.close()
            self._current, self._index = following, index
        return self._current

    def close(self) -> None:
        """Let go of it."""
        self._current.close()


class BucketStore:
    """The object store in a bucket (`storage.objects.base.ObjectStore`).

    Parameters
    ----------
    bucket
        Where the objects lie.
    local
        A folder of this node, made when it is missing.
    keep_free_bytes
        Writes are refused while the volume of ``local`` has less than this free.
    cache_bytes
        How much of what was read is kept under ``local``; 0: nothing.
    """

    puts_at_once = 8

    def __init__(
        self, bucket: Bucket, local: Path, *, keep_free_bytes: int = 0, cache_bytes: int = 0
    ) -> None:
        self._bucket = bucket
        self._local = local
        self._room = Room(local, keep_free_bytes)
        self._journal = OwnJournal(local / _JOURNAL)
        self._once = _Once()
        self._discarding = Discarding(self.delete, lambda key: self._journal().remove([key]))
        self._cache: ReadCache | None = None
        (local / _INCOMING).mkdir(parents=True, exist_ok=True)
        if cache_bytes:
            # Reads must not take what writes need.
            spare = keep_free_bytes * 2
            self._cache = ReadCache(local / _CACHE, cache_bytes, keep_free_bytes=spare)

    def require_ready(self) -> None:
        """Ask the server for the bucket; StoreUnavailableError says what to do."""
        self._bucket.require_ready()

    def uncached(self) -> Self:
        """Return this store without what a disk between says of the bucket."""
        return type(self)(self._bucket, self._local)

    # -- writing ---------------------------------------------------------------------------

    def new_spool(self) -> Spool:
        """Begin an object whose size is not known; raises NoSpaceError."""
        self._room.require()
        name = f"{self._journal().name}-{uuid4().hex}.part"
        with translated("being received"):
            return DiskSpool(self._local / _INCOMING / name)

    def put(self, key: str, body: Buffer | Spool) -> None:
        """Send ``body``; return when the server has answered that it has all of it."""
        self._room.require()
        self._journal().add(key)
        if isinstance(body, DiskSpool):
            self._bucket.put(key, body.path, body.size_bytes)
            body.discard()
        elif isinstance(body, bytes | bytearray | memoryview):
            self._bucket.put(key, body, len(body))
        else:
            raise TypeError("a spool of another store cannot be kept here")

    def settle(self, keys: list[str]) -> None:
        """Do nothing: an object that the server has taken is durable."""

    def forget(self, keys: list[str]) -> None:
        """Note that these objects are indexed or removed: no sweep need ask for them."""
        self._journal().remove(self._discarding.without(keys))

    def discard(self, keys: list[str]) -> list[str]:
        """Have objects removed that will not be indexed: nobody waits for the server."""
        self._discarding.add(keys)
        return []

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""
        self._bucket.delete(key)
        if self._cache is not None:
            self._cache.drop(key)

    # -- reading ---------------------------------------------------------------------------

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``offset``; raises ObjectMissingError."""
        pieces = []
        for piece in self._pieces(key, offset, length, BLOCK_BYTES):
            pieces.append(bytes(piece))
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_now(self, key: str, offset: int, length: int) -> Buffer | None:
        """Return ``length`` bytes from ``offset`` if the cache has them in memory; else None.

        An object that is not there is not told from one that was not read yet.
        """
        index, start = divmod(offset, BLOCK_BYTES)
        if self._cache is None or start + length > BLOCK_BYTES:
            return None
        return self._cache.read_now(key, index, start, length)

    def iter_chunks(
        self, key: str, offset: int, length: int, chunk_bytes: int
    ) -> Iterator[bytes]:
        """Yield ``length`` bytes from ``offset`` in pieces of at most ``chunk_bytes``.

        Raises
        ------
        ObjectMissingError
            If there is no such object.
        ObjectUnreadableError
            If it ends before ``length`` bytes are read.
        """
        for piece in self._pieces(key, offset, length, chunk_bytes):
            length -= len(piece)
            yield bytes(piece)
        if length:
            raise ObjectUnreadableError(f"{key} ends {length} bytes early")

    def open(self, key: str) -> BucketObject:
        """Return an object to read from, until it is closed; raises ObjectMissingError."""
        return BucketObject(lambda index: self._block(key, index), key)

    def size(self, key: str) -> int:
        """Return an object's length; raises ObjectMissingError."""
        return self._bucket.size(key)

    def local_path(self, key: str) -> str | None:
        """Return the path of the cache's file with all of the object, where there is one."""
        file = None if self._cache is None else self._cache.whole(key)
        return None if file is None else str(file)

    def answers(self) -> bool:
        """Tell whether the bucket is there."""
        try:
            self._bucket.require_ready()
        except StorageError:
            return False
        return True

    def walk(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object under ``prefix``, in the order of keys."""
        return self._bucket.walk(prefix)

    def _pieces(self, key: str, offset: int, length: int, most: int) -> Iterator[Buffer]:
        """Yield bytes from ``offset`` until there are ``length``, or the object ends."""
        end = offset + length
        while offset < end:
            index, start = divmod(offset, BLOCK_BYTES)
            block = self._block(key, index, start, end - offset)
            try:
                while offset < end and start < BLOCK_BYTES:
                    piece = block.read(start, min(most, end - offset, BLOCK_BYTES - start))
                    if not piece:
                        return
                    yield piece
                    offset += len(piece)
                    start += len(piece)
            finally:
                block.close()

    def _block(self, key: str, index: int, start: int = 0, length: int = BLOCK_BYTES) -> _Block:
        """Return block ``index`` of an object, at least what is wanted of it."""
        if self._cache is None:
            wanted = min(length, BLOCK_BYTES - start)
            data = self._bucket.read(key, index * BLOCK_BYTES + start, wanted)
            return _HeldBlock(data, start)
        kept = self._cache.open(key, index)
        return kept or self._once((key, index), lambda: self._fetch(key, index))

    def _fetch(self, key: str, index: int) -> _Block:
        data = self._bucket.read(key, index * BLOCK_BYTES, BLOCK_BYTES)
        if self._cache is not None:
            self._cache.add(key, index, data)
        return _HeldBlock(data)

    # -- after a crash ---------------------------------------------------------------------

    def strays(self) -> Iterator[list[str]]:
        """Yield, journal by journal, the keys that a writer of this node may not have indexed.

        When the caller asks for the next list, the last one counts as dealt with.
        """
        yield from abandoned(self._local / _JOURNAL, self._local / _INCOMING)

    def discard_stray(self, key: str) -> bool:
        """Remove an object that no index names; tell if it was there."""
        try:
            self._bucket.size(key)
        except ObjectMissingError:
            return False
        self.delete(key)
        return True

    # -- room ------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Tell whether writes are accepted: the bucket has no bound, the local volume has."""
        return bool(self._room)
