"""A resource: one path, and what may be done with it.

One `Resource` holds every method of its path, so that it can answer OPTIONS, and 405 with all
that it does take, and so that the description of the interface is made from the same table.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from dicomweb.lanes import Lane

Handler = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]
# Where the operation that serves a request is found, for logs and metrics.
OPERATION_KEY: Final = "fileroom.operation"


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of a resource does.

    Parameters
    ----------
    handler
        Answers it: on a thread of its own, unless it is a coroutine function.
    name
        The transaction, as metrics and the description of the interface call it.
    """

    handler: Handler
    name: str


class Resource(Route):
    """One path and its methods; HEAD comes with GET, OPTIONS with everything.

    Parameters
    ----------
    path
        Template, e.g. ``/studies/{study}``.
    get, post, delete
        What those methods do; None where the resource does not take them.
    options
        Answers OPTIONS; None: the methods alone.
    """

    def __init__(
        self,
        path: str,
        *,
        get: Operation | None = None,
        post: Operation | None = None,
        delete: Operation | None = None,
        options: Operation | None = None,
    ) -> None:
        given = {"GET": get, "POST": post, "DELETE": delete}
        self.operations = {method: of for method, of in given.items() if of is not None}
        super().__init__(path, self._answer, name=path)
        # Every method is ours to answer: what is not taken, too.
        self.methods = None
        answered = dict(self.operations)
        if get is not None:
            answered["HEAD"] = get
        self.allow = ", ".join(
            method
            for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
            if method in answered or method == "OPTIONS"
        )
        answered["OPTIONS"] = options or Operation(self._methods, "options")
        self.answered = answered
        self._apps: dict[str, ASGIApp] = {
            method: request_response(of.handler) for method, of in answered.items()
        }

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose path is ours.

        Raises
        ------
        HTTPException
            405, with every method that is taken (RFC 9110 §15.5.6).
        BusyError
            503, if too many such requests are served already (`dicomweb.lanes`).
        """
        method = scope["method"]
        if method not in self._apps:
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": self.allow})
        name = scope[OPERATION_KEY] = self.answered[method].name
        lane: Lane | None = scope["app"].state.lanes.get(name)
        if lane is None:
            await self._apps[method](scope, receive, send)
        else:
            await lane.serve(self._apps[method], scope, receive, send)

    async def _methods(self, _request: Request) -> Response:
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": self.allow})

    async def _answer(self, _request: Request) -> Response:
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": self.allow})
