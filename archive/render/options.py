"""What a request for a rendered image may ask for (PS3.18 §8.3.5)."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from archive.errors import InvalidRequestError

RenderedMediaType = Literal["image/jpeg", "image/png", "image/gif"]
WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

RENDERED_MEDIA_TYPES: Final[tuple[RenderedMediaType, ...]] = (
    "image/jpeg",
    "image/png",
    "image/gif",
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
_WINDOW_FORM = "expected window=CENTER,WIDTH,linear|linear-exact|sigmoid (PS3.18 §8.3.5.1.4)"
_VIEWPORT_FORM = (
    "expected viewport=WIDTH,HEIGHT[,X,Y,SOURCE WIDTH,SOURCE HEIGHT] (PS3.18 §8.3.5.1.3)"
)
_LONGEST_SHOWN = 80


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
class Viewport:
    """The size of the rendered image and the region of the source that fills it.

    Parameters
    ----------
    width, height
        The rendered image fits inside; the region's aspect ratio is kept.
    x, y
        Top left corner of the region in source pixels, 0-based.
    source_width, source_height
        Size of the region in source pixels; ``None`` reaches to the edge.
    flip_horizontal, flip_vertical
        Whether the region is mirrored.
    """

    width: int
    height: int
    x: float = 0.0
    y: float = 0.0
    source_width: float | None = None
    source_height: float | None = None
    flip_horizontal: bool = False
    flip_vertical: bool = False


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """How one frame is to be rendered.

    Parameters
    ----------
    media_type
        Media type of the answer.
    quality
        1 to 100, for ``image/jpeg`` only; ``None`` is the archive's default.
    window
        Replaces the windows of the instance; ``None`` keeps them.
    viewport
        ``None`` renders every pixel of the frame.
    """

    media_type: RenderedMediaType = "image/jpeg"
    quality: int | None = None
    window: Window | None = None
    viewport: Viewport | None = None


def parse_window(text: str) -> Window:
    """Read the value of ``window`` (PS3.18 §8.3.5.1.4).

    The function may be left out, as WADO-URI clients do, and is then ``LINEAR``.

    Raises
    ------
    InvalidRequestError
        If it is not center, width and function, or the width is too small (PS3.3 §C.11.2.1.2).
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (2, 3):
        raise InvalidRequestError(
            f"window {_shown(text)} has {len(parts)} parts: {_WINDOW_FORM}"
        )
    name = parts[2] if len(parts) == 3 else "linear"
    function = _FUNCTIONS.get(name.lower())
    if function is None:
        raise InvalidRequestError(f"window function {_shown(name)} is unknown: {_WINDOW_FORM}")
    center = _decimal(parts[0], "window center", _WINDOW_FORM)
    width = _decimal(parts[1], "window width", _WINDOW_FORM)
    require_window_width(width, function)
    return Window(center, width, function)


def require_window_width(width: float, function: WindowFunction) -> None:
    """Refuse a width the function is not defined for (PS3.3 §C.11.2.1.2.1, §C.11.2.1.3).

    Raises
    ------
    InvalidRequestError
        If it is below 1 for ``LINEAR``, or not above 0 for the others.
    """
    if function == "LINEAR" and width < 1:
        raise InvalidRequestError(f"window width {width:g} is below 1, the least of linear")
    if width <= 0:
        raise InvalidRequestError(f"window width {width:g} is not above 0")


def parse_viewport(text: str) -> Viewport:
    """Read the value of ``viewport`` (PS3.18 §8.3.5.1.3).

    A negative X or source width mirrors the region left to right, a negative Y or source
    height top to bottom; left out and empty parts stand for the whole source.

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
    width = _side(parts[0], "viewport width")
    height = _side(parts[1], "viewport height")
    if width * height > MAX_VIEWPORT_AREA_PX:
        raise InvalidRequestError(
            f"viewport {width}x{height} is larger than {MAX_VIEWPORT_AREA_PX} pixels"
        )
    x, y, source_width, source_height = _region(parts[2:])
    return Viewport(
        width=width,
        height=height,
        x=abs(x or 0.0),
        y=abs(y or 0.0),
        source_width=None if source_width is None else abs(source_width),
        source_height=None if source_height is None else abs(source_height),
        flip_horizontal=_is_negative(x) or _is_negative(source_width),
        flip_vertical=_is_negative(y) or _is_negative(source_height),
    )


def parse_quality(text: str) -> int:
    """Read the value of ``quality`` (PS3.18 §8.3.5.1.2).

    Raises
    ------
    InvalidRequestError
        If it is not an integer from 1 to 100.
    """
    if not _is_integer(text) or not 1 <= int(text) <= 100:
        raise InvalidRequestError(
            f"quality {_shown(text)} is wrong: expected an integer from 1 to 100 "
            "(PS3.18 §8.3.5.1.2)"
        )
    return int(text)


def _region(parts: list[str]) -> list[float | None]:
    values = [
        _decimal(part, "viewport region", _VIEWPORT_FORM) if part else None for part in parts
    ]
    values += [None] * (4 - len(values))
    if any(size is not None and size == 0 for size in values[2:]):
        raise InvalidRequestError(f"viewport region has no width or height: {_VIEWPORT_FORM}")
    return values


def _side(text: str, name: str) -> int:
    if not _is_integer(text) or not 1 <= int(text) <= MAX_VIEWPORT_SIDE_PX:
        raise InvalidRequestError(
            f"{name} {_shown(text)} is wrong: expected an integer from 1 to "
            f"{MAX_VIEWPORT_SIDE_PX}; {_VIEWPORT_FORM}"
        )
    return int(text)


def _is_integer(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _decimal(text: str, name: str, form: str) -> float:
    # int and float take "1_000", " 7", "nan" and other alphabets' digits; the ABNF does not.
    if not text.isascii() or not set(text) <= set("0123456789+-.eE"):
        raise InvalidRequestError(f"{name} {_shown(text)} is not a number: {form}")
    try:
        value = float(text)
    except ValueError:
        raise InvalidRequestError(f"{name} {_shown(text)} is not a number: {form}") from None
    if not math.isfinite(value):
        raise InvalidRequestError(f"{name} {_shown(text)} is out of range: {form}")
    return value


def _is_negative(value: float | None) -> bool:
    # "-0" mirrors a region that begins at the edge: there is no other way to write it.
    return value is not None and math.copysign(1.0, value) < 0


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}...")
