"""What was read from a bucket, kept on a local disk up to a bound.

An object is kept in blocks of 4 MiB, each a file: a small object is one file, and is read like
one of the disk store, without waiting and with sendfile. Objects never change, so a block is
right for ever; it need only be whole. A file says itself that it is: its modification time, in
seconds since 1970, is set to its length when all of it is written. What a power cut has
shortened, or a process left half written, does not agree and counts as absent.

Any number of processes use one folder. How much it holds is one number in a file that all of
them lock to change; who finds no room removes what was used longest ago. What was used within
the last minute stays, since somebody may be about to send it: then new blocks are not kept.
"""

import contextlib
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from storage.objects.base import Buffer
from storage.objects.direct import write_all

BLOCK_BYTES: Final = 4 << 20
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", 0)
# A use is noted when the last note is older than this; what was noted lately is not removed.
_NOTED_S: Final = 20.0
_LATELY_S: Final = 60.0
# How full it is left when room was made: that takes a look at every file.
_LEFT: Final = 0.9
_HALF_WRITTEN: Final = ".part"
_ABANDONED_S: Final = 3600.0
# How long nothing is added when nothing could be removed.
_NO_ROOM_S: Final = 5.0
_COUNTER: Final = "used"
_SWEEP: Final = "removing"


class _Kept(NamedTuple):
    """A file of the cache; by the time it was last used."""

    used_at: float
    size_bytes: int
    path: str


class KeptBlock:
    """A block that the cache has, open for reading."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self.size_bytes = size_bytes

    def read(self, offset: int, length: int) -> Buffer:
        """Return up to ``length`` bytes from ``offset`` of the block."""
        return os.pread(self._descriptor, length, offset)

    def fill(self, memory: memoryview, offset: int) -> int:
        """Read what begins at ``offset`` into ``memory``; return how much that was."""
        return os.preadv(self._descriptor, [memory], offset)

    def fill_now(self, memory: memoryview, offset: int) -> bool:
        """Fill ``memory`` with what begins at ``offset``, if that is in the page cache."""
        try:
            return os.preadv(self._descriptor, [memory], offset, _NO_WAIT) == len(memory)
        except OSError:  # none of it is there, or this file system does not tell
            return False

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


class ReadCache:
    """Blocks of objects in a local folder.

    Parameters
    ----------
    folder
        Made when it is missing; shared by all processes of a node.
    limit_bytes
        How much it may hold.
    keep_free_bytes
        Nothing is added while its volume has less than this free.
    """

    def __init__(self, folder: Path, limit_bytes: int, *, keep_free_bytes: int = 0) -> None:
        self._folder = str(folder)
        self._limit_bytes = limit_bytes
        self._keep_free_bytes = keep_free_bytes
        self._no_room_before = float("-inf")
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _COUNTER).exists():
            self._set(sum(kept.size_bytes for kept in self._files()))

    def open(self, key: str, index: int) -> KeptBlock | None:
        """Return block ``index``, 0-based, of an object; None where it is not here."""
        path = self._path(key, index)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        found = os.fstat(descriptor)
        if not _is_whole(found):
            os.close(descriptor)
            return None
        self._note(path, found)
        return KeptBlock(descriptor, found.st_size)

    def read_now(self, key: str, index: int, offset: int, length: int) -> Buffer | None:
        """Return bytes of a block that need no waiting for; else None."""
        block = self.open(key, index)
        if block is None:
            return None
        try:
            data = bytearray(length)
            return data if block.fill_now(memoryview(data), offset) else None
        finally:
            block.close()

    def whole(self, key: str) -> Path | None:
        """Return the file that holds all of an object; None where there is none."""
        path = self._path(key, 0)
        try:
            found = os.stat(path)  # noqa: PTH116 - of the many
        except OSError:
            return None
        if not _is_whole(found) or found.st_size >= BLOCK_BYTES:
            return None
        self._note(path, found)
        return Path(path)

    def add(self, key: str, index: int, data: Buffer) -> None:
        """Keep a block, if there is room for it: a cache never fails."""
        with contextlib.suppress(OSError):
            if data and self._reserve(len(data)):
                self._write(self._path(key, index), data)

    def drop(self, key: str) -> None:
        """Forget an object."""
        first = Path(self._path(key, 0))
        freed = 0
        for path in first.parent.glob(f"{first.name}*"):
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                path.unlink()
                freed += size
        if freed:
            self._count(-freed)

    def _path(self, key: str, index: int) -> str:
        name = hashlib.blake2s(key.encode(), digest_size=16).hexdigest()
        return f"{self._folder}/{name[:2]}/{name[2:]}" + (f".{index}" if index else "")

    def _note(self, path: str, found: os.stat_result) -> None:
        now = time.time()
        if not 0 <= now - found.st_atime < _NOTED_S:
            with contextlib.suppress(OSError):
                os.utime(path, (now, found.st_size))

    def _write(self, path: str, data: Buffer) -> None:
        part = f"{path}.{uuid.uuid4().hex}{_HALF_WRITTEN}"
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            write_all(descriptor, data)
            os.utime(descriptor, (time.time(), len(data)))
            os.rename(part, path)  # noqa: PTH104
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)  # noqa: PTH108
            raise
        finally:
            os.close(descriptor)

    # -- how much there is -----------------------------------------------------------------

    def _reserve(self, size_bytes: int) -> bool:
        """Count what is about to be added; tell if there is room for it."""
        if size_bytes > self._limit_bytes or time.monotonic() < self._no_room_before:
            return False
        for _ in range(2):
            if self._count(size_bytes) <= self._limit_bytes and self._volume_has_room():
                return True
            self._count(-size_bytes)
            if not self._make_room():
                break
        # To look at every file again for the next block would be in vain.
        self._no_room_before = time.monotonic() + _NO_ROOM_S
        return False

    def _volume_has_room(self) -> bool:
        volume = os.statvfs(self._folder)
        return volume.f_bavail * volume.f_frsize > self._keep_free_bytes

    def _count(self, more_bytes: int) -> int:
        """Add to what all processes hold; return how much that is."""
        with self._locked(_COUNTER) as descriptor:
            if descriptor is None:
                return self._limit_bytes
            used = max(int(os.pread(descriptor, 20, 0) or 0) + more_bytes, 0)
            if more_bytes:
                os.pwrite(descriptor, f"{used:020d}".encode(), 0)
            return used

    def _set(self, used_bytes: int) -> None:
        """Say how much there is: whoever died while adding had counted what never came."""
        with self._locked(_COUNTER) as descriptor:
            if descriptor is not None:
                os.pwrite(descriptor, f"{used_bytes:020d}".encode(), 0)

    @contextlib.contextmanager
    def _locked(self, name: str, how: int = 0) -> Iterator[int | None]:
        """Lock a file among all processes; None where that is not to be waited for."""
        descriptor = os.open(
            f"{self._folder}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | how)
            except BlockingIOError:
                yield None
            else:
                yield descriptor
        finally:
            os.close(descriptor)

    def _make_room(self) -> bool:
        """Remove what was used longest ago; tell if anything was."""
        with self._locked(_SWEEP, fcntl.LOCK_NB) as descriptor:
            if descriptor is None:
                return False  # another process or thread is at it
            kept = sorted(self._files())
            used = sum(one.size_bytes for one in kept)
            wanted = min(used, self._limit_bytes) * _LEFT
            lately = time.time() - _LATELY_S
            freed = 0
            for one in kept:
                if used - freed <= wanted or one.used_at > lately:
                    break
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(one.path)  # noqa: PTH108
                    freed += one.size_bytes
            self._set(used - freed)
            return freed > 0

    def _files(self) -> Iterator[_Kept]:
        now = time.time()
        for folder in os.scandir(self._folder):
            if not folder.is_dir():
                continue
            for entry in os.scandir(folder.path):
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat()
                    # One that is being written has no time of use before it is whole.
                    half = entry.name.endswith(_HALF_WRITTEN)
                    if half and now - found.st_ctime > _ABANDONED_S:
                        os.unlink(entry.path)  # noqa: PTH108
                        continue
                    used_at = now if half else found.st_atime
                    yield _Kept(used_at, found.st_size, entry.path)


def _is_whole(found: os.stat_result) -> bool:
    return int(found.st_mtime) == found.st_size and found.st_size > 0
