"""Whole objects to the disk past the page cache: what comes in by the thousand is read later.

A page of the cache costs the kernel an allocation, a copy and a write-back, and pushes out a
page that a viewer may be about to read. A direct write takes its bytes from our memory: for an
image of half a megabyte a third of the CPU, and less than a tenth where the kernel itself gets
its memory page by page from a hypervisor (decision 0018).
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import threading
from typing import Final

from storage.objects.base import Buffer

# Every file system's alignment divides this. A body that begins at a multiple of it, in memory
# that is not for reading only, is written from where it is.
BLOCK: Final = 4096
_SCRATCH_BYTES: Final = 1 << 20
# Below this the cache costs less than two ways of writing.
_SMALLEST: Final = 64 * 1024
_KEPT: Final = 8
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_REFUSED: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


class NewFiles:
    """Writes files that do not exist yet, directly where the file system lets it."""

    def __init__(self) -> None:
        self._direct = hasattr(os, "O_DIRECT")
        self._lock = threading.Lock()
        self._free: list[mmap.mmap] = []

    def write(self, path: str, body: Buffer) -> int:
        """Write all of ``body`` into a new file; return its descriptor, which is not synced.

        Raises
        ------
        OSError
            Then nothing is left under ``path``.
        """
        if self._direct and len(body) >= _SMALLEST:
            try:
                return self._write(path, body, os.O_DIRECT)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self._direct = False
                # The file may be there all the same: it is made before it is refused.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108
        return self._write(path, body, 0)

    def _write(self, path: str, body: Buffer, flag: int) -> int:
        descriptor = os.open(path, _NEW | flag, 0o640)
        try:
            if flag:
                self._write_blocks(descriptor, memoryview(body))
            else:
                write_all(descriptor, body)
        except BaseException:
            os.close(descriptor)
            os.unlink(path)  # noqa: PTH108
            raise
        return descriptor

    def _write_blocks(self, descriptor: int, body: memoryview) -> None:
        """Write whole blocks from memory that is aligned, and what is less through the cache.

        To pad the last block and to cut the file back costs two more steps of the journal.
        """
        whole = len(body) // BLOCK * BLOCK
        if _is_aligned(body):
            _write_aligned(descriptor, body[:whole])
        else:
            self._write_copied(descriptor, body[:whole])
        if whole < len(body):
            fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_WRONLY)
            write_all(descriptor, body[whole:])

    def _write_copied(self, descriptor: int, blocks: memoryview) -> None:
        scratch = self._take()
        try:
            with memoryview(scratch) as aligned:
                for at in range(0, len(blocks), _SCRATCH_BYTES):
                    piece = blocks[at : at + _SCRATCH_BYTES]
                    aligned[: len(piece)] = piece
                    _write_aligned(descriptor, aligned[: len(piece)])
        finally:
            self._give_back(scratch)

    def _take(self) -> mmap.mmap:
        with self._lock:
            if self._free:
                return self._free.pop()
        return mmap.mmap(-1, _SCRATCH_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def _give_back(self, scratch: mmap.mmap) -> None:
        with self._lock:
            if len(self._free) < _KEPT:
                self._free.append(scratch)


def _write_aligned(descriptor: int, blocks: memoryview) -> None:
    while blocks:
        done = os.write(descriptor, blocks)
        if not done or done % BLOCK:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        blocks = blocks[done:]


def _is_aligned(body: memoryview) -> bool:
    if body.readonly:  # its address is not to be had
        return False
    return ctypes.addressof(ctypes.c_char.from_buffer(body)) % BLOCK == 0


def write_all(descriptor: int, body: Buffer) -> None:
    """Write all of ``body`` at the descriptor's position."""
    view = memoryview(body)
    while view:
        view = view[os.write(descriptor, view) :]
