"""WADO-RS: rendered images and thumbnails (PS3.18 §10.4.1.1.3, §10.4.1.1.4)."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from archive.dicom.transfer_syntax import transfer_syntax
from archive.errors import InvalidRequestError, NotAcceptableError, NotFoundError
from archive.identity import InstanceRef
from archive.lifecycle.service import describe
from archive.render.options import (
    RENDERED_MEDIA_TYPES,
    RenderedMediaType,
    RenderOptions,
    Viewport,
    parse_quality,
    parse_viewport,
    parse_window,
)
from archive.retrieve.values import StoredBulk, StoredInstance
from dicomweb.conditional import strong_etag
from dicomweb.context import archive_of, instance_url, principal_of, ref_of, resource_of
from dicomweb.negotiation import accepted
from dicomweb.parts import Part, single_response
from dicomweb.responses import not_modified

_CACHE: Final = "private, max-age=3600"
_THUMBNAIL: Final = Viewport(width=128, height=128)
_DOCUMENT: Final = "00420011"
_DOCUMENT_TYPE: Final = "00420012"


def retrieve_rendered(request: Request) -> Response:
    """Return a frame as an image, or a video or document as it is."""
    stored = _representative(request)
    return _other_content(request, stored) or _image(request, stored, _options(request, None))


def retrieve_thumbnail(request: Request) -> Response:
    """Return a small image of the resource."""
    return _image(request, _representative(request), _options(request, _THUMBNAIL))


def _representative(request: Request) -> StoredInstance:
    """Return the instance that stands for the resource: of a series the one in the middle."""
    ref = resource_of(request)
    archive, principal = archive_of(request), principal_of(request)
    if isinstance(ref, InstanceRef):
        return archive.retrieve.instance(principal, ref)
    found = list(archive.retrieve.instances(principal, [ref]))
    if not found:
        raise NotFoundError(f"nothing is stored under {describe(ref)}")
    for series in _by_series(found):
        if any(
            stored.number_of_frames or _has_pixels(request, stored) for stored in series[:1]
        ):
            return series[len(series) // 2]
    return found[0]


def _by_series(found: list[StoredInstance]) -> list[list[StoredInstance]]:
    series: dict[str, list[StoredInstance]] = {}
    for stored in found:
        series.setdefault(stored.series_instance_uid, []).append(stored)
    return list(series.values())


def _has_pixels(request: Request, stored: StoredInstance) -> bool:
    try:
        archive_of(request).retrieve.pixels(principal_of(request), ref_of(stored))
    except NotFoundError:
        return False
    return True


def _image(request: Request, stored: StoredInstance, options: RenderOptions) -> Response:
    number = _frame_number(request)
    rendered = archive_of(request).render.render(
        principal_of(request), ref_of(stored), number, options
    )
    etag = f'"{rendered.etag}"'
    headers = {
        "ETag": etag,
        "Cache-Control": _CACHE,
        "Vary": "Accept",
        "Content-Location": instance_url(request, ref_of(stored)) + "/rendered",
    }
    if not_modified(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(rendered.body, media_type=rendered.media_type, headers=headers)


def _frame_number(request: Request) -> int | None:
    text = request.path_params.get("frames")
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise InvalidRequestError(
            f"frame {text[:80]!r}: one frame is rendered at a time, expected its number from 1"
        )
    return int(text)


def _options(request: Request, viewport: Viewport | None) -> RenderOptions:
    asked = request.query_params
    if "viewport" in asked:
        viewport = parse_viewport(asked["viewport"])
    return RenderOptions(
        media_type=_media_type(request),
        quality=parse_quality(asked["quality"]) if "quality" in asked else None,
        window=parse_window(asked["window"]) if "window" in asked else None,
        viewport=viewport,
    )


def _media_type(request: Request) -> RenderedMediaType:
    for wanted in accepted(request):
        for offered in RENDERED_MEDIA_TYPES:
            if wanted.covers(offered):
                return offered
    raise NotAcceptableError(f"rendered images are {', '.join(RENDERED_MEDIA_TYPES)}")


# -- what is shown as it is --------------------------------------------------------------------


def _other_content(request: Request, stored: StoredInstance) -> Response | None:
    """Return a stored video or document; None for images."""
    archive, principal, ref = archive_of(request), principal_of(request), ref_of(stored)
    if transfer_syntax(stored.transfer_syntax_uid).video:
        bulk = archive.retrieve.bulk_data(principal, ref, "7FE00010")
        return _as_it_is(request, stored, bulk.media_type, bulk)
    if stored.number_of_frames is not None:
        return None
    attributes = archive.retrieve.attributes(principal, ref)
    if _DOCUMENT not in attributes:
        return None
    values = attributes.get(_DOCUMENT_TYPE, {}).get("Value") or ["application/octet-stream"]
    bulk = archive.retrieve.bulk_data(principal, ref, _DOCUMENT)
    return _as_it_is(request, stored, str(values[0]), bulk)


def _as_it_is(
    request: Request, stored: StoredInstance, media_type: str, bulk: StoredBulk
) -> Response:
    if not any(wanted.covers(media_type) for wanted in accepted(request)):
        raise NotAcceptableError(f"this instance is rendered as {media_type}")
    chunks: partial[Iterator[bytes]] = partial(archive_of(request).retrieve.bulk_chunks, bulk)
    location = instance_url(request, ref_of(stored)) + "/rendered"
    part = Part(media_type, location, bulk.length_bytes, chunks)
    return single_response(request, part, strong_etag(stored.digest.hex(), "rendered"))
