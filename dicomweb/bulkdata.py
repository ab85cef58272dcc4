"""WADO-RS: bulk data and pixel data (PS3.18 §10.4.1.1.4, §10.4.1.1.5)."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from itertools import chain
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from archive.dicom.attributes import resolve_attribute
from archive.dicom.transfer_syntax import EXPLICIT_LITTLE_ENDIAN, transfer_syntax
from archive.errors import NotAcceptableError, NotFoundError
from archive.identity import InstanceRef, ResourceRef
from archive.lifecycle.service import describe
from archive.retrieve.service import PIXEL_DATA
from archive.retrieve.values import StoredBulk
from dicomweb.accept import MediaType
from dicomweb.conditional import Validators, strong_etag
from dicomweb.context import (
    archive_of,
    base_url,
    instance_of,
    instance_url,
    principal_of,
    ref_of,
    resource_of,
    warning,
)
from dicomweb.frames import frame_parts
from dicomweb.negotiation import (
    MULTIPART,
    OCTETS,
    Offer,
    accepted,
    choose,
    frame_offers,
    frames_offered,
    part_kind,
)
from dicomweb.parts import Envelope, Part, multipart_response, single_response, streamed_parts

_ITEM: Final = re.compile(r"[0-9]{1,7}")
_SEPARATOR: Final = re.compile(r"[/.]")


def retrieve_bulk_data(request: Request) -> Response:
    """Return one bulk value, the path of which its BulkDataURI ends in."""
    path = _bulk_path(request.path_params["path"])
    bulk = archive_of(request).retrieve.bulk_data(
        principal_of(request), instance_of(request), path
    )
    return _value_response(request, bulk, parts_first=False)


def retrieve_pixel_data(request: Request) -> Response:
    """Return the pixel data of a study, a series or an instance."""
    ref = resource_of(request)
    if not isinstance(ref, InstanceRef):
        return retrieve_all(request, ref, pixels_only=True)
    retrieve, principal = archive_of(request).retrieve, principal_of(request)
    bulk = next(retrieve.bulk_values(principal, ref, pixels_only=True), None)
    if bulk is None:
        raise NotFoundError(f"{describe(ref)} has no pixel data")
    return _value_response(request, bulk, parts_first=True)


def retrieve_all_bulk_data(request: Request) -> Response:
    """Return every bulk value of a study, a series or an instance."""
    return retrieve_all(request, resource_of(request), pixels_only=False)


def _bulk_path(text: str) -> str:
    """Return the path of a bulk value as the archive writes it.

    Tags or keywords and item numbers from 0, divided by slashes or dots.
    """
    steps = []
    for step in _SEPARATOR.split(text.strip("/")):
        attribute = None if _ITEM.fullmatch(step) else resolve_attribute(step)
        steps.append(attribute.tag if attribute else step.upper())
    return "/".join(steps)


# -- one value ---------------------------------------------------------------------------------


def _value_response(request: Request, bulk: StoredBulk, *, parts_first: bool) -> Response:
    syntax = transfer_syntax(bulk.stored.transfer_syntax_uid)
    pixels = _has_frames(bulk)

    def candidates(range_: MediaType) -> list[Offer]:
        if pixels:
            offers = frame_offers(range_, syntax, single_allowed=True)
        else:
            offers = _plain_offers(range_, bulk)
        # One body for whoever does not mind (PS3.18 §8.7.3.3).
        return sorted(offers, key=lambda offer: offer.multipart is not parts_first)

    def make(offer: Offer) -> Response:
        parts = _pixel_parts(request, bulk, offer) if pixels else [_part(request, bulk, offer)]
        validators = _validators(request, bulk, offer)
        if offer.multipart:
            return multipart_response(request, parts, offer.media_type, Envelope(validators))
        if len(parts) > 1:
            raise NotAcceptableError(
                f"{len(parts)} compressed frames are no single {offer.media_type}"
            )
        return single_response(request, parts[0], validators)

    if pixels:
        offered = frames_offered(syntax, single_allowed=True)
    else:
        offered = [f'{MULTIPART}; type="{bulk.media_type}"', bulk.media_type, OCTETS]
    return choose(request, candidates, make, offered=offered)


def _validators(request: Request, bulk: StoredBulk, offer: Offer) -> Validators:
    base = base_url(request) if offer.multipart else ""
    etag = strong_etag(bulk.stored.digest.hex(), bulk.path, offer, base)
    return Validators(etag, bulk.stored.received_at)


def _has_frames(bulk: StoredBulk) -> bool:
    if bulk.path not in PIXEL_DATA:
        return False
    encapsulated = transfer_syntax(bulk.stored.transfer_syntax_uid).encapsulated
    return bulk.number_of_frames > 0 or not encapsulated


def _plain_offers(range_: MediaType, bulk: StoredBulk) -> list[Offer]:
    """Return what answers ``range_`` for a value that is no pixel data."""
    if set(range_.transfer_syntaxes) - {"*", bulk.transfer_syntax_uid}:
        return []
    offers = [
        Offer(False, name, _syntax_of(bulk, name))
        for name in dict.fromkeys((bulk.media_type, OCTETS))
        if range_.covers(name)
    ]
    if range_.covers(MULTIPART):
        kind = MediaType(part_kind(range_))
        if kind.covers(bulk.media_type) or kind.covers(OCTETS):
            offers.append(Offer(True, bulk.media_type, _syntax_of(bulk, bulk.media_type)))
    return offers


def _syntax_of(bulk: StoredBulk, media_type: str) -> str:
    # A document has its own encoding: no transfer syntax says anything of it.
    return bulk.transfer_syntax_uid if media_type == bulk.media_type == OCTETS else ""


def _part(request: Request, bulk: StoredBulk, offer: Offer) -> Part:
    read = partial(archive_of(request).retrieve.bulk_chunks, bulk)
    return Part(
        offer.content_type,
        _location(request, bulk),
        bulk.length_bytes,
        read,
        lambda offset, length: read(offset=offset, length=length),
    )


def _location(request: Request, bulk: StoredBulk) -> str:
    return f"{instance_url(request, ref_of(bulk.stored))}/bulkdata/{bulk.path}"


def _pixel_parts(request: Request, bulk: StoredBulk, offer: Offer) -> list[Part]:
    """Return pixel data: native all in one, compressed a part for each frame (§8.7.3.3)."""
    syntax = transfer_syntax(bulk.stored.transfer_syntax_uid)
    wanted = offer.transfer_syntax_uid
    if wanted == syntax.uid and syntax.encapsulated and bulk.number_of_frames == 1:
        return [_part(request, bulk, offer)]
    if wanted == EXPLICIT_LITTLE_ENDIAN and not syntax.encapsulated:
        return [_part(request, bulk, offer)]
    archive, principal, ref = archive_of(request), principal_of(request), ref_of(bulk.stored)
    table = archive.retrieve.described(principal, ref).table
    numbers = range(1, table.number_of_frames + 1) if table else (1,)
    _, frames = archive.retrieve.frames(principal, ref, numbers)
    parts = frame_parts(request, bulk.stored, frames, offer)
    if wanted != EXPLICIT_LITTLE_ENDIAN:
        return parts
    lengths = [part.length for part in parts]
    total = None if None in lengths else sum(length or 0 for length in lengths)
    return [
        Part(
            offer.content_type,
            _location(request, bulk),
            total,
            lambda: chain.from_iterable(part.chunks() for part in parts),
        )
    ]


# -- all of a resource -------------------------------------------------------------------------


def retrieve_all(request: Request, ref: ResourceRef, *, pixels_only: bool) -> Response:
    """Return, as parts, what bulk data of ``ref`` can be had in an accepted media type.

    Raises
    ------
    NotFoundError
        If there is nothing to see, or it has no bulk data.
    NotAcceptableError
        If there is bulk data, and none of it can be had so.
    """
    archive, principal = archive_of(request), principal_of(request)
    values = partial(archive.retrieve.bulk_values, principal, ref, pixels_only=pixels_only)
    if next(values(), None) is None:
        raise NotFoundError(f"{describe(ref)} has no bulk data")
    state = archive.retrieve.state(principal, ref)
    for range_ in accepted(request):
        if not range_.covers(MULTIPART):
            continue
        first = next(_parts(request, values, range_), None)
        if first is not None:
            etag = strong_etag(ref, state.change, pixels_only, range_, base_url(request))
            kind = first.content_type.partition(";")[0]
            envelope = _envelope(request, values, range_, Validators(etag, state.modified))
            return streamed_parts(
                request, partial(_parts, request, values, range_), kind, envelope
            )
    offered = [f'{MULTIPART}; type="{OCTETS}"', f"{MULTIPART}; transfer-syntax=*"]
    raise NotAcceptableError(f"available: {', '.join(offered)}", offered=offered)


def _envelope(
    request: Request,
    values: Callable[[], Iterator[StoredBulk]],
    range_: MediaType,
    validators: Validators,
) -> Envelope:
    """Say 206 where some values cannot be had so (PS3.18 Table 10.4.3-2)."""
    total, missing = 0, 0
    for bulk in values():
        total += 1
        missing += not _can_be_had(request, bulk, range_)
    if not missing:
        return Envelope(validators)
    text = f"{missing} of {total} values are not available in this form"
    told = {"Warning": warning(request, text)}
    return Envelope(validators, headers=told, status=HTTPStatus.PARTIAL_CONTENT)


def _can_be_had(request: Request, bulk: StoredBulk, range_: MediaType) -> bool:
    if not _has_frames(bulk):
        return any(offer.multipart for offer in _plain_offers(range_, bulk))
    syntax = transfer_syntax(bulk.stored.transfer_syntax_uid)
    return any(
        not _refused(request, bulk, offer.transfer_syntax_uid)
        for offer in frame_offers(range_, syntax, single_allowed=False)
    )


def _parts(
    request: Request, values: Callable[[], Iterator[StoredBulk]], range_: MediaType
) -> Iterator[Part]:
    for bulk in values():
        if not _has_frames(bulk):
            offers = [offer for offer in _plain_offers(range_, bulk) if offer.multipart]
            if offers:
                yield _part(request, bulk, offers[0])
            continue
        syntax = transfer_syntax(bulk.stored.transfer_syntax_uid)
        for offer in frame_offers(range_, syntax, single_allowed=False):
            parts = _made(request, bulk, offer)
            if parts:
                yield from parts
                break


def _made(request: Request, bulk: StoredBulk, offer: Offer) -> list[Part]:
    """Return pixel data as ``offer`` says; nothing where that cannot be done."""
    if _refused(request, bulk, offer.transfer_syntax_uid):
        return []
    try:
        return _pixel_parts(request, bulk, offer)
    except NotAcceptableError:
        return []


def _refused(request: Request, bulk: StoredBulk, wanted: str) -> bool:
    stored = bulk.stored.transfer_syntax_uid
    if wanted == stored or (wanted == EXPLICIT_LITTLE_ENDIAN and not bulk.number_of_frames):
        return False
    render = archive_of(request).render
    return bool(render.transcoding_refusal(principal_of(request), ref_of(bulk.stored), wanted))
