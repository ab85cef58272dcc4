"""The body of a store request as it streams in: unpacked, divided, one part at a time."""

import zlib
from collections.abc import AsyncIterator
from typing import Final

import anyio.to_thread
import zstandard
from starlette.requests import Request

from archive.errors import (
    ArchiveError,
    InvalidRequestError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from archive.ingest.growing import Growing
from archive.ingest.incoming import Spool
from dicomweb.accept import MediaType
from dicomweb.context import archive_of
from dicomweb.multipart import Event, MultipartReader, PartBegin, PartData, PartEnd

# A packed body may grow to this many times its size: white images do, bombs grow faster.
_GREATEST_RATIO: Final = 250
_UNPACKED_FREELY_BYTES: Final = 64 * 1024 * 1024
_INFLATED_AT_ONCE: Final = 1 << 20
ENCODINGS: Final = ("gzip", "deflate", "zstd")


class Received:
    """One part being received: in memory, then in a spool on the store's volume.

    Parameters
    ----------
    request
        That it is a part of.
    headers
        Its own, names in lower case.
    """

    def __init__(self, request: Request, headers: dict[str, str]) -> None:
        self.headers = headers
        self._limit = archive_of(request).config.http.max_part_bytes
        self._growing = Growing(archive_of(request).ingest.new_spool)
        self._refusal: ArchiveError | None = None

    async def write(self, data: bytes) -> None:
        """Take some of it; what is refused is read and forgotten."""
        if self._refusal is not None:
            return
        if self._limit and self._growing.size_bytes + len(data) > self._limit:
            self.discard()
            self._refusal = TooLargeError(
                f"larger than the {self._limit} bytes that [http] max_part_bytes allows"
            )
            return
        if self._growing.gather(data):
            try:
                await anyio.to_thread.run_sync(self._growing.flush)
            except ArchiveError as error:
                self.discard()
                self._refusal = error

    async def finish(self) -> memoryview | Spool:
        """Return what was received; raises what it was refused for."""
        if self._refusal is not None:
            raise self._refusal
        if self._growing.in_spool:
            return await anyio.to_thread.run_sync(self._growing.finish)
        return self._growing.finish()

    def discard(self) -> None:
        """Leave nothing of it behind."""
        self._growing.discard()


async def iter_events(request: Request, content_type: MediaType) -> AsyncIterator[Event]:
    """Yield the parts of the body as they come; a body without parts is one.

    Raises
    ------
    InvalidRequestError
        If the body breaks off, or is not what its headers say.
    """
    if content_type.name != "multipart/related":
        yield PartBegin(dict(request.headers))
        async for chunk in _chunks(request):
            yield PartData(chunk)
        yield PartEnd()
        return
    reader = MultipartReader(content_type.parameters.get("boundary", ""))
    async for chunk in _chunks(request):
        for event in reader.feed(chunk):
            yield event
    for event in reader.close():
        yield event


async def iter_parts(request: Request, events: AsyncIterator[Event]) -> AsyncIterator[Received]:
    """Yield each part when it is whole; the taker discards it, one that is not is here."""
    part: Received | None = None
    try:
        async for event in events:
            match event:
                case PartBegin():
                    part = Received(request, event.headers)
                case PartData() if part is not None:
                    await part.write(event.data)
                case PartEnd() if part is not None:
                    whole, part = part, None
                    yield whole
    finally:
        if part is not None:
            part.discard()


# -- Content-Encoding --------------------------------------------------------------------------


def content_codings(request: Request) -> list[str]:
    """Return what the body is packed with, the outermost last (RFC 9110 §8.4).

    Raises
    ------
    UnsupportedMediaTypeError
        If that cannot be unpacked here.
    """
    text = request.headers.get("content-encoding", "").lower()
    codings = [coding.strip().removeprefix("x-") for coding in text.split(",")]
    known = [coding for coding in codings if coding not in ("", "identity")]
    if len(known) > 1 or any(coding not in ENCODINGS for coding in known):
        raise UnsupportedMediaTypeError(
            f"Content-Encoding {text[:80]!r} is not unpacked here; send the body as it is, "
            f"or packed once with one of {', '.join(ENCODINGS)}"
        )
    return known


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    codings = content_codings(request)
    unpacker = _Unpacker(codings[0]) if codings else None
    async for chunk in request.stream():
        if unpacker is None:
            yield chunk
            continue
        unpacker.feed(chunk)
        while piece := await anyio.to_thread.run_sync(unpacker.next_piece):
            yield piece
    if unpacker is not None:
        unpacker.close()


class _Unpacker:
    """Unpacks a body in pieces of bounded size, and no bomb."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._pending = b""
        self._taken = 0
        self._given = 0
        self._ended = True
        self._more = False  # the unpacker holds output back although it has taken all input
        self._zlib = zlib.decompressobj(32 + zlib.MAX_WBITS)
        self._zstd = _zstd_unpacker()

    def feed(self, chunk: bytes) -> None:
        self._taken += len(chunk)
        self._pending += chunk

    def next_piece(self) -> bytes:
        """Return some of what is unpacked; b"" when more has to come in first."""
        try:
            piece = b""
            while (self._pending or self._more) and not piece:
                piece = self._inflate() if self._coding != "zstd" else self._decompress()
        except (zlib.error, zstandard.ZstdError) as error:
            raise InvalidRequestError(
                f"Content-Encoding says {self._coding}, but the body is not: {error}"
            ) from error
        self._given += len(piece)
        if self._given > _UNPACKED_FREELY_BYTES + _GREATEST_RATIO * self._taken:
            raise TooLargeError(
                f"the packed body grows to more than {_GREATEST_RATIO} times its size"
            )
        return piece

    def _inflate(self) -> bytes:
        piece = self._zlib.decompress(self._pending, _INFLATED_AT_ONCE)
        self._more = len(piece) == _INFLATED_AT_ONCE
        self._pending = self._zlib.unconsumed_tail
        self._ended = self._zlib.eof
        if self._zlib.eof:  # gzip may have another member behind the first
            self._pending = self._zlib.unused_data
            self._zlib = zlib.decompressobj(32 + zlib.MAX_WBITS)
        return piece

    def _decompress(self) -> bytes:
        # A zstd frame grows by at most its window a block: small bites keep pieces small.
        bite, self._pending = self._pending[:512], self._pending[512:]
        piece = self._zstd.decompress(bite)
        self._ended = self._zstd.eof
        if self._zstd.eof:
            self._pending = self._zstd.unused_data + self._pending
            self._zstd = _zstd_unpacker()
        return piece

    def close(self) -> None:
        if not self._ended:
            raise InvalidRequestError("the packed body ends too early: it is truncated")


def _zstd_unpacker() -> "zstandard.ZstdDecompressionObj":
    return zstandard.ZstdDecompressor(max_window_size=1 << 23).decompressobj()  # RFC 8878 §3.1
