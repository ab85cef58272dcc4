"""What surrounds every request: a name, a count, a log line, and an answer come what may."""

import time
from http import HTTPStatus
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archive.log import get_logger, log_info
from archive.metrics import note_request
from dicomweb.chance import random_name
from dicomweb.resources import OPERATION_KEY
from dicomweb.responses import RETRY_AFTER_S, problem
from dicomweb.sendfile import SENT_KEY

logger = get_logger(__name__)
# At most this many requests are in the works in one worker: each holds a little memory.
MOST_REQUESTS: Final = 1000
_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
_RESOURCE_POLICY: Final = (b"cross-origin-resource-policy", b"cross-origin")


class Surround:
    """Names each request, counts it, logs it, and answers when everything else failed.

    Parameters
    ----------
    app
        What answers.
    most_requests
        Requests served at once; the next is asked to come back.
    """

    def __init__(self, app: ASGIApp, most_requests: int = MOST_REQUESTS) -> None:
        self._app = app
        self._most = most_requests
        self._served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        self._served += 1
        try:
            await self._answer(scope, receive, exchange)
        finally:
            self._served -= 1
            exchange.note()

    async def _answer(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        # Whether the process lives is asked when it has much to do, of all times.
        if self._served > self._most and not scope["path"].startswith("/health/"):
            await _overloaded()(scope, receive, exchange.send)
            return
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            logger.exception("http.failed", extra={"request_id": exchange.request_id})
            if exchange.started:
                raise  # the server cuts the connection: half an answer must not look whole
            await _failed(error)(scope, receive, exchange.send)


class _Exchange:
    """One request and what was answered."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._begun = time.perf_counter()
        self._status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        self._bytes = 0
        self.started = False
        self.request_id = new_request_id()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self._status = message["status"]
            # A copy: what answers may be an object that answers again.
            message["headers"] = headers = list(message["headers"])
            mark(headers, self.request_id)
        elif message["type"] == "http.response.body":
            self._bytes += len(message.get("body", b"")) + message.get(SENT_KEY, 0)
        await self._send(message)

    def note(self) -> None:
        note(self._scope, self.request_id, self._status, self._bytes, self._begun)


def new_request_id() -> str:
    """Return a name for a request."""
    return random_name()[:16]


def mark(headers: list[tuple[bytes, bytes]], request_id: str) -> None:
    """Add to the headers of an answer what every answer has."""
    headers += ((b"x-request-id", request_id.encode()), _NO_SNIFFING)
    if _RESOURCE_POLICY[0] not in dict(headers):
        headers.append(_RESOURCE_POLICY)


def note(scope: Scope, request_id: str, status: int, length: int, begun: float) -> None:
    """Count a request that was answered, and write its line into the log.

    Parameters
    ----------
    length
        Bytes of the body.
    begun
        When it came, by `time.perf_counter`.
    """
    seconds = time.perf_counter() - begun
    route = scope.get("route")
    name = str(scope.get(OPERATION_KEY) or getattr(route, "name", "none"))
    note_request(name, status // 100, seconds)
    # The query string stays out: it holds what was searched for, names among it.
    log_info(
        logger,
        "http.request",
        {
            "request_id": request_id,
            "method": scope["method"],
            "route": getattr(route, "path", "none"),
            "status": status,
            "bytes": length,
            "duration_ms": round(seconds * 1000, 2),
        },
    )


def _overloaded() -> Response:
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "more requests are being served than this archive takes at once; try again",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _failed(_error: Exception) -> Response:
    # What went wrong may hold what nobody outside may read: only the log tells it.
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "something failed here that should not; the log of the archive has the reason",
    )
