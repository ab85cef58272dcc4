"""WADO-RS: metadata as JSON and XML (PS3.18 §10.4.1.1.2, §8.7.3.2)."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from archive.dicom.xml_writer import encode_xml
from archive.identity import InstanceRef
from dicomweb.accept import MediaType
from dicomweb.conditional import Validators, answered_early, strong_etag
from dicomweb.context import archive_of, base_url, principal_of, resource_of
from dicomweb.encoding import choose_coding, encoded
from dicomweb.inline import may_wait
from dicomweb.metadata_cache import MetadataCache, gathered
from dicomweb.negotiation import MULTIPART, OCTETS, Offer, choose, part_kind
from dicomweb.parts import REVALIDATE, Part, part_stream
from dicomweb.responses import DICOM_JSON, HeldResponse, StreamedResponse

DICOM_XML: Final = "application/dicom+xml"
_UIDS: Final = ("0020000D", "0020000E", "00080018")
_JSON: Final = (DICOM_JSON, "application/json")


def retrieve_metadata(request: Request) -> Response:
    """Return the metadata of a study, a series or an instance."""
    ref = resource_of(request)
    single = isinstance(ref, InstanceRef)
    offered = [DICOM_JSON, "application/json", f'{MULTIPART}; type="{DICOM_XML}"']
    return choose(
        request,
        partial(metadata_offers, single_allowed=single),
        partial(_answer, request),
        offered=offered + [DICOM_XML] * single,
        key=("metadata", single),
    )


def metadata_offers(range_: MediaType, *, single_allowed: bool) -> list[Offer]:
    """Return what answers ``range_``: JSON is one document, XML one for each instance."""
    offers = [Offer(False, name) for name in _JSON if range_.covers(name)]
    if range_.covers(MULTIPART):
        kind = MediaType(part_kind(range_))
        if kind.covers(DICOM_XML):
            offers.append(Offer(True, DICOM_XML))
        elif kind.name in (OCTETS, *_JSON):
            # Some viewers list the type of frames here too, and read JSON all the same.
            offers.append(Offer(False, DICOM_JSON))
    if single_allowed and range_.covers(DICOM_XML):
        offers.append(Offer(False, DICOM_XML))
    return offers


def _answer(request: Request, offer: Offer) -> Response:
    ref, base = resource_of(request), base_url(request)
    archive, principal = archive_of(request), principal_of(request)
    state = archive.retrieve.state(principal, ref)
    coding = choose_coding(request)
    validators = Validators(strong_etag(ref, state.change, base, offer, coding), state.modified)
    headers = {"Cache-Control": REVALIDATE, "Vary": "Accept, Accept-Encoding"}
    headers |= validators.headers()
    early = answered_early(request, validators, headers)
    if early is not None:
        return early
    cache: MetadataCache = request.app.state.metadata
    key = (ref, principal.scope, base, state.change, offer, coding)
    held = cache.get(key) if not offer.multipart else None
    if coding:
        headers["Content-Encoding"] = coding
    if held is not None:
        return HeldResponse((held,), media_type=offer.media_type, headers=headers)
    may_wait(request)
    instances = archive.retrieve.metadata(principal, ref, base_url=base)
    media_type = offer.media_type
    if offer.multipart:
        media_type, body = part_stream(_documents(instances, base), DICOM_XML)
    elif offer.media_type == DICOM_XML:
        body = (encode_xml(orjson.loads(instance)) for instance in instances)
    else:
        body = _json_array(instances)
    if coding:
        body = encoded(body, coding)
    if not offer.multipart:
        whole, body = gathered(body)
        if whole is not None:
            cache.put(key, whole)
            return HeldResponse((whole,), media_type=media_type, headers=headers)
    return StreamedResponse(lambda: body, media_type=media_type, headers=headers)


def _json_array(instances: Iterator[bytes]) -> Iterator[bytes]:
    yield b"["
    yield next(instances)
    yield from chain.from_iterable((b",", instance) for instance in instances)
    yield b"]"


def _documents(instances: Iterator[bytes], base: str) -> Iterator[Part]:
    for instance in instances:
        attributes = orjson.loads(instance)
        document = encode_xml(attributes)
        study, series, uid = (attributes[tag]["Value"][0] for tag in _UIDS)
        location = f"{base}/studies/{study}/series/{series}/instances/{uid}/metadata"
        yield Part(DICOM_XML, location, len(document), partial(iter, (document,)))
