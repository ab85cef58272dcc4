"""WADO-RS: instances as DICOM, one alone, or several in parts or in a zip (PS3.18 §10.4)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from archive.dicom.instance import Attributes
from archive.dicom.transfer_syntax import EXPLICIT_LITTLE_ENDIAN, transfer_syntax
from archive.errors import NotAcceptableError, NotFoundError
from archive.identity import InstanceRef, ResourceRef
from archive.lifecycle.service import describe
from archive.retrieve.values import StoredInstance
from dicomweb.bulkdata import retrieve_all
from dicomweb.conditional import Validators, strong_etag
from dicomweb.context import (
    archive_of,
    base_url,
    instance_url,
    principal_of,
    ref_of,
    resource_of,
    warning,
)
from dicomweb.frames import spooled_part
from dicomweb.inline import is_inline, may_wait
from dicomweb.negotiation import (
    AS_STORED,
    DICOM,
    ZIP,
    Offer,
    choose,
    instance_offers,
    instances_offered,
)
from dicomweb.parts import Envelope, Part, multipart_response, single_response, streamed_parts
from dicomweb.sendfile import file_span
from dicomweb.zipped import wants_directory, zip_response

# More are asked for again when they are sent, so that memory stays what it is.
_MOST_HELD: Final = 2000


def retrieve_instances(request: Request) -> Response:
    """Return a study, a series or an instance (PS3.18 §10.4.1.1.1)."""
    ref = resource_of(request)
    single = isinstance(ref, InstanceRef)
    if not single:
        may_wait(request)
    found = _find(request, ref)

    def make(offer: Offer) -> Response:
        if offer.multipart and offer.media_type != DICOM:
            # Instances as octet-stream are their bulk data (PS3.18 Table 10.4.4-1).
            may_wait(request)
            return retrieve_all(request, ref, pixels_only=False)
        if single:
            return answer_with_instance(request, next(found()), offer)
        return _many(request, ref, found, offer)

    return choose(
        request,
        partial(instance_offers, single_allowed=single),
        make,
        offered=instances_offered(single_allowed=single),
        key=("instances", single),
    )


def _find(request: Request, ref: ResourceRef) -> Callable[[], Iterator[StoredInstance]]:
    retrieve, principal = archive_of(request).retrieve, principal_of(request)
    if isinstance(ref, InstanceRef):
        stored = retrieve.instance(principal, ref)
        return lambda: iter((stored,))
    ask = partial(retrieve.instances, principal, [ref])
    held = list(islice(ask(), _MOST_HELD + 1))
    if not held:
        raise NotFoundError(f"nothing is stored under {describe(ref)}")
    return (lambda: iter(held)) if len(held) <= _MOST_HELD else ask


# -- one instance ------------------------------------------------------------------------------


def answer_with_instance(request: Request, stored: StoredInstance, offer: Offer) -> Response:
    """Answer with one instance.

    Raises
    ------
    NotAcceptableError
        If it cannot be had as ``offer`` says.
    """
    planned = _plan(request, stored, offer, alone=True)
    part = _part(request, stored, planned)
    base = "" if offer.media_type == DICOM and not offer.multipart else base_url(request)
    form = (offer, planned.wanted, wants_directory(request))
    etag = strong_etag(stored.digest.hex(), stored.instance_id, form, base)
    validators = Validators(etag, stored.received_at)
    if offer.media_type == ZIP:
        may_wait(request)
        sizes = [(stored, part.length or 0)]
        envelope = Envelope(validators)
        return zip_response(
            request,
            lambda: iter([(stored, part)]),
            envelope,
            sizes=sizes,
            describe=_describe(request),
        )
    if offer.multipart:
        return multipart_response(request, [part], DICOM, Envelope(validators))
    return single_response(request, part, validators)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How an instance is sent.

    Parameters
    ----------
    wanted
        Transfer syntax to make; "" to send it as stored.
    refusal
        Why it cannot be sent at all.
    else_as_stored
        It may be sent as stored, should making it fail.
    """

    wanted: str = ""
    refusal: str = ""
    else_as_stored: bool = False


def _plan(request: Request, stored: StoredInstance, offer: Offer, *, alone: bool) -> _Plan:
    """Decide without decoding how an instance answers ``offer``.

    Whoever names no transfer syntax gets explicit little endian, except where only a lossy
    compressed form is there that cannot be decoded (PS3.18 §8.7.3). Instances without pixels
    have no other form than that, so it is theirs among images in any syntax.
    """
    wanted = offer.transfer_syntax_uid
    if wanted in (AS_STORED, stored.transfer_syntax_uid):
        return _Plan()
    syntax = transfer_syntax(stored.transfer_syntax_uid)
    lossy = offer.by_default and not syntax.lossless
    # Among others, one that is broken is sent as it is: it must not keep the others back.
    else_as_stored = offer.by_default and (lossy or not alone)
    if not syntax.encapsulated and wanted == EXPLICIT_LITTLE_ENDIAN:
        return _Plan(wanted)
    archive, principal, ref = archive_of(request), principal_of(request), ref_of(stored)
    refusal = archive.render.transcoding_refusal(principal, ref, wanted)
    if not refusal:
        return _Plan(wanted, else_as_stored=else_as_stored)
    if lossy:
        return _Plan()
    if not alone and not _has_pixels(request, stored):
        native = stored.transfer_syntax_uid == EXPLICIT_LITTLE_ENDIAN
        return _Plan("" if native else EXPLICIT_LITTLE_ENDIAN)
    return _Plan(refusal="" if else_as_stored else refusal)


def _has_pixels(request: Request, stored: StoredInstance) -> bool:
    try:
        found = archive_of(request).retrieve.described(principal_of(request), ref_of(stored))
    except NotFoundError:
        return False
    return found.table is not None


def _part(request: Request, stored: StoredInstance, planned: _Plan) -> Part:
    """Return an instance; what it takes to know that this succeeds has been done.

    Raises
    ------
    NotAcceptableError
        If it cannot be had as planned.
    """
    if planned.refusal:
        raise NotAcceptableError(planned.refusal)
    if not planned.wanted:
        return _stored_part(request, stored)
    may_wait(request)
    location = instance_url(request, ref_of(stored))
    content_type = f"{DICOM}; transfer-syntax={planned.wanted}"
    try:
        made = archive_of(request).render.transcode_instance(
            principal_of(request), ref_of(stored), planned.wanted
        )
        coded = transfer_syntax(planned.wanted).encapsulated
        if coded or transfer_syntax(stored.transfer_syntax_uid).encapsulated:
            # Any frame may turn out to be broken: not after a status of 200.
            return spooled_part(content_type, location, made.chunks())
    except NotAcceptableError:
        if not planned.else_as_stored:
            raise
        return _stored_part(request, stored)
    return Part(content_type, location, made.length_bytes, made.chunks)


def _stored_part(request: Request, stored: StoredInstance) -> Part:
    retrieve = archive_of(request).retrieve
    content_type = f"{DICOM}; transfer-syntax={stored.transfer_syntax_uid}"
    location = instance_url(request, ref_of(stored))
    file = file_span(retrieve.path_of(stored), 0, stored.size_bytes)
    if file is None and is_inline(request):
        body = retrieve.read_now(stored, ((0, stored.size_bytes),))
        if body is not None:
            return Part.held(content_type, location, body)
    read = partial(retrieve.iter_chunks, stored)
    return Part(
        content_type,
        location,
        stored.size_bytes,
        read,
        lambda offset, length: read(offset=offset, length=length),
        file=file,
    )


# -- a study or a series -----------------------------------------------------------------------


def _many(
    request: Request,
    ref: ResourceRef,
    found: Callable[[], Iterator[StoredInstance]],
    offer: Offer,
) -> Response:
    """Return those instances that can be had as ``offer`` says; 206 when these are not all."""
    total, refused, reason, as_stored = 0, 0, "", True
    for stored in found():
        planned = _plan(request, stored, offer, alone=False)
        total += 1
        if planned.refusal:
            refused += 1
            reason = planned.refusal
        as_stored = as_stored and not planned.wanted and not planned.refusal
    if refused == total:
        raise NotAcceptableError(reason)

    def parts() -> Iterator[tuple[StoredInstance, Part]]:
        for stored in found():
            planned = _plan(request, stored, offer, alone=False)
            if not planned.refusal:
                yield stored, _part(request, stored, planned)

    envelope = _envelope(request, ref, offer, total, refused)
    known = as_stored and total <= _MOST_HELD
    if offer.media_type == ZIP:
        sizes = [(stored, stored.size_bytes) for stored in found()] if known else None
        return zip_response(request, parts, envelope, sizes=sizes, describe=_describe(request))
    if known:
        return multipart_response(request, [part for _, part in parts()], DICOM, envelope)
    return streamed_parts(request, lambda: (part for _, part in parts()), DICOM, envelope)


def _describe(request: Request) -> Callable[[StoredInstance], Attributes] | None:
    if not wants_directory(request):
        return None
    archive, principal = archive_of(request), principal_of(request)
    return lambda stored: archive.retrieve.attributes(principal, ref_of(stored))


def _envelope(
    request: Request, ref: ResourceRef, offer: Offer, total: int, refused: int
) -> Envelope:
    state = archive_of(request).retrieve.state(principal_of(request), ref)
    form = (offer, wants_directory(request))
    etag = strong_etag(ref, state.change, form, base_url(request))
    validators = Validators(etag, state.modified)
    if not refused:
        return Envelope(validators)
    text = f"{refused} of {total} instances are not available in this form"
    told = {"Warning": warning(request, text)}
    return Envelope(validators, headers=told, status=HTTPStatus.PARTIAL_CONTENT)
