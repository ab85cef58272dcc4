"""One instance as it is shown: image, video, document or report (PS3.18 §8.7.4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, cast, get_args

from starlette.requests import Request
from starlette.responses import Response

from archive.errors import InvalidRequestError, NotAcceptableError
from archive.identity import InstanceRef
from archive.render.options import RenderedMediaType
from archive.render.rendering import Rendering
from archive.render.report import Reference
from archive.render.subject import Category, Subject
from dicomweb.conditional import Validators, strong_etag
from dicomweb.context import archive_of, instance_url, principal_of, warning
from dicomweb.inline import Awaited, MakeFirstError, is_inline, made, may_wait
from dicomweb.parts import REVALIDATE, Part, single_response
from dicomweb.rendering_parameters import Asked, selected_charset

GIF: Final = "image/gif"
CACHE: Final = "private, max-age=3600"
_REPORT_VERSION: Final = 1
_XML: Final = frozenset({"text/xml", "application/xml"})
# A browser runs what a page or a drawing holds as if it were ours: not in a sandbox. PDF is
# left out, for browsers show none inside one.
_SANDBOX: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_HARMLESS: Final = ("image/", "video/", "application/pdf")


@dataclass(frozen=True, slots=True)
class Shown:
    """One representation of an instance.

    Parameters
    ----------
    make
        Makes its content; what it refuses is refused before the answer begins.
    """

    media_type: str
    location: str
    validators: Validators

    make: partial[Part]


def show(
    request: Request,
    subject: Subject,
    media_type: str,
    asked: Asked,
    frames: Sequence[int] | None = None,
) -> list[Shown]:
    """Prepare what an instance is shown as.

    Parameters
    ----------
    media_type
        One of the subject's.
    frames
        Of an image, 1-based; None for the one that represents it, or all of an animation.

    Raises
    ------
    NotFoundError
        If there is no such frame.
    NotAcceptableError
        If it is not shown so.
    InvalidRequestError
        If an option does not go with the image or the media type.
    """
    match subject.category:
        case Category.IMAGE:
            return _images(request, subject, media_type, asked, frames)
        case Category.REPORT:
            return [_report(request, subject, media_type)]
        case Category.VIDEO | Category.DOCUMENT:
            return [_as_it_is(request, subject, media_type)]
        case Category.OTHER:
            raise NotAcceptableError(_nothing(subject))


def answer(request: Request, shown: Shown, asked: Asked) -> Response:
    """Answer with one representation: the whole, a range, or 304."""
    if shown.validators.etag in request.headers.get("if-none-match", ""):
        # Nothing is made for somebody who holds it.
        part = Part(shown.media_type, shown.location, 0, lambda: iter(()))
    else:
        try:
            part = shown.make()
        except MakeFirstError as first:
            return Awaited(first, partial(_held, request, shown, asked))
    return _finished(request, shown, asked, part)


def _held(request: Request, shown: Shown, asked: Asked, body: bytes) -> Response:
    part = Part.held(shown.media_type, shown.location, body)
    return _finished(request, shown, asked, part)


def _finished(request: Request, shown: Shown, asked: Asked, part: Part) -> Response:
    is_image = shown.media_type in get_args(RenderedMediaType)
    response = single_response(
        request, part, shown.validators, cache=CACHE if is_image else REVALIDATE
    )
    return with_notes(request, response, shown.media_type, asked.warnings)


def with_notes(
    request: Request, response: Response, media_type: str, warnings: Sequence[str]
) -> Response:
    """Add what browsers and people are to be told beside the content."""
    if not media_type.startswith(_HARMLESS):
        response.headers["Content-Security-Policy"] = _SANDBOX
    if media_type.startswith("text/"):
        response.headers["Vary"] = "Accept, Accept-Charset"
    for text in warnings:
        response.headers.append("Warning", warning(request, text))
    return response


def refusal(subject: Subject) -> NotAcceptableError:
    """Return what to say when none of what is accepted can be made of an instance."""
    if not subject.media_types:
        return NotAcceptableError(_nothing(subject))
    available = ", ".join(subject.media_types)
    return NotAcceptableError(
        f"this instance ({subject.what}) is rendered as: {available}",
        offered=subject.media_types,
    )


def _nothing(subject: Subject) -> str:
    return (
        f"this instance ({subject.what}) cannot be rendered; available: application/dicom "
        "from the instance itself, application/dicom+json from its metadata"
    )


# -- images ------------------------------------------------------------------------------------


def image_location(request: Request, subject: Subject, frame_number: int | None) -> str:
    """Return where a rendered image can be retrieved by itself."""
    url = instance_url(request, subject.ref)
    if frame_number is None or subject.number_of_frames == 1:
        return f"{url}/rendered"
    return f"{url}/frames/{frame_number}/rendered"


def _images(
    request: Request,
    subject: Subject,
    media_type: str,
    asked: Asked,
    frames: Sequence[int] | None,
) -> list[Shown]:
    if media_type == GIF and asked.options.colour_space is not None:
        raise InvalidRequestError(
            "iccprofile: image/gif has no place for a profile; expected iccprofile=no, or "
            "another media type (PS3.18 §8.3.5.1.5)"
        )
    views, principal = archive_of(request).render.views, principal_of(request)
    options = replace(asked.options, media_type=cast("RenderedMediaType", media_type))
    numbers = list(frames or [subject.representative_frame])
    if media_type == GIF and frames is None and subject.number_of_frames > 1:
        every = range(1, subject.number_of_frames + 1)
        renderings = [views.animation(principal, subject, every, options)]
    else:
        renderings = views.images(principal, subject, numbers, options)
    return [_image(request, subject, rendering) for rendering in renderings]


def animation_of(
    request: Request, subject: Subject, frames: Sequence[int], asked: Asked
) -> Shown:
    """Prepare chosen frames as one animated image."""
    options = replace(asked.options, media_type="image/gif")
    views, principal = archive_of(request).render.views, principal_of(request)
    return _image(request, subject, views.animation(principal, subject, frames, options))


def _image(request: Request, subject: Subject, rendering: Rendering) -> Shown:
    location = image_location(request, subject, rendering.frame_number)
    return Shown(
        rendering.media_type,
        location,
        Validators(f'"{rendering.etag}"', subject.stored.received_at),
        partial(image_part, request, rendering, location),
    )


def image_part(request: Request, rendering: Rendering, location: str) -> Part:
    """Make an image, and return it as a part."""
    body = made(request, rendering.etag) or rendering.kept()
    if body is None:
        if is_inline(request) and rendering.make_soon is not None:
            raise MakeFirstError(rendering.etag, rendering.make_soon)
        may_wait(request)
        body = rendering.make()
    return Part.held(rendering.media_type, location, body)


# -- the rest ----------------------------------------------------------------------------------


def _report(request: Request, subject: Subject, media_type: str) -> Shown:
    charset = selected_charset(request, media_type)
    location = f"{instance_url(request, subject.ref)}/rendered"
    named = (subject.stored.digest.hex(), media_type, charset, location, _REPORT_VERSION)

    def link(reference: Reference) -> str:
        return _link(request, reference)

    def make() -> Part:
        may_wait(request)
        body = archive_of(request).render.views.report(subject, media_type, charset, link)
        content_type = f"{media_type}; charset={charset}"
        return Part(content_type, location, len(body), lambda: iter((body,)))

    validators = Validators(strong_etag(*named), subject.stored.received_at)
    return Shown(media_type, location, validators, partial(make))


def _link(request: Request, reference: Reference) -> str:
    if reference.ref is None:
        return ""
    ref = InstanceRef(
        reference.ref.study_instance_uid,
        reference.ref.series_instance_uid,
        reference.sop_instance_uid,
    )
    url = instance_url(request, ref)
    frames = f"/frames/{reference.frames[0]}" if len(reference.frames) == 1 else ""
    return f"{url}{frames}/rendered"


def _as_it_is(request: Request, subject: Subject, media_type: str) -> Shown:
    location = f"{instance_url(request, subject.ref)}/rendered"
    etag = strong_etag(subject.stored.digest.hex(), "rendered", media_type)

    def make() -> Part:
        may_wait(request)
        views, principal = archive_of(request).render.views, principal_of(request)
        is_video = subject.category is Category.VIDEO
        content = (views.video if is_video else views.document)(principal, subject)

        def section(offset: int, length: int) -> Iterator[bytes]:
            return content.section(offset, length)

        return Part(
            media_type,
            location,
            content.length_bytes,
            lambda: content.section(0, content.length_bytes),
            section,
        )

    validators = Validators(etag, subject.stored.received_at)
    return Shown(media_type, location, validators, partial(make))
