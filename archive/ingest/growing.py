"""Bytes whose amount nobody knows yet: in memory while they are few, then in a spool."""

import mmap
from collections.abc import Callable
from typing import Final

from archive.errors import storage_translated
from archive.ingest.buffers import BUFFERS
from storage.objects.base import Buffer, Spool

IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_AT_ONCE_BYTES: Final = 1 << 20


class Growing:
    """An object being put together or received.

    Parameters
    ----------
    new_spool
        Makes the file that it grows in beyond `IN_MEMORY_BYTES`.
    """

    def __init__(self, new_spool: Callable[[], Spool]) -> None:
        self._new_spool = new_spool
        self._buffer: mmap.mmap | None = None
        self._held = 0
        self._spool: Spool | None = None
        self.size_bytes = 0

    def write(self, data: Buffer) -> None:
        """Take ``data``; may block, and raises what a full disk is."""
        if self.gather(data):
            self.flush()

    def gather(self, data: Buffer) -> bool:
        """Take ``data`` without blocking; tell whether it is time for `flush`."""
        buffer = self._buffer or BUFFERS.take()
        end = self._held + len(data)
        if end > len(buffer):
            buffer = BUFFERS.enlarged(buffer, end)
        buffer[self._held : end] = data
        self._buffer, self._held = buffer, end
        self.size_bytes += len(data)
        few = self._spool is None and not BUFFERS.is_scarce
        return end > (IN_MEMORY_BYTES if few else _AT_ONCE_BYTES)

    def flush(self) -> None:
        """Write to the spool what has gathered."""
        with storage_translated():
            if self._spool is None:
                self._spool = self._new_spool()
            with self._gathered() as gathered:
                self._spool.write(gathered)
        self._held = 0

    @property
    def in_spool(self) -> bool:
        """Whether `finish` has to write."""
        return self._spool is not None

    def finish(self) -> memoryview | Spool:
        """Return all of it, good until `discard`; whoever takes a spool discards it."""
        if self._spool is None:
            return self._gathered()
        self.flush()
        self._free_buffer()
        return self._spool

    def discard(self) -> None:
        """Leave nothing of it behind."""
        if self._spool is not None:
            self._spool.discard()
        self._free_buffer()

    def _gathered(self) -> memoryview:
        return memoryview(b"" if self._buffer is None else self._buffer)[: self._held]

    def _free_buffer(self) -> None:
        buffer, self._buffer = self._buffer, None
        self._held = 0
        if buffer is not None:
            BUFFERS.give_back(buffer)
