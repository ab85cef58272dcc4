"""Query strings of rendered resources to typed options (PS3.18 §8.3.5, §8.8)."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from archive.errors import InvalidRequestError
from archive.render.options import (
    Annotation,
    RenderOptions,
    parse_annotation,
    parse_colour_space,
    parse_overlays,
    parse_quality,
    parse_thumbnail_viewport,
    parse_viewport,
    parse_window,
)
from dicomweb.negotiation import accepted

# PS3.18 Annex D: defined terms of Specific Character Set (0008,0005) for IANA's names.
_DEFINED_TERMS: Final = {
    "iso_ir 6": "us-ascii",
    "iso_ir 100": "iso-8859-1",
    "iso_ir 101": "iso-8859-2",
    "iso_ir 109": "iso-8859-3",
    "iso_ir 110": "iso-8859-4",
    "iso_ir 144": "iso-8859-5",
    "iso_ir 127": "iso-8859-6",
    "iso_ir 126": "iso-8859-7",
    "iso_ir 138": "iso-8859-8",
    "iso_ir 148": "iso-8859-9",
    "iso_ir 203": "iso-8859-15",
    "iso_ir 13": "shift_jis",
    "iso_ir 166": "tis-620",
    "iso_ir 192": "utf-8",
    "gb18030": "gb18030",
    "gbk": "gbk",
}
_CHARSETS: Final = frozenset(_DEFINED_TERMS.values()) | {"iso-8859-13", "iso-8859-14", "euc-kr",
                                                         "euc-jp", "windows-1252"}  # fmt: skip
_WEIGHT: Final = re.compile(r"\s*;\s*q\s*=\s*(\d?\.?\d{0,3})\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """How something is to be rendered, the media type aside.

    Parameters
    ----------
    options
        Of every image.
    warnings
        What was asked for and is not done, for the Warning header.
    """

    options: RenderOptions
    warnings: tuple[str, ...] = ()


def single_value(request: Request, name: str) -> str | None:
    """Return the value of a query parameter, None when it is not there.

    Raises
    ------
    InvalidRequestError
        If it is given more than once.
    """
    given = request.query_params.getlist(name)
    if len(given) > 1:
        raise InvalidRequestError(f"{name} is given {len(given)} times: expected once")
    return given[0] if given else None


def rendered_options(request: Request) -> Asked:
    """Read the parameters of rendered resources (PS3.18 §8.3.5.1); unknown ones are ignored.

    Raises
    ------
    InvalidRequestError
        If one of them has a value that it cannot have.
    """
    quality, viewport = single_value(request, "quality"), single_value(request, "viewport")
    window, overlays = single_value(request, "window"), single_value(request, "overlays")
    profile = single_value(request, "iccprofile")
    annotations, warnings = annotation(request, "annotation")
    options = RenderOptions(
        quality=None if quality is None else parse_quality(quality),
        window=None if window is None else parse_window(window),
        viewport=None if viewport is None else parse_viewport(viewport),
        annotations=annotations,
        colour_space=None if profile is None else parse_colour_space(profile),
        overlays=overlays is not None and parse_overlays(overlays),
    )
    return Asked(options, warnings)


def thumbnail_options(request: Request) -> RenderOptions:
    """Read the parameters of thumbnails (PS3.18 §8.3.5.2): nothing of the patient is shown.

    Raises
    ------
    InvalidRequestError
        If ``viewport`` is anything but a width and a height.
    """
    viewport = single_value(request, "viewport")
    return RenderOptions(
        viewport=None if viewport is None else parse_thumbnail_viewport(viewport)
    )


def annotation(request: Request, *names: str) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """Read what is to be written into the image, and a warning of what cannot be.

    Raises
    ------
    InvalidRequestError
        If a value is no keyword, or none is given.
    """
    given = [value for name in names for value in request.query_params.getlist(name)]
    if not given:
        return (), ()
    known, unknown = parse_annotation(",".join(given))
    if not unknown:
        return known, ()
    return known, (f"The following annotation values are not supported: {', '.join(unknown)}",)


# -- character sets ----------------------------------------------------------------------------


def selected_charset(request: Request, media_type: str) -> str:
    """Choose the character set of a text (PS3.18 §8.8.5).

    The parameter of the media type, else the query parameter, else the header; names that
    are not supported are ignored, and UTF-8 is what remains.
    """
    of_type = (
        range_.parameters["charset"]
        for range_ in accepted(request)
        if "charset" in range_.parameters and range_.covers(media_type)
    )
    asked = request.query_params.getlist("charset")
    headers = request.headers.getlist("accept-charset")
    for name in (*of_type, *_weighted(asked), *_weighted(headers)):
        charset = _known_charset(name)
        if charset:
            return charset
    return "utf-8"


def _weighted(lists: list[str]) -> Iterator[str]:
    """Yield the names of a list such as Accept-Charset's, most wanted first."""
    found: list[tuple[float, str]] = []
    for entry in ",".join(lists).split(","):
        weight = _WEIGHT.search(entry)
        name = entry[: weight.start()] if weight else entry
        try:
            quality = float(weight[1]) if weight else 1.0
        except ValueError:
            quality = 1.0
        if quality > 0:
            found.append((quality, name))
    found.sort(key=lambda pair: -pair[0])
    return (name for _, name in found)


def _known_charset(name: str) -> str:
    plain = name.strip().strip('"').strip().lower()
    if plain == "*":
        return "utf-8"
    plain = _DEFINED_TERMS.get(plain, plain)
    if plain in _CHARSETS:
        return plain
    try:
        canonical = codecs.lookup(plain).name
    except (LookupError, ValueError):
        return ""
    aliases = {codecs.lookup(known).name: known for known in _CHARSETS}
    return aliases.get(canonical, "")
