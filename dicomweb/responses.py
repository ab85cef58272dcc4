"""Answers: JSON, problems, and long bodies whose memory is one chunk."""

import asyncio
import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from archive.dicom.part10 import Buffer
from archive.errors import BusyError, NotAcceptableError, StorageFullError, UnavailableError
from dicomweb.errors import mapped
from dicomweb.sendfile import SENT_KEY, Piece, Wire, is_there

DICOM_JSON: Final = "application/dicom+json"
# Each chunk costs a hop to a thread and back, about 50 us: small ones are gathered.
_CHUNK_BYTES: Final = 512 * 1024
RETRY_AFTER_S: Final = 10
_JOINED_BYTES: Final = 256 * 1024


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
    headers: dict[str, str] = {}
    if isinstance(error, BusyError | StorageFullError | UnavailableError):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, NotAcceptableError):
        headers["Vary"] = "Accept"
        offered = list(error.offered)
        return problem(mapped(error).status, str(error), headers=headers, offered=offered)
    return problem(mapped(error).status, str(error), headers=headers)


class _Headed(Response):
    """An answer whose headers are all given."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Write the headers as they are sent, as the library does: a series asks so often."""
        media_type = self.media_type or ""
        if media_type.startswith("text/"):  # the library adds a character set
            super().init_headers(headers)
            return
        given = {**(headers or {}), "content-type": media_type}
        self.raw_headers = [
            (_header_name(name), value.encode("latin-1")) for name, value in given.items()
        ]


@lru_cache(maxsize=256)
def _header_name(name: str) -> bytes:
    return name.lower().encode("latin-1")


class StreamedResponse(_Headed):
    """A body made while it is sent, by an iterator that blocks.

    When the asker goes away the iterator is closed: nothing more is read or decoded.

    Parameters
    ----------
    chunks
        Makes the iterator; called when the headers are out.
    length
        Content-Length, where it is known: then nothing needs chunked coding.
    pieces
        The same body as spans of files and what stands between them, where it is that.
    """

    def __init__(
        self,
        chunks: Callable[[], Iterator[Buffer]],
        *,
        media_type: str,
        length: int | None = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        pieces: Sequence[Piece] | None = None,
    ) -> None:
        self.status_code, self.media_type = status_code, media_type
        self.background = None
        self._chunks = chunks
        self.pieces = pieces
        self._length = length
        known = {} if length is None else {"content-length": str(length)}
        self.init_headers({**(headers or {}), **known})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; a HEAD request gets the headers alone."""
        if scope["method"] == "HEAD":
            await self._start(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        wire = Wire.of(scope)
        if wire is not None and self.pieces is not None and is_there(self.pieces):
            await self._start(send)
            sent = await wire.send(self.pieces)
            await send({"type": "http.response.body", "body": b"", SENT_KEY: sent})
            return
        gathered = _gathered(self._chunks())
        try:
            # What fails at once decides the status.
            first = await anyio.to_thread.run_sync(next, gathered, None)
            await self._start(send)
            await self._send_body(first, gathered, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(gathered.close)

    async def _start(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )

    async def _send_body(
        self, chunk: Buffer | None, rest: Iterator[Buffer], receive: Receive, send: Send
    ) -> None:
        gone: asyncio.Task[None] | None = None
        sent = 0
        try:
            while chunk is not None:
                sent += len(chunk)
                # A known length saves the hop that would only find the end.
                more = sent != self._length
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
                if not more:
                    return
                gone = gone or asyncio.create_task(_disconnected(receive))
                if gone.done():
                    return
                chunk = await anyio.to_thread.run_sync(next, rest, None)
        finally:
            if gone is not None:
                gone.cancel()
        if self._length not in (None, sent):
            # The connection breaks, so that nobody takes what was sent for the whole.
            raise RuntimeError(f"a body of {self._length} bytes came out as {sent}")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class HeldResponse(_Headed):
    """A body that is in memory already, in one piece or a few; sent without a thread.

    Parameters
    ----------
    pieces
        The body.
    """

    def __init__(
        self,
        pieces: Sequence[Buffer],
        *,
        media_type: str,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code, self.media_type = status_code, media_type
        self.background = None
        self.pieces = pieces
        length = str(sum([len(piece) for piece in pieces]))
        self.init_headers({**(headers or {}), "content-length": length})

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it; a HEAD request gets the headers alone."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        pieces = () if scope["method"] == "HEAD" else self.pieces
        if sum(map(len, pieces)) <= _JOINED_BYTES:
            pieces = (b"".join(pieces),)  # to copy it costs less than to send it in pieces
        for piece in pieces[:-1]:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": pieces[-1], "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _gathered(chunks: Iterator[Buffer]) -> Generator[Buffer]:
    pending: list[Buffer] = []
    size = 0
    with contextlib.ExitStack() as ending:
        if isinstance(chunks, Generator):
            ending.enter_context(contextlib.closing(chunks))
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
