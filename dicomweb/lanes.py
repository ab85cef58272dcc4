"""Lanes: how much of each kind of work a process does at once, so that none starves another.

Reads of stored bytes share the threads with what takes long: stores wait for disks, pictures
for decoders, searches for the index. Each of these has a lane with fewer places than there
are threads. What finds no place waits in order; what would wait too long, or behind too many,
is told at once to come back (503 with Retry-After), before its body is read.
"""

from collections.abc import Mapping
from typing import Final

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archive.errors import BusyError

# Threads of one process, and how many of them may store; the lanes leave twenty to reads.
THREADS: Final = 64
STORING_THREADS: Final = 16
_PATIENCE_S: Final = 10.0


class Lane:
    """A number of places, and how many may wait for one, and how long.

    Parameters
    ----------
    places
        Requests served at once.
    waiting
        Requests that may wait at once.
    patience_s
        Seconds that one waits.
    """

    def __init__(self, places: int, waiting: int, patience_s: float = _PATIENCE_S) -> None:
        self._places = anyio.Semaphore(places)
        self._most_waiting = waiting
        self._patience_s = patience_s
        self._waiting = 0

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request once there is a place for it, which it has until it is answered.

        A client that is slow to read the answer takes no place from others.

        Raises
        ------
        BusyError
            If too many wait, or no place became free in time.
        """
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            await self._wait()
        has_place = True

        async def sending(message: Message) -> None:
            nonlocal has_place
            if has_place and message["type"] == "http.response.start":
                has_place = False
                self._places.release()
            await send(message)

        try:
            await app(scope, receive, sending)
        finally:
            if has_place:
                self._places.release()

    async def _wait(self) -> None:
        if self._waiting >= self._most_waiting:
            raise BusyError("too many requests of this kind are waiting already; try again")
        self._waiting += 1
        try:
            with anyio.fail_after(self._patience_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise BusyError("others were served all the time; try again") from error
        finally:
            self._waiting -= 1


def lanes_by_operation() -> Mapping[str, Lane]:
    """Return the lane of each operation that has one; those without are never held up."""
    # A store is held by its sender, who may be slow: more places than are ever busy.
    storing, rendering, searching = Lane(32, 64), Lane(12, 256), Lane(16, 256)
    return {
        "store": storing,
        "rendered": rendering,
        "thumbnail": rendering,
        "search": searching,
        "count": searching,
    }
