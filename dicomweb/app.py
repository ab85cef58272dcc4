"""The HTTP application: routes, errors, and what surrounds every request."""

import time
import uuid
from http import HTTPStatus
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archive.assembly import Archive
from archive.errors import ArchiveError
from archive.log import get_logger
from archive.metrics import REQUESTS_SERVED
from dicomweb.responses import RangeError, error_response, problem, range_response
from dicomweb.routes import ROUTES

logger = get_logger(__name__)
_EXPOSED: Final = [
    "Content-Location",
    "Content-Range",
    "ETag",
    "Retry-After",
    "Warning",
    "X-Request-Id",
]


class _Surround:
    """Names each request, times it, logs it, and says that other origins may embed answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = uuid.uuid4().hex[:16]
        seen = {"status": 500, "bytes": 0}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"cross-origin-resource-policy", b"cross-origin"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            elif message["type"] == "http.response.body":
                seen["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            _note(scope, request_id, seen, time.perf_counter() - started)


def _note(scope: Scope, request_id: str, seen: dict[str, int], seconds: float) -> None:
    route = scope.get("route")
    name = getattr(route, "name", "none")
    REQUESTS_SERVED.labels(name, f"{seen['status'] // 100}xx").observe(seconds)
    # The query string stays out: it holds what was searched for, names among it.
    logger.info(
        "http.request",
        extra={
            "request_id": request_id,
            "method": scope["method"],
            "route": getattr(route, "path", "none"),
            "status": seen["status"],
            "bytes": seen["bytes"],
            "duration_ms": round(seconds * 1000, 2),
        },
    )


def _http_exception(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    detail = error.detail
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = (
            "there is nothing at this address; the studies service is at /dicom-web/studies"
        )
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"this resource takes {headers.get('Allow', 'other methods')}"
    return problem(error.status_code, detail, headers=headers)


def _unexpected(_request: Request, error: Exception) -> Response:
    logger.error("http.failed", exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "something failed here that should not; the log of the archive has the reason",
    )


def create_app(archive: Archive) -> Starlette:
    """Return the application that serves ``archive``."""
    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(_Surround),
            # Outside everything else, so that errors too can be read by other origins.
            Middleware(
                CORSMiddleware,
                allow_origins=list(archive.config.http.cors_origins),
                allow_methods=["GET", "HEAD", "POST", "OPTIONS"],
                allow_headers=["*"],
                expose_headers=_EXPOSED,
                max_age=86400,
            ),
        ],
        exception_handlers={
            ArchiveError: error_response,
            RangeError: range_response,
            HTTPException: _http_exception,
            Exception: _unexpected,
        },
    )
    app.state.archive = archive
    return app
