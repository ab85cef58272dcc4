"""Objects as files of a local file system."""

import contextlib
import glob
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from storage.errors import ObjectUnreadableError, StorageError
from storage.objects.base import Buffer, Spool, StoredObject
from storage.objects.direct import NewFiles
from storage.objects.journal import OwnJournal, abandoned
from storage.objects.keys import OBJECTS
from storage.objects.spool import DiskSpool, Room, translated

# Some 300 bytes each, in each process that stores; one that is forgotten is synced once more.
_MOST_FOLDERS: Final = 10_000
_PART: Final = ".part"
_INCOMING: Final = "incoming"
_JOURNAL: Final = "journal"
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", 0)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DiskObject:
    """A file of the store, open for reading."""

    def __init__(self, path: str, key: str) -> None:
        self._key = key
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            with translated(key):
                raise

    def fill(self, pieces: Sequence[memoryview], offset: int) -> None:
        """Read what begins at ``offset`` into pieces of memory, one after the other."""
        wanted = sum(map(len, pieces))
        try:
            count = os.preadv(self._descriptor, pieces, offset)
            if count < wanted:
                self._fill_rest(pieces, offset, count)
        except OSError:
            with translated(self._key):
                raise

    def _fill_rest(self, pieces: Sequence[memoryview], offset: int, count: int) -> None:
        """Go on where a read has stopped short of what was asked for."""
        for piece in pieces:
            done, count = min(count, len(piece)), count - min(count, len(piece))
            while done < len(piece):
                more = os.preadv(self._descriptor, [piece[done:]], offset + done)
                if not more:
                    raise ObjectUnreadableError(f"{self._key} ends early")
                done += more
            offset += len(piece)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


class DiskStore:
    """The object store on a local file system (`storage.objects.base.ObjectStore`).

    Parameters
    ----------
    root
        The folder that holds everything; made when it is missing.
    keep_free_bytes
        Writes are refused while the volume has less than this free.
    """

    puts_at_once = 1

    def __init__(self, root: Path, *, keep_free_bytes: int = 0) -> None:
        self._root = root
        self._prefix = f"{root}/"
        self._room = Room(root, keep_free_bytes)
        self._lock = threading.Lock()
        self._journal = OwnJournal(root / _JOURNAL)
        self._new_files = NewFiles()
        self._durable_folders: set[str] = set()
        (root / _INCOMING).mkdir(parents=True, exist_ok=True)

    # -- writing ---------------------------------------------------------------------------

    def new_spool(self) -> Spool:
        """Begin an object whose size is not known; raises NoSpaceError."""
        self._room.require()
        name = f"{self._journal().name}-{uuid.uuid4().hex}{_PART}"
        with translated("being received"):
            return DiskSpool(self._root / _INCOMING / name)

    def put(self, key: str, body: Buffer | Spool) -> None:
        """Write ``body`` under ``key``: data synced, renamed into place.

        The folder's entry is made durable by `settle`, once for all objects of a folder.
        """
        self._room.require()
        path = self._path(key)
        self._journal().add(key)
        with translated(key):
            try:
                self._write(path, body)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
                self._write(path, body)

    def _path(self, key: str) -> str:
        # Of the many, not a `Path`: making one and its parents takes as long as the writing.
        return f"{self._prefix}{key}"

    def _write(self, path: str, body: Buffer | Spool) -> None:
        if isinstance(body, DiskSpool):
            body.keep_as(path)
            return
        if not isinstance(body, bytes | bytearray | memoryview):
            raise TypeError("a spool of another store cannot be kept here")
        # Of this process alone: another may write the same record at the same time.
        part = f"{path}.{self._journal().name[:8]}{_PART}"
        descriptor = self._new_files.write(part, body)
        try:
            os.fsync(descriptor)
            os.rename(part, path)  # noqa: PTH104
        except BaseException:
            os.unlink(part)  # noqa: PTH108
            raise
        finally:
            os.close(descriptor)

    def settle(self, keys: list[str]) -> None:
        """Make the names of objects just put durable, together: one sync a folder."""
        with translated("folder"):
            for folder in sorted({key.rpartition("/")[0] for key in keys}):
                _sync_folder(self._path(folder))
                self._settle_ancestors(folder)

    def _settle_ancestors(self, folder: str) -> None:
        # Another process may have made a parent and not yet synced it: each process syncs the
        # ancestors of a folder once before it vouches for anything inside.
        if folder in self._durable_folders:
            return
        ancestor = folder
        while ancestor:
            ancestor = ancestor.rpartition("/")[0]
            _sync_folder(self._path(ancestor))
        with self._lock:
            if len(self._durable_folders) > _MOST_FOLDERS:
                self._durable_folders.clear()
            self._durable_folders.add(folder)

    def forget(self, keys: list[str]) -> None:
        """Note that these objects are indexed or removed: no sweep need ask for them."""
        self._journal().remove(keys)

    def discard(self, keys: list[str]) -> list[str]:
        """Remove objects that will not be indexed; return those that could not be."""
        left = []
        for key in keys:
            try:
                self.delete(key)
            except StorageError:
                left.append(key)
        self._journal().remove(keys)
        return left

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""
        with translated(key):
            (self._root / key).unlink(missing_ok=True)

    # -- reading ---------------------------------------------------------------------------

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``offset``; raises ObjectMissingError."""
        with translated(key):
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(descriptor, length, offset)
            finally:
                os.close(descriptor)

    def read_now(self, key: str, offset: int, length: int) -> Buffer | None:
        """Return ``length`` bytes from ``offset`` if they are in the page cache; else None.

        Raises
        ------
        ObjectMissingError
            If there is no such object.
        """
        with translated(key):
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = bytearray(length)
            return data if os.preadv(descriptor, [data], offset, _NO_WAIT) == length else None
        except OSError:  # none of it is there, or this file system does not tell
            return None
        finally:
            os.close(descriptor)

    def iter_chunks(
        self, key: str, offset: int, length: int, chunk_bytes: int
    ) -> Iterator[bytes]:
        """Yield ``length`` bytes from ``offset`` in pieces of ``chunk_bytes``.

        Raises
        ------
        ObjectMissingError
            If there is no such object.
        ObjectUnreadableError
            If it ends before ``length`` bytes are read.
        """
        with translated(key):
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
            try:
                while length > 0:
                    chunk = os.pread(descriptor, min(length, chunk_bytes), offset)
                    if not chunk:
                        raise ObjectUnreadableError(f"{key} ends {length} bytes early")
                    yield chunk
                    offset += len(chunk)
                    length -= len(chunk)
            finally:
                os.close(descriptor)

    def open(self, key: str) -> DiskObject:
        """Return an object to read from, until it is closed; raises ObjectMissingError."""
        return DiskObject(self._path(key), key)

    def size(self, key: str) -> int:
        """Return an object's length; raises ObjectMissingError."""
        with translated(key):
            return (self._root / key).stat().st_size

    def local_path(self, key: str) -> str | None:
        """Return the path of the file that holds the object."""
        return self._path(key)

    def uncached(self) -> "DiskStore":
        """Return this store: nothing lies between."""
        return self

    def require_ready(self) -> None:
        """Do nothing: the folder was made with the store."""

    def answers(self) -> bool:
        """Tell whether the folder of objects is there: a volume may not be mounted."""
        return os.access(self._root / OBJECTS, os.R_OK | os.X_OK)

    def walk(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object under ``prefix``, in the order of keys."""
        for folder, folders, files in os.walk(self._root / prefix):
            folders.sort()
            for name in sorted(files):
                path = Path(folder) / name
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    key = path.relative_to(self._root).as_posix()
                    found = path.stat()
                    age_s = time.time() - found.st_mtime
                    yield StoredObject(key=key, size_bytes=found.st_size, age_s=age_s)

    # -- after a crash ---------------------------------------------------------------------

    def strays(self) -> Iterator[list[str]]:
        """Yield, journal by journal, the keys that a writer which died may not have indexed.

        When the caller asks for the next list, the last one counts as dealt with.
        """
        yield from abandoned(self._root / _JOURNAL, self._root / _INCOMING)

    def discard_stray(self, key: str) -> bool:
        """Remove an object that no index names, whole or half written; tell if it was there."""
        found = False
        whole = self._root / key
        if not whole.is_relative_to(self._root):
            return False
        for path in (whole, *whole.parent.glob(f"{glob.escape(whole.name)}*{_PART}")):
            if path.exists():
                path.unlink(missing_ok=True)
                found = True
        return found

    # -- room ------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Tell whether writes are accepted."""
        return bool(self._room)
