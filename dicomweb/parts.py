"""Retrieved content as it goes out: one body, or the parts of a multipart (PS3.18 §8.6.1)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NamedTuple, Self

from starlette.requests import Request
from starlette.responses import Response

from archive.dicom.part10 import Buffer
from archive.retrieve.reading import cut
from dicomweb.chance import random_name
from dicomweb.conditional import Validators, answered_early, byte_range
from dicomweb.negotiation import MULTIPART
from dicomweb.responses import HeldResponse, StreamedResponse
from dicomweb.sendfile import FileSpan, Piece, in_memory, length_of

IMMUTABLE: Final = "private, max-age=31536000, immutable"
REVALIDATE: Final = "private, no-cache"


class Part(NamedTuple):
    """One part of an answer, or the whole of it.

    A tuple, as its file is: a series has hundreds, and a data class takes five times as long.

    Parameters
    ----------
    content_type
        With its transfer syntax, where it has one.
    location
        Where it can be retrieved by itself.
    length
        None where it is known only when it is made.
    chunks
        Yields the content.
    section
        Yields so many bytes from an offset, where that costs less than skipping.
    body
        The content, where it is in memory already: then no thread has to make it.
    file
        Where the content lies, where that is one stretch of a file.
    """

    content_type: str
    location: str
    length: int | None
    chunks: Callable[[], Iterator[Buffer]]
    section: Callable[[int, int], Iterator[bytes]] | None = None
    body: Buffer | None = None
    file: FileSpan | None = None

    @classmethod
    def held(cls, content_type: str, location: str, body: Buffer) -> Self:
        """Return a part whose content is in memory."""
        return cls(content_type, location, len(body), lambda: iter((bytes(body),)), body=body)

    def cut(self, offset: int, length: int) -> Iterator[Buffer]:
        """Yield ``length`` bytes from ``offset``."""
        if self.section is not None:
            return self.section(offset, length)
        return cut(self.chunks(), offset, length)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an answer of parts says of itself beside them.

    Parameters
    ----------
    validators
        Of the whole.
    cache
        Cache-Control.
    headers
        More headers.
    status
        200, or 206 where parts are missing.
    """

    validators: Validators
    cache: str = REVALIDATE
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = HTTPStatus.OK

    def all_headers(self) -> dict[str, str]:
        """Return every header but those of the body."""
        own = {"Cache-Control": self.cache, "Vary": "Accept", "Accept-Ranges": "none"}
        return own | self.validators.headers() | dict(self.headers)


def multipart_response(
    request: Request, parts: Sequence[Part], kind: str, envelope: Envelope
) -> Response:
    """Return parts, one after another; Content-Length when all lengths are known.

    Parameters
    ----------
    kind
        Media type of the first part, which is the root (RFC 2387).
    """
    return _response(request, lambda: iter(parts), kind, envelope, parts)


def streamed_parts(
    request: Request, parts: Callable[[], Iterator[Part]], kind: str, envelope: Envelope
) -> Response:
    """Return parts that are only made when their turn comes."""
    return _response(request, parts, kind, envelope, None)


def _response(
    request: Request,
    parts: Callable[[], Iterator[Part]],
    kind: str,
    envelope: Envelope,
    known: Sequence[Part] | None,
) -> Response:
    headers = envelope.all_headers()
    early = answered_early(request, envelope.validators, headers)
    if early is not None:
        return early
    boundary = random_name()  # no content holds it
    pieces = None if known is None else _pieces(boundary, known)
    held = None if pieces is None else in_memory(pieces)
    if held is not None:
        return HeldResponse(
            held,
            media_type=_content_type(boundary, kind),
            status_code=envelope.status,
            headers=headers,
        )
    length = None
    if known is not None:
        length = _length(boundary, known) if pieces is None else length_of(pieces)
    return StreamedResponse(
        lambda: _framed(boundary, parts()),
        media_type=_content_type(boundary, kind),
        length=length,
        status_code=envelope.status,
        headers=headers,
        pieces=pieces,
    )


def _pieces(boundary: str, parts: Sequence[Part]) -> list[Piece] | None:
    """Return a body of parts as stretches of files, or memory, and what is between them."""
    pieces: list[Piece] = []
    between = b""
    for part in parts:
        content = part.file if part.body is None else part.body
        if content is None:
            return None
        pieces += (between + _head(boundary, part), content)
        between = b"\r\n"
    return [*pieces, between + _closing(boundary)]


def _length(boundary: str, parts: Sequence[Part]) -> int | None:
    total = len(_closing(boundary))
    for part in parts:
        if part.length is None:
            return None
        total += len(_head(boundary, part)) + part.length + 2
    return total


def part_stream(parts: Iterator[Part], kind: str) -> tuple[str, Iterator[Buffer]]:
    """Return the Content-Type of a multipart, and its body."""
    boundary = random_name()
    return _content_type(boundary, kind), _framed(boundary, parts)


def _content_type(boundary: str, kind: str) -> str:
    return f'{MULTIPART}; type="{kind}"; boundary={boundary}'


def _framed(boundary: str, parts: Iterator[Part]) -> Iterator[Buffer]:
    for part in parts:
        yield _head(boundary, part)
        yield from part.chunks() if part.body is None else (part.body,)
        yield b"\r\n"
    yield _closing(boundary)


def single_response(
    request: Request, part: Part, validators: Validators | str, *, cache: str = REVALIDATE
) -> Response:
    """Return one body, or the byte range of it that is asked for."""
    if isinstance(validators, str):
        validators = Validators(validators)
    headers = {
        "Cache-Control": cache,
        "Vary": "Accept",
        "Accept-Ranges": "none" if part.length is None else "bytes",
        "Content-Location": part.location,
    } | validators.headers()
    early = answered_early(request, validators, headers)
    if early is not None:
        return early
    length = part.length
    wanted = byte_range(request, length, validators) if length is not None else None
    if wanted is None or length is None:
        if part.body is not None:
            return HeldResponse((part.body,), media_type=part.content_type, headers=headers)
        return StreamedResponse(
            part.chunks,
            media_type=part.content_type,
            length=length,
            headers=headers,
            pieces=None if part.file is None else [part.file],
        )
    start, count = wanted
    headers["Content-Range"] = f"bytes {start}-{start + count - 1}/{length}"
    return StreamedResponse(
        lambda: part.cut(start, count),
        media_type=part.content_type,
        length=count,
        status_code=HTTPStatus.PARTIAL_CONTENT,
        headers=headers,
        pieces=None if part.file is None else [part.file.cut(start, count)],
    )


def _head(boundary: str, part: Part) -> bytes:
    """Return what stands before a part's content; viewers read these names to the letter."""
    length = "" if part.length is None else f"Content-Length: {part.length}\r\n"
    head = (
        f"--{boundary}\r\nContent-Type: {part.content_type}\r\n"
        f"{length}Content-Location: {part.location}\r\n\r\n"
    )
    return head.encode("latin-1", "replace")


def _closing(boundary: str) -> bytes:
    """Return what stands behind the last part."""
    return f"--{boundary}--\r\n".encode("ascii")
