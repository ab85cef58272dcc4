"""WADO-RS: rendered resources and thumbnails (PS3.18 §10.4.1.1.3, §10.4.1.1.4)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from itertools import chain
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from archive.errors import NotAcceptableError, NotFoundError
from archive.identity import InstanceRef, ResourceRef
from archive.lifecycle.service import describe
from archive.log import get_logger
from archive.render.options import RENDERED_MEDIA_TYPES, RenderedMediaType, Viewport
from archive.render.subject import REPORT_TYPES, Category, Subject
from archive.retrieve.values import StoredInstance
from dicomweb.accept import MediaType
from dicomweb.conditional import Validators, strong_etag
from dicomweb.context import (
    archive_of,
    base_url,
    instance_url,
    principal_of,
    ref_of,
    resource_of,
)
from dicomweb.frames import frame_numbers
from dicomweb.inline import is_inline, may_wait
from dicomweb.negotiation import MULTIPART, Offer, choose, part_kind
from dicomweb.parts import REVALIDATE, Envelope, Part, streamed_parts
from dicomweb.rendering_parameters import (
    Asked,
    rendered_options,
    thumbnail_options,
)
from dicomweb.showing import (
    CACHE,
    GIF,
    Shown,
    animation_of,
    answer,
    image_part,
    refusal,
    show,
    with_notes,
)

logger = get_logger(__name__)
_THUMBNAIL: Final = Viewport(width=128, height=128)
# What parts of a whole study or series may be: anything an instance is rendered as.
_PART_TYPES: Final = (*RENDERED_MEDIA_TYPES, *REPORT_TYPES)
_ANY: Final = "*/*"


def retrieve_rendered(request: Request) -> Response:
    """Return what a resource looks like: images, video, documents, pages."""
    asked = rendered_options(request)
    ref = resource_of(request)
    if not isinstance(ref, InstanceRef):
        return _several(request, ref, asked)
    subject = _standing_for(request, ref)
    return _one(request, subject, _frames_asked(request, subject), asked)


def _standing_for(request: Request, ref: ResourceRef) -> Subject:
    """Return the instance that is shown for ``ref``: itself, or who stands for a series."""
    views, principal = archive_of(request).render.views, principal_of(request)
    if is_inline(request):
        known = views.recall(principal, ref)
        if known is not None:
            return known
        may_wait(request)
    return views.representative(principal, ref)


def _frames_asked(request: Request, subject: Subject) -> list[int] | None:
    """Return the frames in the path, None without any.

    Raises
    ------
    NotFoundError
        If what it belongs to has none. A video has, but is only shown whole.
    """
    frames = request.path_params.get("frames")
    if frames is None:
        return None
    numbers = frame_numbers(frames)
    if subject.pixels is None and subject.category is not Category.VIDEO:
        raise NotFoundError(f"{describe(subject.ref)} has no frames")
    return numbers


# -- one instance ------------------------------------------------------------------------------


def _one(
    request: Request, subject: Subject, frames: list[int] | None, asked: Asked
) -> Response:
    """Answer for an instance, or some frames of it."""
    several = frames is not None and len(frames) > 1

    def candidates(range_: MediaType) -> list[Offer]:
        parts = _parts(range_, subject.media_types)
        # Several frames are one image only where they are shown one after another.
        types = (GIF,) * (subject.pixels is not None) if several else subject.media_types
        singles = _singles(range_, types)
        return parts + singles if several else singles + parts

    def make(offer: Offer) -> Response:
        if offer.multipart:
            every = None
            if subject.pixels is not None:
                every = frames or list(range(1, subject.number_of_frames + 1))
            return _multipart(
                request, show(request, subject, offer.media_type, asked, every), asked
            )
        if several:
            return answer(request, animation_of(request, subject, frames or [], asked), asked)
        return answer(
            request, show(request, subject, offer.media_type, asked, frames)[0], asked
        )

    if not subject.media_types:
        raise refusal(subject)
    return choose(request, candidates, make, offered=_offered(subject.media_types, several))


def _singles(range_: MediaType, types: Sequence[str]) -> list[Offer]:
    return [Offer(False, name) for name in types if range_.covers(name.lower())]


def _parts(range_: MediaType, types: Sequence[str]) -> list[Offer]:
    if not range_.name.startswith(("multipart/", "*/")) or not range_.covers(MULTIPART):
        return []
    kind = MediaType(part_kind(range_))
    return [Offer(True, name) for name in types if kind.covers(name.lower())]


def _offered(types: Sequence[str], several: bool) -> list[str]:
    multiparts = [f'{MULTIPART}; type="{name}"' for name in types]
    return multiparts if several else [*types, *multiparts]


def _multipart(request: Request, shown: Sequence[Shown], asked: Asked) -> Response:
    media_type = shown[0].media_type
    etags = (one.validators.etag for one in shown)
    etag = strong_etag("rendered", base_url(request), *etags)
    # The first is made before the answer begins, so that a refusal still can be one.
    first = shown[0].make()
    parts = chain((first,), (one.make() for one in shown[1:]))
    validators = Validators(etag, shown[0].validators.modified)
    envelope = Envelope(validators, cache=CACHE)
    response = streamed_parts(request, lambda: parts, media_type, envelope)
    return with_notes(request, response, media_type, asked.warnings)


# -- studies and series ------------------------------------------------------------------------


def _several(request: Request, ref: ResourceRef, asked: Asked) -> Response:
    """Answer for a study or series: every instance, or the one that stands for them."""
    views, principal = archive_of(request).render.views, principal_of(request)
    subject = _standing_for(request, ref)

    def candidates(range_: MediaType) -> list[Offer]:
        offers: list[Offer] = []
        if range_.name.startswith(("multipart/", "*/")) and range_.covers(MULTIPART):
            offers.append(Offer(True, part_kind(range_)))
        if not range_.name.startswith("multipart/"):
            offers += _singles(range_, subject.media_types)
        return offers

    def make(offer: Offer) -> Response:
        if offer.multipart:
            may_wait(request)
            return _all_of(request, views.stored(principal, ref), offer.media_type, asked)
        return answer(request, show(request, subject, offer.media_type, asked)[0], asked)

    offered = [f'{MULTIPART}; type="{name}"' for name in _PART_TYPES]
    return choose(request, candidates, make, offered=[*offered, *RENDERED_MEDIA_TYPES])


def _all_of(
    request: Request, found: Sequence[StoredInstance], kind: str, asked: Asked
) -> Response:
    """Return a part for each instance that is shown as ``kind``, in order; 206: not for all."""
    views, principal = archive_of(request).render.views, principal_of(request)
    range_ = MediaType(kind)
    shown = views.shown_as(principal, found, lambda name: range_.covers(name.lower()))
    digests = (stored.digest.hex() for stored, _ in shown)
    named = (kind, asked.options, base_url(request), request.headers.get("accept-charset"))
    validators = Validators(strong_etag(*named, request.url.query, *digests))
    parts = _made(_each(request, shown, asked))
    first = next(parts, None)
    if first is None:
        raise NotAcceptableError(f"no instance of this resource is rendered as {kind}")
    missing = len(found) - len(shown)
    notes = [f"{missing} of {len(found)} instances are not rendered as {kind}"] * (missing > 0)
    envelope = Envelope(
        validators,
        cache=REVALIDATE,
        status=HTTPStatus.PARTIAL_CONTENT if missing else HTTPStatus.OK,
    )
    media_type = first.content_type.partition(";")[0]
    response = streamed_parts(request, lambda: chain((first,), parts), media_type, envelope)
    return with_notes(request, response, media_type, [*asked.warnings, *notes])


def _each(
    request: Request, shown: Sequence[tuple[StoredInstance, str]], asked: Asked
) -> Iterator[Callable[[], Part]]:
    views, principal = archive_of(request).render.views, principal_of(request)
    for stored, media_type in shown:
        subject = views.subject(principal, ref_of(stored))
        if media_type in subject.media_types:
            yield show(request, subject, media_type, asked)[0].make


def _made(shown: Iterator[Callable[[], Part]]) -> Iterator[Part]:
    for make in shown:
        try:
            part = make()
        except NotAcceptableError as error:
            # The others can be shown all the same.
            logger.info("render.skipped", extra={"reason": str(error)})
        else:
            yield part


# -- thumbnails --------------------------------------------------------------------------------


def retrieve_thumbnail(request: Request) -> Response:
    """Return one small image of a resource: of what has no image, its kind in letters."""
    options = thumbnail_options(request)
    ref = resource_of(request)
    views, principal = archive_of(request).render.views, principal_of(request)
    subject = _standing_for(request, ref)
    numbers = _frames_asked(request, subject)

    def candidates(range_: MediaType) -> list[Offer]:
        return _singles(range_, RENDERED_MEDIA_TYPES)

    def make(offer: Offer) -> Response:
        media_type = _image_type(offer.media_type)
        if subject.pixels is None:
            rendering = views.icon(subject, media_type, options.viewport)
        else:
            number = numbers[0] if numbers else subject.representative_frame
            small = replace(
                options, media_type=media_type, viewport=options.viewport or _THUMBNAIL
            )
            rendering = views.images(principal, subject, [number], small)[0]
        location = f"{instance_url(request, subject.ref)}/thumbnail"
        validators = Validators(f'"{rendering.etag}"', subject.stored.received_at)
        make_part = partial(image_part, request, rendering, location)
        shown = Shown(media_type, location, validators, make_part)
        return answer(request, shown, Asked(options))

    return choose(request, candidates, make, offered=RENDERED_MEDIA_TYPES)


def _image_type(name: str) -> RenderedMediaType:
    return next(known for known in RENDERED_MEDIA_TYPES if known == name)
