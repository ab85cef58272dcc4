"""A search on a thread of its own, for who must look elsewhere while it runs."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final

from archive.query.returned import Match
from archive.threads import KeptThreads
from storage.index.engine import Stop

# What is found is handed over in lists: the first soon, later ones large enough that handing
# over costs nothing, few enough that memory is bounded and a cancel is obeyed at once.
_FIRST: Final = 8
_MOST: Final = 64
_LISTS_AHEAD: Final = 4
_LONGEST_HELD_S: Final = 0.1
_POLL_S: Final = 0.1


_searchers: Final = KeptThreads("idle-search")


class SearchAhead:
    """Finds matches ahead of who takes them, and can be ended at any moment.

    Parameters
    ----------
    begin
        Starts the search; what it raises is raised by `take`.
    ignored
        The keys that take no part in matching.
    """

    def __init__(
        self, begin: Callable[[Stop], Iterator[Match]], *, ignored: tuple[str, ...] = ()
    ) -> None:
        self.ignored = ignored
        self._begin = begin
        self._stop = Stop()
        self._found: queue.SimpleQueue[list[Match] | BaseException] = queue.SimpleQueue()
        self._room = threading.Semaphore(_LISTS_AHEAD)

    def __enter__(self) -> "SearchAhead":
        _searchers.run(self._run, "search")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the search, wherever it is; the statement that runs is interrupted."""
        self._stop.set()

    def take(self, timeout_s: float) -> list[Match] | None:
        """Return the next matches; an empty list at the end, None if there are none yet.

        Raises
        ------
        ArchiveError
            If the search failed, after what it found.
        """
        try:
            found = self._found.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self._room.release()
        if isinstance(found, BaseException):
            raise found
        return found

    def _run(self) -> None:
        with contextlib.suppress(_NobodyWaitsError):
            try:
                for some in self._lists():
                    self._put(some)
                self._put([])
            except _NobodyWaitsError:
                raise
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                self._put(error)

    def _lists(self) -> Iterator[list[Match]]:
        some: list[Match] = []
        size, since = _FIRST, time.monotonic()
        try:
            for match in self._begin(self._stop):
                some.append(match)
                if len(some) >= size or time.monotonic() - since > _LONGEST_HELD_S:
                    yield some
                    some, size, since = [], min(2 * size, _MOST), time.monotonic()
        except Exception:
            if some:
                yield some
            raise
        if some:
            yield some

    def _put(self, found: list[Match] | BaseException) -> None:
        while not self._stop.is_set:
            if self._room.acquire(timeout=_POLL_S):
                self._found.put(found)
                return
        raise _NobodyWaitsError


class _NobodyWaitsError(Exception):
    """The search was ended by who asked."""
