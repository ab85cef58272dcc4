"""What pages of other origins may do here (the Fetch Standard, section 3.2).

Stands outside everything else, so that errors can be read too, and asks for no credentials:
browsers send none with a preflight.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicomweb.resources import OPERATION_KEY

_METHODS: Final = "GET, HEAD, POST, DELETE, OPTIONS"
_REQUEST_HEADERS: Final = (
    "Accept",
    "Accept-Language",
    "Authorization",
    "Cache-Control",
    "Content-Length",
    "Content-Type",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Range",
    "X-Requested-With",
)
_EXPOSED: Final = (
    "Accept-Ranges, Allow, Content-Disposition, Content-Encoding, Content-Length, "
    "Content-Location, Content-Range, ETag, Last-Modified, Link, Location, Retry-After, "
    "Warning, X-Request-Id, X-Total-Count"
)
_FOR_EVERYONE: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", _EXPOSED.encode()),
)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_MOST_HEADERS: Final = 64
_MAX_AGE_S: Final = 86400


class Origins:
    """Who may read answers.

    Parameters
    ----------
    origins
        Those that may, e.g. ``https://viewer.example.org``; ``*`` for all.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._everyone = "*" in origins
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def mark(self, headers: list[tuple[bytes, bytes]], origin: str) -> None:
        """Add to the headers of an answer what ``origin`` may do with it."""
        if self._everyone:
            headers += _FOR_EVERYONE
            return
        named = MutableHeaders(raw=headers)
        named.add_vary_header("Origin")
        if origin.lower() in self._origins:
            named["Access-Control-Allow-Origin"] = origin
            named["Access-Control-Expose-Headers"] = _EXPOSED


class Cors:
    """Adds the Access-Control headers to every answer.

    Parameters
    ----------
    app
        What answers.
    origins
        Who may read answers.
    """

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = Headers(scope=scope).get("origin", "")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._origins.mark(message["headers"], origin)
            await send(message)

        await self._app(scope, receive, sending)


class Preflight:
    """Answers the questions browsers ask before a request, whatever they ask it for.

    Parameters
    ----------
    app
        What answers everything else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = self._app
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            asked = Headers(scope=scope)
            if "origin" in asked and "access-control-request-method" in asked:
                scope[OPERATION_KEY] = "preflight"
                answer = _preflight(asked)
        await answer(scope, receive, send)


def _preflight(asked: Headers) -> Response:
    wanted = asked.get("access-control-request-headers", "")
    known = {name.lower() for name in _REQUEST_HEADERS}
    more = []
    for name in (part.strip() for part in wanted.split(",")[:_MOST_HEADERS]):
        # What is asked for goes back in a header: only what is a name of one.
        if _TOKEN.fullmatch(name) and name.lower() not in known:
            known.add(name.lower())
            more.append(name)
    return Response(
        status_code=HTTPStatus.NO_CONTENT,
        headers={
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": ", ".join((*_REQUEST_HEADERS, *more)),
            "Access-Control-Max-Age": str(_MAX_AGE_S),
            "Vary": "Access-Control-Request-Headers",
        },
    )
