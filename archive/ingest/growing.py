"""Bytes whose amount nobody knows yet: in memory while they are few, then in a spool."""

from collections.abc import Callable
from typing import Final

from archive.errors import storage_translated
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
        self._memory = bytearray()
        self._spool: Spool | None = None
        self.size_bytes = 0

    def write(self, data: Buffer) -> None:
        """Take ``data``; may block, and raises what a full disk is."""
        if self.gather(data):
            self.flush()

    def gather(self, data: Buffer) -> bool:
        """Take ``data`` without blocking; tell whether it is time for `flush`."""
        self._memory += data
        self.size_bytes += len(data)
        limit = IN_MEMORY_BYTES if self._spool is None else _AT_ONCE_BYTES
        return len(self._memory) > limit

    def flush(self) -> None:
        """Write to the spool what has gathered."""
        with storage_translated():
            if self._spool is None:
                self._spool = self._new_spool()
            self._spool.write(self._memory)
        self._memory = bytearray()

    @property
    def in_spool(self) -> bool:
        """Whether `finish` has to write."""
        return self._spool is not None

    def finish(self) -> bytearray | Spool:
        """Return all of it; whoever takes a spool discards it."""
        if self._spool is None:
            return self._memory
        self.flush()
        return self._spool

    def discard(self) -> None:
        """Leave nothing of it behind."""
        if self._spool is not None:
            self._spool.discard()
        self._memory = bytearray()
