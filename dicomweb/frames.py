"""WADO-RS: frames, as they are stored or transcoded (PS3.18 §10.4.1.1.6)."""

import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import IO, Final

from starlette.requests import Request
from starlette.responses import Response

from archive.dicom.transfer_syntax import (
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    transfer_syntax,
)
from archive.errors import InvalidRequestError
from archive.retrieve.reading import CHUNK_BYTES
from archive.retrieve.values import StoredFrame, StoredInstance
from dicomweb.conditional import Validators, strong_etag
from dicomweb.context import (
    archive_of,
    base_url,
    instance_of,
    instance_url,
    principal_of,
    ref_of,
)
from dicomweb.inline import is_inline, may_wait
from dicomweb.negotiation import Offer, choose, frame_offers, frames_offered
from dicomweb.parts import IMMUTABLE, Envelope, Part, multipart_response, single_response
from dicomweb.sendfile import file_span

_MOST_FRAMES: Final = 100_000
_IN_MEMORY_BYTES: Final = 16 << 20
# Beyond this, frames are transcoded while they are sent: the disk is not filled for them.
_MOST_SPOOLED_BYTES: Final = 512 << 20
# Frames of these are sent in explicit little endian: the bytes differ only for big endian.
_NATIVE_AS_STORED: Final = frozenset({EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN})


def retrieve_frames(request: Request) -> Response:
    """Return frames of an instance, in the order asked, as often as asked."""
    ref = instance_of(request)
    numbers = frame_numbers(request.path_params["frames"])
    stored, frames = archive_of(request).retrieve.frames(principal_of(request), ref, numbers)
    syntax = transfer_syntax(stored.transfer_syntax_uid)
    single = len(frames) == 1

    def make(offer: Offer) -> Response:
        parts = frame_parts(request, stored, frames, offer)
        base = base_url(request) if offer.multipart else ""
        etag = strong_etag(stored.digest.hex(), numbers, offer, base)
        validators = Validators(etag, stored.received_at)
        if not offer.multipart:
            return single_response(request, parts[0], validators, cache=IMMUTABLE)
        envelope = Envelope(validators, cache=IMMUTABLE)
        return multipart_response(request, parts, offer.media_type, envelope)

    return choose(
        request,
        partial(frame_offers, stored=syntax, single_allowed=single),
        make,
        offered=frames_offered(syntax, single_allowed=single),
        prefer=lambda offer: offer.transfer_syntax_uid == stored.transfer_syntax_uid,
        key=("frames", syntax.uid, single),
    )


def frame_numbers(text: str) -> list[int]:
    """Read the frames of a path: numbers from 1 with commas between.

    Raises
    ------
    InvalidRequestError
        If it holds anything else, or too many.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in parts):
        raise InvalidRequestError(
            f"frames {text[:80]!r}: expected numbers from 1, separated by commas"
        )
    numbers = [int(part) for part in parts]
    if len(numbers) > _MOST_FRAMES or min(numbers) < 1:
        raise InvalidRequestError(
            f"frames {text[:80]!r}: expected 1 to {_MOST_FRAMES} numbers from 1"
        )
    return numbers


def frame_parts(
    request: Request, stored: StoredInstance, frames: Sequence[StoredFrame], offer: Offer
) -> list[Part]:
    """Return frames in the transfer syntax of ``offer``.

    What has to be transcoded is transcoded here, so that a failure decides the status; only
    when it is more than a disk should hold, the rest is made while it is sent.

    Raises
    ------
    NotAcceptableError
        If a frame cannot be had so.
    """
    spool = _Spool()
    held = 0
    parts: list[Part] = []
    for frame in frames:
        location = f"{instance_url(request, ref_of(stored))}/frames/{frame.frame_number}"
        if _as_stored(stored, frame, offer.transfer_syntax_uid):
            parts.append(_stored_part(request, stored, frame, offer, location))
            continue
        render = archive_of(request).render
        made = render.kept_frame(stored, frame.frame_number, offer.transfer_syntax_uid)
        if made is None:
            may_wait(request)
        make = partial(
            render.transcode_frame,
            principal_of(request),
            ref_of(stored),
            frame.frame_number,
            offer.transfer_syntax_uid,
        )
        if spool.size >= _MOST_SPOOLED_BYTES:
            parts.append(Part(offer.content_type, location, None, partial(_once, make)))
            continue
        frame_bytes = made or make()
        held += len(frame_bytes)
        if held <= _IN_MEMORY_BYTES:
            parts.append(Part.held(offer.content_type, location, frame_bytes))
        else:
            parts.append(spool.part(offer.content_type, location, frame_bytes))
    return parts


def _once(make: Callable[[], bytes]) -> Iterator[bytes]:
    yield make()


def _stored_part(
    request: Request, stored: StoredInstance, frame: StoredFrame, offer: Offer, location: str
) -> Part:
    retrieve = archive_of(request).retrieve
    read = partial(retrieve.frame_chunks, stored, frame)
    file = None
    if len(frame.spans) == 1 and not frame.inflated:
        file = file_span(retrieve.path_of(stored), *frame.spans[0])
    if file is None and is_inline(request) and not frame.inflated:
        body = retrieve.read_now(stored, frame.spans)
        if body is not None:
            return Part.held(offer.content_type, location, body)
    return Part(
        offer.content_type,
        location,
        frame.length_bytes,
        read,
        lambda offset, length: read(offset=offset, length=length),
        file=file,
    )


def _as_stored(stored: StoredInstance, frame: StoredFrame, wanted: str) -> bool:
    syntax = transfer_syntax(stored.transfer_syntax_uid)
    if syntax.encapsulated:
        return wanted == stored.transfer_syntax_uid
    native = stored.transfer_syntax_uid in _NATIVE_AS_STORED or syntax.deflated
    # A frame that begins inside a byte has to be shifted, one that ends inside it cut.
    return wanted == EXPLICIT_LITTLE_ENDIAN and native and frame.whole_bytes


class _Spool:
    """What was made, in memory while it is little and in a nameless file when it is not."""

    def __init__(self) -> None:
        self.size = 0

    @cached_property
    def _file(self) -> IO[bytes]:
        file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - see below
        # It lasts as long as the parts that read from it.
        weakref.finalize(self, file.close)
        return file

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        self._file.seek(self.size)
        self._file.write(data)
        self.size += len(data)

    def read(self, offset: int, length: int) -> Iterator[bytes]:
        """Yield ``length`` bytes from ``offset``."""
        while length:
            self._file.seek(offset)
            data = self._file.read(min(length, CHUNK_BYTES))
            offset += len(data)
            length -= len(data)
            yield data

    def part(self, content_type: str, location: str, data: bytes) -> Part:
        """Keep ``data``; return it as a part."""
        start = self.size
        self.write(data)
        return self.kept(content_type, location, start)

    def kept(self, content_type: str, location: str, start: int) -> Part:
        """Return what was written from ``start`` as a part."""
        length = self.size - start
        return Part(
            content_type,
            location,
            length,
            lambda: self.read(start, length),
            lambda offset, count: self.read(start + offset, count),
        )


def spooled_part(content_type: str, location: str, chunks: Iterator[bytes]) -> Part:
    """Return ``chunks`` as a part whose length is known, since all of it has been made."""
    spool = _Spool()
    for chunk in chunks:
        spool.write(chunk)
    return spool.kept(content_type, location, 0)
