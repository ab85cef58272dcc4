"""Requests that are answered at once, on the event loop: what is in memory needs no thread.

A handler that runs on a thread costs a change of thread each way, and a body that is read by
threads one for each chunk: more than the answer itself. A handler that is marked here is first
run on the loop, where it may do what takes microseconds: read a few rows of SQLite by their
keys, and bytes that are in the page cache. Where it would have to wait it says so, and is run
again on a thread; where it needs an image that a render worker makes, the loop waits for that,
and it is run again on the loop.
"""

from collections.abc import Callable, Coroutine
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from archive.errors import ArchiveError
from dicomweb.context import archive_of

_INLINE_KEY: Final = "fileroom.inline"
_MADE_KEY: Final = "fileroom.made"
# What came of a request that was tried before it reached the application.
_TRIED_KEY: Final = "fileroom.tried"


class MayWaitError(Exception):
    """A handler on the event loop has come to something that may take long."""


class MakeFirstError(Exception):
    """A handler on the event loop needs something that others make, and nobody has to wait for.

    Parameters
    ----------
    key
        What it is.
    make
        Has it made; the handler is run again when it is, and finds it with `made`, unless
        somebody in between makes an `Awaited` of this.
    """

    def __init__(self, key: str, make: Callable[[], Coroutine[None, None, bytes]]) -> None:
        self.key, self.make = key, make
        super().__init__(key)


class Awaited(Response):
    """An answer that only lacks what others make: it is not sent, but finished.

    Parameters
    ----------
    first
        What is made.
    finish
        Returns the answer with it; None: the handler does, run again.
    """

    def __init__(
        self, first: MakeFirstError, finish: Callable[[bytes], Response] | None = None
    ) -> None:
        super().__init__()
        self.first, self.finish = first, finish


class AtOnce:
    """What runs a handler on the loop, and on a thread when that does not do.

    Parameters
    ----------
    handler
        Answers a request; on the loop it may raise `MayWaitError` and `MakeFirstError`.
    """

    def __init__(self, handler: Callable[[Request], Response]) -> None:
        self._handler = handler

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if _TRIED_KEY in request.scope:
            tried: Response | None = request.scope[_TRIED_KEY]
        else:
            tried = self.attempt(request)
        made: dict[str, bytes | ArchiveError] = request.scope.setdefault(_MADE_KEY, {})
        while isinstance(tried, Awaited):
            try:
                body = await tried.first.make()
            except ArchiveError as error:
                # It is raised where it was asked for, so that something else may be offered.
                made[tried.first.key] = error
            else:
                if tried.finish is not None:
                    return tried.finish(body)
                made[tried.first.key] = body
            tried = self.attempt(request)
        if tried is not None:
            return tried
        return await run_in_threadpool(self._handler, request)

    def attempt(self, request: Request) -> Response | None:
        """Return the answer as far as it can be had on the loop; None where that is nothing."""
        # A server may let wait for a row; a file of this machine does not.
        if not archive_of(request).engine.is_sqlite:
            return None
        request.scope[_INLINE_KEY] = True
        try:
            return self._handler(request)
        except MakeFirstError as first:
            return Awaited(first)
        except MayWaitError:
            return None
        finally:
            request.scope[_INLINE_KEY] = False


def was_tried(scope: Scope, outcome: Response | None) -> None:
    """Note that an attempt was made for a request, and what it gave; it is not repeated."""
    scope[_TRIED_KEY] = outcome


def made(request: Request, key: str) -> bytes | None:
    """Return what was made for this request; None when nothing was yet.

    Raises
    ------
    ArchiveError
        If it could not be made.
    """
    found: bytes | ArchiveError | None = request.scope.get(_MADE_KEY, {}).get(key)
    if isinstance(found, ArchiveError):
        raise found
    return found


def is_inline(request: Request) -> bool:
    """Tell whether the handler runs on the event loop."""
    return bool(request.scope.get(_INLINE_KEY))


def may_wait(request: Request) -> None:
    """Say that what comes next may take long.

    Raises
    ------
    MayWaitError
        On the event loop.
    """
    if is_inline(request):
        raise MayWaitError
