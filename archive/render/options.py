"""What a request for a rendered image may ask for (PS3.18 §8.3.5, §9.5.1.2)."""

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

from archive.errors import InvalidRequestError

RenderedMediaType = Literal["image/jpeg", "image/png", "image/gif", "image/jp2"]
WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
ColourSpace = Literal["yes", "srgb", "adobergb", "rommrgb", "displayp3"]
Annotation = Literal["patient", "technique"]

# In the order they are chosen when several are equally acceptable; the first is the default.
RENDERED_MEDIA_TYPES: Final[tuple[RenderedMediaType, ...]] = (
    "image/jpeg",
    "image/png",
    "image/gif",
    "image/jp2",
)
MAX_VIEWPORT_SIDE_PX: Final = 16384
# 64 Mi pixels of three samples are 192 MiB: what one worker can hold beside its decoder.
MAX_VIEWPORT_AREA_PX: Final = 64 * 1024 * 1024

_FUNCTIONS: Final[dict[str, WindowFunction]] = {
    "linear": "LINEAR",
    "linear-exact": "LINEAR_EXACT",
    "linear_exact": "LINEAR_EXACT",
    "sigmoid": "SIGMOID",
}
_ANNOTATIONS: Final[dict[str, Annotation]] = {"patient": "patient", "technique": "technique"}
_COLOUR_SPACES: Final[dict[str, ColourSpace | None]] = {
    "no": None,
    "yes": "yes",
    "srgb": "srgb",
    "adobergb": "adobergb",
    "rommrgb": "rommrgb",
    "displayp3": "displayp3",
}
_WINDOW_FORM = "expected window=CENTER,WIDTH,linear|linear-exact|sigmoid (PS3.18 §8.3.5.1.4)"
_VIEWPORT_FORM = (
    "expected viewport=WIDTH,HEIGHT[,X,Y,SOURCE WIDTH,SOURCE HEIGHT] (PS3.18 §8.3.5.1.3)"
)
_SIZE_FORM = "expected viewport=WIDTH,HEIGHT for a thumbnail (PS3.18 §8.3.5.1.3)"
_REGION_FORM = (
    "expected region=XMIN,YMIN,XMAX,YMAX with 0 <= MIN < MAX <= 1 (PS3.18 §9.5.1.2.5)"
)
_DECIMAL: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_KEYWORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*", re.ASCII)
_LONGEST_SHOWN = 80
_LONGEST_NUMBER = 64
_LONGEST_KEYWORD = 40


@dataclass(frozen=True, slots=True)
class Window:
    """A range of values that is spread over the grey scale (PS3.3 §C.11.2.1.2).

    Parameters
    ----------
    center, width
        In the unit of the modality transformation's output.
    function
        VOI LUT Function (0028,1056).
    """

    center: float
    width: float
    function: WindowFunction = "LINEAR"


@dataclass(frozen=True, slots=True)
class Region:
    """The part of the source image that is shown.

    Parameters
    ----------
    x, y
        Top left corner, 0-based.
    width, height
        ``None`` reaches to the edge.
    is_relative
        Counted in widths and heights of the image (PS3.18 §9.5.1.2.5), else in its pixels.
    flip_horizontal, flip_vertical
        Whether it is mirrored.
    """

    x: float = 0.0
    y: float = 0.0
    width: float | None = None
    height: float | None = None
    is_relative: bool = False
    flip_horizontal: bool = False
    flip_vertical: bool = False

    def box(self, columns: int, rows: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom in pixels, cut at the edges of the image.

        Raises
        ------
        InvalidRequestError
            If nothing of the region lies in the image.
        """
        unit_x, unit_y = (columns, rows) if self.is_relative else (1, 1)
        left, top = self.x * unit_x, self.y * unit_y
        right = columns if self.width is None else min(left + self.width * unit_x, columns)
        bottom = rows if self.height is None else min(top + self.height * unit_y, rows)
        if left >= right or top >= bottom:
            raise InvalidRequestError(
                f"the region begins at {left:g},{top:g}, outside the image of "
                f"{columns} x {rows} pixels (PS3.18 §8.3.5.1.3)"
            )
        return left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Viewport:
    """The size of the rendered image and the region of the source that fills it.

    Parameters
    ----------
    width, height
        The rendered image fits inside; the region's aspect ratio is kept. One that is
        ``None`` follows from the other; both ``None`` keep the size of the region.
    region
        What fills it.
    """

    width: int | None = None
    height: int | None = None
    region: Region = Region()

    def size(self, columns: float, rows: float) -> tuple[int, int]:
        """Return the size a region of ``columns`` x ``rows`` is scaled to."""
        factors = [
            side / length
            for side, length in ((self.width, columns), (self.height, rows))
            if side is not None
        ]
        factor = min(factors, default=1.0)
        return max(round(columns * factor), 1), max(round(rows * factor), 1)


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """How one frame is to be rendered.

    Parameters
    ----------
    media_type
        Media type of the answer.
    quality
        1 to 100, for lossy media types only; ``None`` is the archive's default.
    window
        Replaces the windows of the instance; ``None`` keeps them.
    viewport
        ``None`` renders every pixel of the frame.
    annotations
        What is written into the image (PS3.18 §8.3.5.1.1).
    colour_space
        The colour space of the answer, which it names in an ICC profile
        (PS3.18 §8.3.5.1.5); ``None`` puts no profile in.
    overlays
        Whether overlay planes (PS3.3 §C.9.2) are drawn.
    """

    media_type: RenderedMediaType = "image/jpeg"
    quality: int | None = None
    window: Window | None = None
    viewport: Viewport | None = None
    annotations: tuple[Annotation, ...] = ()
    colour_space: ColourSpace | None = None
    overlays: bool = False


# -- window ------------------------------------------------------------------------------------


def parse_window(text: str) -> Window:
    """Read the value of ``window`` (PS3.18 §8.3.5.1.4).

    Raises
    ------
    InvalidRequestError
        If it is not center, width and function, or the width is too small (PS3.3 §C.11.2.1.2).
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3:
        raise InvalidRequestError(
            f"window {_shown(text)} has {len(parts)} parts: {_WINDOW_FORM}"
        )
    function = _FUNCTIONS.get(parts[2].lower())
    if function is None:
        raise InvalidRequestError(
            f"window function {_shown(parts[2])} is unknown: {_WINDOW_FORM}"
        )
    center = _decimal(parts[0], "window center", _WINDOW_FORM)
    width = _decimal(parts[1], "window width", _WINDOW_FORM)
    require_window_width(width, function)
    return Window(center, width, function)


def parse_center_and_width(center: str, width: str) -> Window:
    """Read ``windowCenter`` and ``windowWidth`` of WADO-URI (PS3.18 §9.5.1.2.6).

    Raises
    ------
    InvalidRequestError
        If one is no decimal number, or the width is below 1.
    """
    form = "expected a decimal number (PS3.18 §9.5.1.2.6)"
    window = Window(
        _decimal(center.strip(), "windowCenter", form),
        _decimal(width.strip(), "windowWidth", form),
    )
    require_window_width(window.width, window.function)
    return window


def require_window_width(width: float, function: WindowFunction) -> None:
    """Refuse a width the function is not defined for (PS3.3 §C.11.2.1.2.1, §C.11.2.1.3).

    Raises
    ------
    InvalidRequestError
        If it is below 1 for ``LINEAR``, or not above 0 for the others.
    """
    if function == "LINEAR" and width < 1:
        raise InvalidRequestError(
            f"window width {width:g} is below 1, the least of linear: {_WINDOW_FORM}"
        )
    if width <= 0:
        raise InvalidRequestError(f"window width {width:g} is not above 0: {_WINDOW_FORM}")


# -- viewport ----------------------------------------------------------------------------------


def parse_viewport(text: str) -> Viewport:
    """Read the value of ``viewport`` (PS3.18 §8.3.5.1.3).

    A negative source width mirrors the region left to right, a negative source height top to
    bottom; of X and Y only the absolute value counts. Left out and empty parts stand for the
    whole source.

    Raises
    ------
    InvalidRequestError
        If it is not two sizes or two sizes and a region, or larger than the archive renders.
    """
    parts = [part.strip() for part in text.split(",")]
    if not 2 <= len(parts) <= 6:
        raise InvalidRequestError(
            f"viewport {_shown(text)} has {len(parts)} parts: {_VIEWPORT_FORM}"
        )
    width, height = _sides(parts[0], parts[1], _VIEWPORT_FORM)
    x, y, source_width, source_height = _region_parts(parts[2:])
    return Viewport(
        width=width,
        height=height,
        region=Region(
            x=abs(x or 0.0),
            y=abs(y or 0.0),
            width=None if source_width is None else abs(source_width),
            height=None if source_height is None else abs(source_height),
            flip_horizontal=source_width is not None and source_width < 0,
            flip_vertical=source_height is not None and source_height < 0,
        ),
    )


def parse_thumbnail_viewport(text: str) -> Viewport:
    """Read the value of ``viewport`` of a thumbnail: two sizes and nothing else.

    Raises
    ------
    InvalidRequestError
        If it is anything else, or larger than the archive renders.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2:
        raise InvalidRequestError(
            f"viewport {_shown(text)} has {len(parts)} parts: {_SIZE_FORM}"
        )
    width, height = _sides(parts[0], parts[1], _SIZE_FORM)
    return Viewport(width, height)


def parse_rows_and_columns(rows: str | None, columns: str | None) -> Viewport | None:
    """Read ``rows`` and ``columns`` of WADO-URI (PS3.18 §9.5.1.2.4); one may be left out.

    Raises
    ------
    InvalidRequestError
        If one is no positive integer, or larger than the archive renders.
    """
    form = "expected rows=HEIGHT and columns=WIDTH in pixels (PS3.18 §9.5.1.2.4)"
    height = None if rows is None else _side(rows.strip(), "rows", form)
    width = None if columns is None else _side(columns.strip(), "columns", form)
    _require_area(width or 1, height or 1)
    return None if width is None and height is None else Viewport(width, height)


def parse_region(text: str) -> Region:
    """Read ``region`` of WADO-URI (PS3.18 §9.5.1.2.5).

    Raises
    ------
    InvalidRequestError
        If it is not four decimals from 0 to 1 that enclose an area.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4:
        raise InvalidRequestError(
            f"region {_shown(text)} has {len(parts)} parts: {_REGION_FORM}"
        )
    left, top, right, bottom = (_decimal(part, "region", _REGION_FORM) for part in parts)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise InvalidRequestError(f"region {_shown(text)} encloses no area: {_REGION_FORM}")
    return Region(left, top, right - left, bottom - top, is_relative=True)


def _sides(width: str, height: str, form: str) -> tuple[int, int]:
    sides = _side(width, "viewport width", form), _side(height, "viewport height", form)
    _require_area(*sides)
    return sides


def _require_area(width: int, height: int) -> None:
    if width * height > MAX_VIEWPORT_AREA_PX:
        raise InvalidRequestError(
            f"{width} x {height} pixels are more than the {MAX_VIEWPORT_AREA_PX} that are "
            "rendered; expected a smaller viewport"
        )


def _region_parts(parts: list[str]) -> list[float | None]:
    values = [
        _decimal(part, "viewport region", _VIEWPORT_FORM) if part else None for part in parts
    ]
    values += [None] * (4 - len(values))
    if any(size is not None and size == 0 for size in values[2:]):
        raise InvalidRequestError(f"viewport region has no width or height: {_VIEWPORT_FORM}")
    return values


def _side(text: str, name: str, form: str) -> int:
    if not _is_integer(text) or not 1 <= int(text) <= MAX_VIEWPORT_SIDE_PX:
        raise InvalidRequestError(
            f"{name} {_shown(text)} is wrong: expected an integer from 1 to "
            f"{MAX_VIEWPORT_SIDE_PX}; {form}"
        )
    return int(text)


# -- the rest ----------------------------------------------------------------------------------


def parse_quality(text: str, name: str = "quality") -> int:
    """Read the value of ``quality`` (PS3.18 §8.3.5.1.2).

    Raises
    ------
    InvalidRequestError
        If it is not an integer from 1 to 100.
    """
    text = text.strip()
    if not _is_integer(text) or not 1 <= int(text) <= 100:
        raise InvalidRequestError(
            f"{name} {_shown(text)} is wrong: expected an integer from 1 to 100 "
            "(PS3.18 §8.3.5.1.2)"
        )
    return int(text)


def parse_annotation(text: str) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """Read the value of ``annotation`` (PS3.18 §8.3.5.1.1).

    Returns
    -------
    tuple
        What is to be written into the image, and the keywords that are not supported, which
        are passed over with a warning.

    Raises
    ------
    InvalidRequestError
        If there is no value, or one that is no keyword.
    """
    known: list[Annotation] = []
    unknown: list[str] = []
    for part in text.strip().strip('"').split(","):
        keyword = part.strip().strip('"').strip()
        if len(keyword) > _LONGEST_KEYWORD or not _KEYWORD.fullmatch(keyword):
            raise InvalidRequestError(
                f"annotation {_shown(keyword)} is no keyword: expected patient, technique or "
                "both with a comma between (PS3.18 §8.3.5.1.1)"
            )
        if keyword in _ANNOTATIONS:
            known.append(_ANNOTATIONS[keyword])
        else:
            unknown.append(keyword)
    return tuple(sorted(set(known))), tuple(unknown)


def parse_colour_space(text: str) -> ColourSpace | None:
    """Read the value of ``iccprofile`` (PS3.18 §8.3.5.1.5); ``no`` is ``None``.

    Raises
    ------
    InvalidRequestError
        If it is none of the names.
    """
    name = text.strip().strip('"').lower()
    if name not in _COLOUR_SPACES:
        raise InvalidRequestError(
            f"iccprofile {_shown(text)} is unknown: expected {', '.join(_COLOUR_SPACES)} "
            "(PS3.18 §8.3.5.1.5)"
        )
    return _COLOUR_SPACES[name]


def parse_overlays(text: str) -> bool:
    """Read the value of ``overlays``, an extension: whether overlay planes are drawn.

    Raises
    ------
    InvalidRequestError
        If it is neither true nor false.
    """
    name = text.strip().lower()
    if name not in ("true", "false"):
        raise InvalidRequestError(f"overlays {_shown(text)} is wrong: expected true or false")
    return name == "true"


def _is_integer(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _decimal(text: str, name: str, form: str) -> float:
    # float takes "1_000", "nan" and other alphabets' digits; a decimal string has none.
    if len(text) > _LONGEST_NUMBER or not _DECIMAL.fullmatch(text):
        raise InvalidRequestError(f"{name} {_shown(text)} is not a number: {form}")
    value = float(text)
    if not math.isfinite(value):
        raise InvalidRequestError(f"{name} {_shown(text)} is out of range: {form}")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}...")
