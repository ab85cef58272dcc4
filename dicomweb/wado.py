"""WADO-RS: instances, metadata and frames (PS3.18 §10.4)."""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from archive.dicom.transfer_syntax import EXPLICIT_LITTLE_ENDIAN, transfer_syntax
from archive.errors import InvalidRequestError, NotAcceptableError, NotFoundError
from archive.identity import InstanceRef
from archive.lifecycle.service import describe
from archive.retrieve.values import StoredFrame, StoredInstance
from dicomweb.context import (
    archive_of,
    base_url,
    instance_of,
    instance_url,
    principal_of,
    ref_of,
    resource_of,
)
from dicomweb.multipart import closing, new_boundary, part_header
from dicomweb.negotiation import (
    DICOM,
    MULTIPART,
    NATIVE_AS_STORED,
    OCTETS,
    Choice,
    accepted,
    choose_frames,
    choose_instances,
    part_type,
)
from dicomweb.responses import (
    DICOM_JSON,
    StreamedResponse,
    byte_range,
    not_modified,
)

_IMMUTABLE: Final = "private, max-age=31536000, immutable"
_REVALIDATE: Final = "private, no-cache"
_MOST_FRAMES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an answer.

    Parameters
    ----------
    length
        None where it is known only when it is made.
    """

    content_type: str
    location: str
    length: int | None
    chunks: Callable[[], Iterator[bytes]]


def multipart_response(
    parts: list[Part], kind: str, *, headers: dict[str, str] | None = None
) -> Response:
    """Return parts, one after another; Content-Length when all lengths are known."""
    boundary = new_boundary()
    heads = [
        part_header(boundary, part.content_type, part.location, length=part.length)
        for part in parts
    ]
    end = closing(boundary)
    lengths = [part.length for part in parts]
    total = None
    if None not in lengths:
        total = sum(n for n in lengths if n is not None) + sum(map(len, heads))
        total += 2 * len(parts) + len(end)

    def chunks() -> Iterator[bytes]:
        for head, part in zip(heads, parts, strict=True):
            yield head
            yield from part.chunks()
            yield b"\r\n"
        yield end

    media_type = f'{MULTIPART}; type="{kind}"; boundary={boundary}'
    return StreamedResponse(chunks, media_type=media_type, length=total, headers=headers)


def single_response(request: Request, part: Part, etag: str) -> Response:
    """Return one body, or the byte range of it that is asked for."""
    headers = {
        "ETag": etag,
        "Cache-Control": _REVALIDATE,
        "Accept-Ranges": "bytes",
        "Content-Location": part.location,
    }
    if not_modified(request, etag):
        return Response(status_code=304, headers=headers)
    wanted = byte_range(request, part.length, etag) if part.length else None
    if wanted is None or part.length is None:
        return StreamedResponse(
            part.chunks, media_type=part.content_type, length=part.length, headers=headers
        )
    start, count = wanted
    headers["Content-Range"] = f"bytes {start}-{start + count - 1}/{part.length}"
    return StreamedResponse(
        lambda: _cut(part.chunks(), start, count),
        media_type=part.content_type,
        length=count,
        status_code=206,
        headers=headers,
    )


def _cut(chunks: Iterable[bytes], start: int, count: int) -> Iterator[bytes]:
    for chunk in chunks:
        if start >= len(chunk):
            start -= len(chunk)
            continue
        taken = chunk[start : start + count]
        start = 0
        count -= len(taken)
        yield taken
        if not count:
            return


def strong_etag(*named: object) -> str:
    """Return an entity tag, quotes included, of whatever the representation depends on."""
    joined = "/".join(str(value) for value in named)
    return f'"{hashlib.blake2s(joined.encode(), digest_size=16).hexdigest()}"'


# -- instances ---------------------------------------------------------------------------------


def retrieve_instances(request: Request) -> Response:
    """Return a study, a series or an instance (PS3.18 §10.4.1.1.1)."""
    ref = resource_of(request)
    single_allowed = isinstance(ref, InstanceRef)
    choice = choose_instances(request, single_allowed=single_allowed)
    found = list(archive_of(request).retrieve.instances(principal_of(request), [ref]))
    if not found:
        raise NotFoundError(f"nothing is stored under {describe(ref)}")
    parts = [_instance_part(request, stored, choice) for stored in found]
    if not choice.multipart:
        etag = strong_etag(found[0].digest.hex(), found[0].instance_id, choice)
        return single_response(request, parts[0], etag)
    return multipart_response(parts, DICOM)


def _instance_part(request: Request, stored: StoredInstance, choice: Choice) -> Part:
    archive = archive_of(request)
    location = instance_url(request, ref_of(stored))
    wanted = choice.transfer_syntax_uid
    if wanted in ("*", stored.transfer_syntax_uid) or _only_as_stored(stored, wanted):
        content_type = f"{DICOM}; transfer-syntax={stored.transfer_syntax_uid}"
        return Part(
            content_type,
            location,
            stored.size_bytes,
            partial(archive.retrieve.iter_chunks, stored),
        )
    transcoded = archive.render.transcode_instance(
        principal_of(request), ref_of(stored), wanted
    )
    content_type = f"{DICOM}; transfer-syntax={wanted}"
    return Part(content_type, location, transcoded.length_bytes, transcoded.chunks)


def _only_as_stored(stored: StoredInstance, wanted: str) -> bool:
    """Tell whether nothing else can be made: video is streamed, never made into frames."""
    return (
        wanted == EXPLICIT_LITTLE_ENDIAN and transfer_syntax(stored.transfer_syntax_uid).video
    )


# -- metadata ----------------------------------------------------------------------------------


def retrieve_metadata(request: Request) -> Response:
    """Return the metadata of a study, a series or an instance (PS3.18 §10.4.1.1.2)."""
    media_type = _metadata_type(request)
    ref = resource_of(request)
    archive, principal = archive_of(request), principal_of(request)
    base = base_url(request)
    zipped = "gzip" in request.headers.get("accept-encoding", "").lower()
    change = archive.retrieve.change(principal, ref)
    etag = strong_etag(ref, change, base, media_type, zipped)
    headers = {"ETag": etag, "Cache-Control": _REVALIDATE, "Vary": "Accept, Accept-Encoding"}
    if not_modified(request, etag):
        return Response(status_code=304, headers=headers)
    instances = archive.retrieve.metadata(principal, ref, base_url=base)
    body = _json_array(instances)
    if zipped:
        headers["Content-Encoding"] = "gzip"
        body = _gzipped(body)
    return StreamedResponse(lambda: body, media_type=media_type, headers=headers)


def _metadata_type(request: Request) -> str:
    for wanted in accepted(request):
        for offered in (DICOM_JSON, "application/json"):
            if wanted.covers(offered):
                return offered
        # Some viewers list the type of frames here too, and read JSON all the same.
        if wanted.name == MULTIPART and wanted.part_type == OCTETS:
            return DICOM_JSON
    raise NotAcceptableError(f"metadata is available as {DICOM_JSON}")


def _json_array(instances: Iterator[bytes]) -> Iterator[bytes]:
    yield b"["
    yield next(instances)
    yield from chain.from_iterable((b",", instance) for instance in instances)
    yield b"]"


def _gzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for chunk in chunks:
        if data := compressor.compress(chunk):
            yield data
    yield compressor.flush()


# -- frames ------------------------------------------------------------------------------------


def retrieve_frames(request: Request) -> Response:
    """Return frames of an instance (PS3.18 §10.4.1.1.6)."""
    ref = instance_of(request)
    numbers = _frame_numbers(request.path_params["frames"])
    archive, principal = archive_of(request), principal_of(request)
    stored, frames = archive.retrieve.frames(principal, ref, numbers)
    syntax = transfer_syntax(stored.transfer_syntax_uid)
    choice = choose_frames(request, syntax, single_allowed=len(frames) == 1)
    parts = [_frame_part(request, stored, frame, choice) for frame in frames]
    etag = strong_etag(stored.digest.hex(), numbers, choice)
    if not choice.multipart:
        response = single_response(request, parts[0], etag)
        response.headers["Cache-Control"] = _IMMUTABLE
        return response
    headers = {"ETag": etag, "Cache-Control": _IMMUTABLE, "Vary": "Accept"}
    if not_modified(request, etag):
        return Response(status_code=304, headers=headers)
    kind = transfer_syntax(choice.transfer_syntax_uid).media_type
    return multipart_response(parts, kind, headers=headers)


def _frame_numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidRequestError(
            f"frames {text[:80]!r}: expected numbers from 1, separated by commas"
        ) from error
    if len(numbers) > _MOST_FRAMES or min(numbers) < 1:
        raise InvalidRequestError(
            f"frames {text[:80]!r}: expected 1 to {_MOST_FRAMES} numbers from 1"
        )
    return numbers


def _frame_part(
    request: Request, stored: StoredInstance, frame: StoredFrame, choice: Choice
) -> Part:
    archive = archive_of(request)
    location = f"{instance_url(request, ref_of(stored))}/frames/{frame.frame_number}"
    wanted = choice.transfer_syntax_uid
    if _frame_as_stored(stored, frame, wanted):
        return Part(
            part_type(wanted),
            location,
            frame.length_bytes,
            partial(archive.retrieve.frame_chunks, stored, frame),
        )
    body = archive.render.transcode_frame(
        principal_of(request), ref_of(stored), frame.frame_number, wanted
    )
    return Part(part_type(wanted), location, len(body), lambda: iter((body,)))


def _frame_as_stored(stored: StoredInstance, frame: StoredFrame, wanted: str) -> bool:
    syntax = transfer_syntax(stored.transfer_syntax_uid)
    if syntax.encapsulated:
        return wanted == stored.transfer_syntax_uid
    native = stored.transfer_syntax_uid in NATIVE_AS_STORED or syntax.deflated
    # A frame that begins inside a byte has to be shifted.
    return wanted == EXPLICIT_LITTLE_ENDIAN and native and not frame.bit_offset
