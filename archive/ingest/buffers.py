"""Memory that instances are received into, used again and again.

A fresh buffer costs a page fault for every 4 KiB of each instance, which takes longer than
receiving it.
"""

import mmap
import threading
import weakref
from typing import Final

from storage.objects.direct import BLOCK

__all__ = ["BLOCK", "BUFFERS", "Buffers"]

_FIRST_CAPACITY: Final = 1 << 20
_MOST_KEPT_BYTES: Final = 24 << 20
# With more than this in use, instances that are received go to files early.
_PLENTY_BYTES: Final = 96 << 20
# A shared mapping, the default, cannot grow.
_OWN: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Buffers:
    """Buffers that nobody uses just now; the latest used, which is still warm, comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[mmap.mmap] = []
        self._kept_bytes = 0
        # Sizes of those in use, by identity: until they are given back, or are no more.
        self._in_use: dict[int, int] = {}

    @property
    def is_scarce(self) -> bool:
        """Whether so many instances are under way that each should take little memory."""
        while True:
            try:
                return sum(self._in_use.values()) > _PLENTY_BYTES
            except RuntimeError:  # another thread took one meanwhile
                continue

    def take(self) -> mmap.mmap:
        """Return a buffer with whatever it was used for last in it."""
        with self._lock:
            if self._free:
                buffer = self._free.pop()
                self._kept_bytes -= len(buffer)
                self._in_use[id(buffer)] = len(buffer)
                return buffer
        return self._new(_FIRST_CAPACITY)

    def give_back(self, buffer: mmap.mmap) -> None:
        """Let others use it; beyond a bound its memory is returned to the system."""
        self._in_use.pop(id(buffer), None)
        with self._lock:
            if self._kept_bytes + len(buffer) <= _MOST_KEPT_BYTES:
                self._free.append(buffer)
                self._kept_bytes += len(buffer)

    def enlarged(self, buffer: mmap.mmap, needed: int) -> mmap.mmap:
        """Return at least ``needed`` bytes with the same content: this buffer, or another."""
        capacity = max(needed, 2 * len(buffer))
        try:
            buffer.resize(capacity)
        except BufferError:  # somebody still looks into it
            larger = self._new(capacity)
            larger[: len(buffer)] = buffer[:]
            return larger
        self._in_use[id(buffer)] = capacity
        return buffer

    def _new(self, capacity: int) -> mmap.mmap:
        buffer = mmap.mmap(-1, capacity, flags=_OWN)
        self._in_use[id(buffer)] = capacity
        # Some keep what it holds for longer and never give it back: they let go of it.
        weakref.finalize(buffer, self._in_use.pop, id(buffer), None).atexit = False
        return buffer


# Of this process: instances come in by several doors.
BUFFERS: Final = Buffers()
