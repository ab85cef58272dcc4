"""Answers: JSON, problems, and long bodies whose memory is one chunk."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from archive.errors import BusyError, StorageFullError, UnavailableError
from dicomweb.errors import mapped

DICOM_JSON: Final = "application/dicom+json"
# Each chunk costs a hop to a thread and back, about 50 us: small ones are gathered.
_CHUNK_BYTES: Final = 512 * 1024
_END: Final = object()
RETRY_AFTER_S: Final = 10


class JsonResponse(Response):
    """DICOM JSON, or plain JSON."""

    media_type = DICOM_JSON

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - anything JSON
        """Encode ``content``."""
        return content if isinstance(content, bytes) else orjson.dumps(content)


def problem(
    status: int,
    detail: str,
    *,
    title: str | None = None,
    headers: Mapping[str, str] | None = None,
    **members: object,
) -> Response:
    """Return an error as problem+json (RFC 9457)."""
    return Response(
        problem_body(status, detail, title=title, **members),
        status_code=status,
        media_type="application/problem+json",
        headers=dict(headers or {}),
    )


def problem_body(
    status: int, detail: str, *, title: str | None = None, **members: object
) -> bytes:
    """Return the body of a problem+json (RFC 9457 §3)."""
    body = {
        "type": "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        **members,
    }
    return orjson.dumps(body)


def error_response(_request: Request, error: Exception) -> Response:
    """Return what an `ArchiveError` is over HTTP."""
    headers = {}
    if isinstance(error, BusyError | StorageFullError | UnavailableError):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return problem(mapped(error).status, str(error), headers=headers)


class StreamedResponse(Response):
    """A body made while it is sent, by an iterator that blocks.

    Parameters
    ----------
    chunks
        Makes the iterator; called when the headers are out.
    length
        Content-Length, where it is known: then nothing needs chunked coding.
    """

    def __init__(
        self,
        chunks: Callable[[], Iterator[bytes]],
        *,
        media_type: str,
        length: int | None = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            status_code=status_code, media_type=media_type, headers=dict(headers or {})
        )
        self._chunks = chunks
        del self.headers["content-length"]
        if length is not None:
            self.headers["content-length"] = str(length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send it; a HEAD request gets the headers alone."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        if scope["method"] != "HEAD":
            gathered = _gathered(self._chunks())
            while (chunk := await anyio.to_thread.run_sync(next, gathered, _END)) is not _END:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    pending: list[bytes] = []
    size = 0
    for chunk in chunks:
        pending.append(chunk)
        size += len(chunk)
        if size >= _CHUNK_BYTES:
            yield pending[0] if len(pending) == 1 else b"".join(pending)
            pending, size = [], 0
    if pending:
        yield b"".join(pending)


def not_modified(request: Request, etag: str) -> bool:
    """Tell whether the asker holds this representation already (RFC 9110 §13.1.2)."""
    asked = request.headers.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
    return etag in tags or "*" in tags


def byte_range(request: Request, length: int, etag: str) -> tuple[int, int] | None:
    """Return the single byte range that is asked for: first byte and count (RFC 9110 §14.2).

    None when the whole is to be sent: no range, several, a stale If-Range, or nonsense.

    Raises
    ------
    RangeError
        If nothing of it is there.
    """
    asked = request.headers.get("range", "")
    if not asked.startswith("bytes=") or "," in asked:
        return None
    if request.headers.get("if-range", etag) != etag:
        return None
    first, _, last = asked.removeprefix("bytes=").partition("-")
    try:
        if not first:
            count = min(int(last), length)
            start, end = length - count, length - 1
        else:
            start = int(first)
            end = min(int(last), length - 1) if last else length - 1
    except ValueError:
        return None
    if start >= length or start > end:
        raise RangeError(length)
    return start, end - start + 1


class RangeError(Exception):
    """A range that lies outside the representation (416)."""

    def __init__(self, length: int) -> None:
        super().__init__(f"the representation has {length} bytes")
        self.length = length


def range_response(_request: Request, error: Exception) -> Response:
    """Return 416 with the length there is."""
    length = error.length if isinstance(error, RangeError) else 0
    return problem(
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        str(error),
        headers={"Content-Range": f"bytes */{length}"},
    )
