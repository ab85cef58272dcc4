"""WADO-URI: one instance, named by query parameters (PS3.18 §9)."""

from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from archive.dicom.transfer_syntax import EXPLICIT_LITTLE_ENDIAN, TRANSFER_SYNTAXES
from archive.errors import InvalidRequestError, NotAcceptableError, NotFoundError
from archive.identity import InstanceRef, is_uid, require_uid
from archive.render.options import (
    RenderOptions,
    Viewport,
    parse_center_and_width,
    parse_quality,
    parse_region,
    parse_rows_and_columns,
)
from archive.render.subject import Category, Subject
from dicomweb.accept import MediaType, parse_accept, read_ranges
from dicomweb.context import archive_of, principal_of
from dicomweb.negotiation import AS_STORED, DICOM, Offer
from dicomweb.rendering_parameters import Asked, annotation, single_value
from dicomweb.showing import answer, refusal, show
from dicomweb.wado import answer_with_instance

URI_PATH: Final = "/wado"
_IDENTIFIERS: Final = ("studyUID", "seriesUID", "objectUID")
# What only makes sense for pixels that are rendered (PS3.18 §9.5.1.2).
_OF_IMAGES: Final = (
    "frameNumber",
    "rows",
    "columns",
    "region",
    "windowCenter",
    "windowWidth",
    "imageQuality",
    "presentationUID",
    "presentationSeriesUID",
)
_WITH_PRESENTATION: Final = ("frameNumber", "region", "windowCenter", "windowWidth")


def retrieve_by_uri(request: Request) -> Response:
    """Return an instance as DICOM, or rendered."""
    ref = _target(request)
    _refuse_anonymization(request)
    wanted = _wanted(request)
    subject = archive_of(request).render.views.subject(principal_of(request), ref)
    media_type = _selected(request, subject, wanted)
    if media_type == DICOM:
        return _as_dicom(request, subject)
    asked, frames = _rendering(request, subject)
    return answer(request, show(request, subject, media_type, asked, frames)[0], asked)


def _target(request: Request) -> InstanceRef:
    kind = single_value(request, "requestType")
    if kind != "WADO":
        given = "is missing" if kind is None else f"is {kind[:80]!r}"
        raise InvalidRequestError(
            f"requestType {given}: expected requestType=WADO (PS3.18 §9.1.2.1.1)"
        )
    uids = []
    for name in _IDENTIFIERS:
        value = single_value(request, name)
        if value is None:
            raise InvalidRequestError(
                f"{name} is missing: expected studyUID, seriesUID and objectUID "
                "(PS3.18 §9.4.2.2)"
            )
        uids.append(require_uid(value, name))
    return InstanceRef(*uids)


def _refuse_anonymization(request: Request) -> None:
    asked = single_value(request, "anonymize")
    if asked is None:
        return
    if asked != "yes":
        raise InvalidRequestError(
            f"anonymize is {asked[:80]!r}: expected anonymize=yes or nothing (PS3.18 §9.4.2.3)"
        )
    # To send it as it is would be the one wrong answer.
    raise NotAcceptableError(
        "anonymize=yes: this service does not de-identify, and sends nothing instead "
        "(PS3.18 §9.4.2.3)"
    )


# -- which representation ----------------------------------------------------------------------


def _wanted(request: Request) -> list[MediaType]:
    """Read ``contentType`` (PS3.18 §9.1.2.2.1); empty when it is not given.

    Raises
    ------
    InvalidRequestError
        If it names DICOM beside rendered media types, or has parameters that are forbidden.
    """
    given = request.query_params.getlist("contentType")
    if not given:
        return []
    # In a query string an unescaped "+" was a blank.
    wanted = read_ranges(
        value.replace(" ", "+") if "dicom" in value else value for value in given
    )
    if not wanted:
        raise InvalidRequestError(
            f"contentType {given[0][:80]!r} is no media type (PS3.18 §9.1.2.2.1)"
        )
    for range_ in wanted:
        for name in ("transfer-syntax", "charset"):
            if name in range_.parameters:
                raise InvalidRequestError(
                    f"contentType has the parameter {name}, which has a query parameter of its "
                    "own here (PS3.18 §9.1.2.2.1)"
                )
    if len(wanted) > 1 and any(range_.name == DICOM for range_ in wanted):
        raise InvalidRequestError(
            f"contentType is either {DICOM} or rendered media types (PS3.18 §9.1.2.2.1)"
        )
    return wanted


def _selected(request: Request, subject: Subject, wanted: list[MediaType]) -> str:
    """Return the media type of the answer (PS3.18 §9.3).

    Without ``contentType`` the Accept header decides, ``*/*`` for the rendered default of the
    instance, and for DICOM where nothing can be rendered.
    """
    rendered = [*subject.media_types, DICOM]
    for range_ in wanted or parse_accept(request.headers.getlist("accept")):
        for name in rendered:
            if range_.covers(name.lower()):
                return name
    if not subject.media_types:
        raise refusal(subject)
    raise NotAcceptableError(f"{refusal(subject)}; or {DICOM}", offered=rendered)


# -- DICOM -------------------------------------------------------------------------------------


def _as_dicom(request: Request, subject: Subject) -> Response:
    for name in _OF_IMAGES:
        if name in request.query_params:
            raise InvalidRequestError(
                f"{name} is for rendered images: it does not go with {DICOM} (PS3.18 §9.5.1.2)"
            )
    syntax = single_value(request, "transferSyntax")
    offer = Offer(
        multipart=False,
        media_type=DICOM,
        transfer_syntax_uid=_transfer_syntax(syntax),
        by_default=syntax is None,
    )
    response = answer_with_instance(request, subject.stored, offer)
    # The parameter is forbidden here (PS3.18 §9.1.3).
    response.headers["Content-Type"] = DICOM
    return response


def _transfer_syntax(asked: str | None) -> str:
    if asked is None:
        return EXPLICIT_LITTLE_ENDIAN
    if asked == AS_STORED:
        return AS_STORED
    if not is_uid(asked):
        raise InvalidRequestError(f"transferSyntax {asked[:80]!r} is no UID (PS3.18 §9.4.2.4)")
    known = TRANSFER_SYNTAXES.get(asked)
    if known is None or known.implicit or known.big_endian:
        raise NotAcceptableError(
            f"transferSyntax {asked} is not sent by web services (PS3.18 §8.7.3.4); expected "
            f"{EXPLICIT_LITTLE_ENDIAN}, that of the stored instance, or {AS_STORED} for it"
        )
    return asked


# -- rendered ----------------------------------------------------------------------------------


def _rendering(request: Request, subject: Subject) -> tuple[Asked, list[int] | None]:
    """Read the parameters of rendered images (PS3.18 §9.5.1.2)."""
    _refuse_presentation(request, subject)
    center, width = single_value(request, "windowCenter"), single_value(request, "windowWidth")
    if (center is None) != (width is None):
        raise InvalidRequestError(
            "windowCenter and windowWidth: expected both or neither (PS3.18 §9.5.2.2)"
        )
    quality = single_value(request, "imageQuality")
    annotations, warnings = annotation(request, "annotation", "imageAnnotation")
    options = RenderOptions(
        quality=None if quality is None else parse_quality(quality, "imageQuality"),
        window=None
        if center is None or width is None
        else parse_center_and_width(center, width),
        viewport=_viewport(request),
        annotations=annotations,
    )
    return Asked(options, warnings), _frames(request, subject)


def _viewport(request: Request) -> Viewport | None:
    viewport = parse_rows_and_columns(
        single_value(request, "rows"), single_value(request, "columns")
    )
    region = single_value(request, "region")
    if region is None:
        return viewport
    return replace(viewport or Viewport(), region=parse_region(region))


def _frames(request: Request, subject: Subject) -> list[int] | None:
    asked = single_value(request, "frameNumber")
    if asked is None:
        return None
    count = subject.number_of_frames
    if subject.category is not Category.IMAGE or subject.stored.number_of_frames is None:
        raise InvalidRequestError(
            "frameNumber: the instance is no multi-frame image (PS3.18 §9.5.2.1)"
        )
    is_number = asked.isascii() and asked.isdigit() and len(asked) <= 9
    if not is_number or not 1 <= int(asked) <= count:
        raise InvalidRequestError(
            f"frameNumber {asked[:80]!r}: expected a number from 1 to {count} (PS3.18 §9.5.2.1)"
        )
    return [int(asked)]


def _refuse_presentation(request: Request, subject: Subject) -> None:
    """Refuse presentation states: with 400 what is wrong about it, else with 406."""
    series = single_value(request, "presentationSeriesUID")
    instance = single_value(request, "presentationUID")
    if series is None and instance is None:
        return
    if series is None or instance is None:
        raise InvalidRequestError(
            "presentationSeriesUID and presentationUID: expected both or neither "
            "(PS3.18 §9.5.1.2.7)"
        )
    for name in _WITH_PRESENTATION:
        if name in request.query_params:
            raise InvalidRequestError(
                f"{name} does not go with a presentation state (PS3.18 §9.5.2.3)"
            )
    ref = InstanceRef(
        subject.stored.study_instance_uid,
        require_uid(series, "presentationSeriesUID"),
        require_uid(instance, "presentationUID"),
    )
    try:
        archive_of(request).retrieve.instance(principal_of(request), ref)
    except NotFoundError as error:
        raise InvalidRequestError(f"presentationUID: {error} (PS3.18 §9.5.2.3)") from error
    raise NotAcceptableError(
        "presentation states are not applied here; without presentationUID the image is "
        "rendered with its own windows"
    )
