"""WADO-RS: bulk data and pixel data (PS3.18 §10.4.1.1.5)."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from archive.dicom.transfer_syntax import transfer_syntax
from archive.errors import NotAcceptableError
from archive.retrieve.values import StoredBulk
from dicomweb.context import archive_of, instance_of, instance_url, principal_of
from dicomweb.negotiation import MULTIPART, OCTETS, accepted
from dicomweb.wado import Part, multipart_response, single_response, strong_etag


def retrieve_bulk_data(request: Request) -> Response:
    """Return one bulk value, the path of which its BulkDataURI ends in."""
    return _bulk_response(request, request.path_params["path"].strip("/"))


def retrieve_pixel_data(request: Request) -> Response:
    """Return the pixel data of an instance."""
    return _bulk_response(request, "7FE00010")


def _bulk_response(request: Request, path: str) -> Response:
    ref = instance_of(request)
    archive = archive_of(request)
    bulk = archive.retrieve.bulk_data(principal_of(request), ref, path)
    location = f"{instance_url(request, ref)}/bulkdata/{bulk.path}"
    part = Part(
        _content_type(bulk),
        location,
        bulk.length_bytes,
        partial(archive.retrieve.bulk_chunks, bulk),
    )
    if _wants_multipart(request, bulk):
        return multipart_response([part], bulk.media_type)
    etag = strong_etag(bulk.stored.digest.hex(), bulk.path)
    return single_response(request, part, etag)


def _content_type(bulk: StoredBulk) -> str:
    if transfer_syntax(bulk.transfer_syntax_uid).video:
        return bulk.media_type
    return f"{bulk.media_type}; transfer-syntax={bulk.transfer_syntax_uid}"


def _wants_multipart(request: Request, bulk: StoredBulk) -> bool:
    """Choose the form: one body for whoever does not mind (PS3.18 §8.7.3.2)."""
    for wanted in accepted(request):
        if wanted.covers(bulk.media_type) or wanted.covers(OCTETS):
            return False
        if wanted.covers(MULTIPART):
            return True
    raise NotAcceptableError(f"available: {bulk.media_type}, alone or in {MULTIPART}")
