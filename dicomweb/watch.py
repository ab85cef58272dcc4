"""Waiting for the next change: for many at once, on no thread, and never past the end."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

import anyio
import anyio.to_thread

from archive.errors import BusyError

# How often the index is asked while anyone waits: changes come from other processes too.
_POLL_S: Final = 0.25
MOST_WAITING: Final = 200


class ChangeWatch:
    """Tells those who wait in this process that something changed in the archive.

    Parameters
    ----------
    read_counter
        Returns a number that grows with every change; may block for a moment.
    most_waiting
        How many may wait at once.
    """

    def __init__(
        self, read_counter: Callable[[], int], *, most_waiting: int = MOST_WAITING
    ) -> None:
        self._read_counter = read_counter
        self._free_seats = most_waiting
        self._counter = 0
        self._read_at = float("-inf")
        self._asking = anyio.Lock()
        # Of its own: those who render may hold every other thread.
        self._threads = anyio.CapacityLimiter(1)
        self._stopped = anyio.Event()

    @property
    def stopped(self) -> bool:
        """Whether the server ends, so that nobody should wait any longer."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Let everyone go who waits."""
        self._stopped.set()

    @contextlib.contextmanager
    def seat(self) -> Iterator[None]:
        """Hold a place among those who wait.

        Raises
        ------
        BusyError
            If there is none.
        """
        if self._free_seats <= 0:
            raise BusyError("too many wait for changes already; ask again without waiting")
        self._free_seats -= 1
        try:
            yield
        finally:
            self._free_seats += 1

    async def beyond(self, sequence: int, timeout_s: float) -> None:
        """Return when there is a change after ``sequence``, at the latest in ``timeout_s``."""
        with anyio.move_on_after(timeout_s):
            while not self.stopped and await self._current() <= sequence:
                with anyio.move_on_after(_POLL_S):
                    await self._stopped.wait()

    async def _current(self) -> int:
        async with self._asking:
            if time.monotonic() - self._read_at >= _POLL_S:
                self._counter = await anyio.to_thread.run_sync(
                    self._read_counter, limiter=self._threads
                )
                self._read_at = time.monotonic()
        return self._counter
