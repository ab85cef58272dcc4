"""HTTP/1.1 as uvicorn speaks it, with a bound on the head of a request."""

import asyncio
import socket
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from dicomweb.express import Express
from dicomweb.ready import Ready
from dicomweb.responses import problem_body
from dicomweb.sendfile import Wire

LONGEST_HEAD_BYTES: Final = 192 * 1024
# The parser's own positions in a URL have 16 bits.
_LONGEST_TARGET_BYTES: Final = 65_535
_LINGER_S: Final = 0.5


class _Answered:
    """Stands for a request whose answer is written: uvicorn asks it whether it is done."""

    response_complete = True
    message_event = asyncio.Event()


_ANSWERED: Final[Any] = _Answered()


class BoundedProtocol(HttpToolsProtocol):
    """Refuses what is no request, or has no end, in the words of every other error."""

    _head_bytes = 0
    _refused = False
    _refusal = HTTPStatus.BAD_REQUEST
    # The loop's socket, to send to without its buffers; made when it is first needed.
    _socket: socket.socket | None = None
    # Since when the peer may take its time, by the clock of the loop; None while it asks.
    _idle_since: float | None = None
    # One timer for many requests: to set it and take it back costs as much as to read a head.
    _idle_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Read on, unless what came before was refused."""
        self._idle_since = None
        if not self._refused:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the request target."""
        self._head_bytes += len(url)
        if len(self.url) + len(url) > _LONGEST_TARGET_BYTES:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > LONGEST_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Read ``OPTIONS *`` as a question about the whole server (RFC 9110 §9.3.7)."""
        if self.url == b"*":
            self.url = b"/"
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            if self.transport.is_closing():
                self.cycle = _ANSWERED  # nobody is there to answer
                return
            if self._answered_at_once():
                return
        self._idle_since = None  # behind what was answered at once, in the same piece
        super().on_headers_complete()
        if self.cycle is not None:
            scope: Any = self.cycle.scope
            Wire(self.cycle).offer(scope)

    def _answered_at_once(self) -> bool:
        """Answer here and now, where nothing is before it and nothing has to be waited for."""
        version = self.parser.get_http_version()
        if self.parser.get_method() != b"GET" or not self._is_free():
            return False
        express: Express = self.config.loaded_app.state.express
        scope: Any = self.scope
        scope["http_version"] = version
        keep_alive = version != "1.0" and self.parser.should_keep_alive()
        first = self.server_state.default_headers if keep_alive else self._last_headers()
        ready = express.answer(scope, self.url, first)
        if ready is None:
            return False
        self.cycle = _ANSWERED
        self._send(ready)
        self.server_state.total_requests += 1
        if keep_alive:
            self._rest()
        else:
            self.transport.close()
        return True

    def _rest(self) -> None:
        """Wait for the next request, as long as uvicorn waits."""
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._rested)

    def _rested(self) -> None:
        self._idle_timer = None
        # Where a request came meanwhile, whoever answers it begins anew.
        if self._idle_since is None or self.transport.is_closing():
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._rested)
        else:
            self.transport.close()

    def _last_headers(self) -> list[tuple[bytes, bytes]]:
        return [*self.server_state.default_headers, (b"connection", b"close")]

    def _is_free(self) -> bool:
        """Tell whether what is written now is the next that the peer reads, and reads soon."""
        most = self.limit_concurrency
        crowded = most is not None and len(self.connections) >= most
        return not (crowded or self.transport.get_write_buffer_size())

    def _send(self, ready: Ready) -> None:
        if self._socket is None:
            number = self.transport.get_extra_info("socket").fileno()
            self._socket = socket.socket(fileno=number)
        try:
            rest = ready.send(self._socket)
            if rest:
                self.transport.writelines(rest)
        except OSError:
            self.transport.abort()  # half an answer must not look whole
        finally:
            ready.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the socket, which is the loop's to close."""
        if self._socket is not None:
            self._socket.detach()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

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
