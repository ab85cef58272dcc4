"""Requests that are answered at once, on the event loop: what is in memory needs no thread.

A handler that runs on a thread costs a change of thread each way, and a body that is read by
threads one for each chunk: more than the answer itself. A handler that is marked here is first
run on the loop, where it may do what takes microseconds: read a few rows of SQLite by their
keys, and bytes that are in the page cache. Where it would have to wait it says so, and is run
again on a thread.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.context import archive_of

_INLINE_KEY: Final = "fileroom.inline"


class MayWaitError(Exception):
    """A handler on the event loop has come to something that may take long."""


def at_once(handler: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Return what runs ``handler`` on the loop, and on a thread when that does not do."""

    async def answer(request: Request) -> Response:
        # A server may let wait for a row; a file of this machine does not.
        if not archive_of(request).engine.is_sqlite:
            return await run_in_threadpool(handler, request)
        request.scope[_INLINE_KEY] = True
        try:
            return handler(request)
        except MayWaitError:
            pass
        finally:
            request.scope[_INLINE_KEY] = False
        return await run_in_threadpool(handler, request)

    return answer


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
