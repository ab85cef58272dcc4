"""HTTP/1.1 as uvicorn speaks it, with a bound on the head of a request."""

from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from dicomweb.responses import problem_body
from dicomweb.sendfile import Wire

LONGEST_HEAD_BYTES: Final = 192 * 1024
# The parser's own positions in a URL have 16 bits.
_LONGEST_TARGET_BYTES: Final = 65_535
_LINGER_S: Final = 0.5


class BoundedProtocol(HttpToolsProtocol):
    """Refuses what is no request, or has no end, in the words of every other error."""

    _head_bytes = 0
    _refused = False
    _refusal = HTTPStatus.BAD_REQUEST

    def data_received(self, data: bytes) -> None:
        """Read on, unless what came before was refused."""
        if not self._refused:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the request target."""
        self._count(len(url), HTTPStatus.REQUEST_URI_TOO_LONG)
        if len(self.url) + len(url) > _LONGEST_TARGET_BYTES:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Read ``OPTIONS *`` as a question about the whole server (RFC 9110 §9.3.7)."""
        if self.url == b"*":
            self.url = b"/"
        super().on_headers_complete()
        if self.cycle is not None:
            scope: Any = self.cycle.scope
            Wire(self.cycle).offer(scope)

    def _count(self, length: int, refusal: HTTPStatus) -> None:
        self._head_bytes += length
        if self._head_bytes > LONGEST_HEAD_BYTES:
            self._refuse(refusal)

    def _refuse(self, refusal: HTTPStatus) -> None:
        self._refusal = refusal
        # The parser turns it into its own error, which ends the connection.
        raise ValueError("the head of the request is too long")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """Answer what is no request, and close."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self.transport.close()  # what comes here would stand in the middle of an answer
            return
        body = problem_body(self._refusal, "this is not a request that can be read")
        head = (
            STATUS_LINE[self._refusal],
            b"content-type: application/problem+json\r\n",
            b"content-length: %d\r\n" % len(body),
            b"access-control-allow-origin: *\r\n",
            b"connection: close\r\n\r\n",
        )
        self.transport.write(b"".join((*head, body)))
        # Closed with bytes unread, the connection would be reset and the answer lost.
        self._refused = True
        self.loop.call_later(_LINGER_S, self.transport.close)
