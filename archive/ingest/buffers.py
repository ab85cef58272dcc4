"""Memory that instances are received into, used again and again.

A fresh buffer costs a page fault for every 4 KiB of each instance, which takes longer than
receiving it.
"""

import mmap
import threading
from typing import Final

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
        self._used_bytes = 0

    @property
    def is_scarce(self) -> bool:
        """Whether so many instances are under way that each should take little memory."""
        return self._used_bytes > _PLENTY_BYTES

    def take(self) -> mmap.mmap:
        """Return a buffer with whatever it was used for last in it."""
        with self._lock:
            if self._free:
                buffer = self._free.pop()
                self._kept_bytes -= len(buffer)
                self._used_bytes += len(buffer)
                return buffer
            self._used_bytes += _FIRST_CAPACITY
        return mmap.mmap(-1, _FIRST_CAPACITY, flags=_OWN)

    def give_back(self, buffer: mmap.mmap) -> None:
        """Let others use it; beyond a bound its memory is returned to the system."""
        with self._lock:
            self._used_bytes -= len(buffer)
            if self._kept_bytes + len(buffer) <= _MOST_KEPT_BYTES:
                self._free.append(buffer)
                self._kept_bytes += len(buffer)

    def grown(self, more_bytes: int) -> None:
        """Note that a buffer in use has become larger."""
        with self._lock:
            self._used_bytes += more_bytes


# Of this process: instances come in by several doors.
BUFFERS: Final = Buffers()


def enlarged(buffer: mmap.mmap, needed: int) -> mmap.mmap:
    """Return a buffer of at least ``needed`` bytes with the same content: this, or another."""
    capacity = max(needed, 2 * len(buffer))
    BUFFERS.grown(capacity - len(buffer))
    try:
        buffer.resize(capacity)
    except BufferError:  # somebody still looks into it
        larger = mmap.mmap(-1, capacity, flags=_OWN)
        larger[: len(buffer)] = buffer[:]
        return larger
    return buffer
