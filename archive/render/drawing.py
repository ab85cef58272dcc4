"""Overlays and text on displayed pixels (PS3.3 §C.9.2, PS3.18 §8.3.5.1.1)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from archive.render.overlays import Overlay

Bytes = npt.NDArray[np.uint8]
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SMALLEST_TEXT_PX: Final = 9
_LARGEST_TEXT_PX: Final = 48
_LINES_OF_AN_IMAGE: Final = 36
_WHITE: Final = 255


def draw_overlays(
    shown: Bytes, overlays: Sequence[Overlay], raw: npt.NDArray[Any] | None
) -> Bytes:
    """Return the image with its overlay planes in white.

    Parameters
    ----------
    raw
        Stored values with every allocated bit, for planes that lie in the pixel data.
    """
    drawn = shown.copy()
    for overlay in overlays:
        plane = _plane(overlay, raw)
        if plane is not None:
            _draw_plane(drawn, plane, overlay.top, overlay.left)
    return drawn


def _plane(overlay: Overlay, raw: npt.NDArray[Any] | None) -> npt.NDArray[np.bool_] | None:
    if not overlay.bits:
        if raw is None or raw.ndim != 2 or overlay.bit_position >= raw.dtype.itemsize * 8:
            return None
        inside: npt.NDArray[np.bool_] = (raw >> overlay.bit_position) & 1 != 0
        return inside
    first, start = divmod(overlay.bit_offset, 8)
    count = overlay.rows * overlay.columns
    packed = np.frombuffer(overlay.bits, np.uint8, offset=first)
    bits = np.unpackbits(packed, bitorder="little", count=start + count)[start:]
    plane: npt.NDArray[np.bool_] = bits.reshape(overlay.rows, overlay.columns) != 0
    return plane


def _draw_plane(drawn: Bytes, plane: npt.NDArray[np.bool_], top: int, left: int) -> None:
    rows, columns = drawn.shape[:2]
    plane = plane[max(-top, 0) :, max(-left, 0) :]
    top, left = max(top, 0), max(left, 0)
    plane = plane[: max(rows - top, 0), : max(columns - left, 0)]
    drawn[top : top + plane.shape[0], left : left + plane.shape[1]][plane] = _WHITE


def draw_annotations(shown: Bytes, left: Sequence[str], right: Sequence[str]) -> Bytes:
    """Return the image with lines of text in its upper left and upper right corner."""
    if not left and not right:
        return shown
    image = Image.fromarray(shown)
    draw = ImageDraw.Draw(image)
    size = min(max(min(image.size) // _LINES_OF_AN_IMAGE, _SMALLEST_TEXT_PX), _LARGEST_TEXT_PX)
    font = _font(size)
    margin = max(size // 3, 2)
    # Two columns share the width, so that neither is written over the other.
    room = (image.width - 3 * margin) / (2 if left and right else 1)
    for lines, anchor, x in ((left, "la", margin), (right, "ra", image.width - margin)):
        for number, line in enumerate(lines):
            # The outline keeps it readable over bright tissue.
            draw.text(
                (x, margin + number * (size + margin // 2)),
                _fitting(line, font, room),
                fill=_fill(image, _WHITE),
                font=font,
                anchor=anchor,
                stroke_width=max(size // 12, 1),
                stroke_fill=_fill(image, 0),
            )
    return np.asarray(image)


def _fitting(line: str, font: _Font, room: float) -> str:
    while len(line) > 1 and font.getlength(line) > room:
        line = line[:-1]
    return line


@lru_cache(maxsize=64)
def _font(size: int) -> _Font:
    try:
        # Knows Greek, Cyrillic, Hebrew and Arabic; Pillow's own knows Latin.
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


def _fill(image: Image.Image, grey: int) -> int | tuple[int, int, int]:
    return grey if image.mode == "L" else (grey, grey, grey)


def icon(label: str, size: tuple[int, int]) -> Bytes:
    """Return a small picture for what has no image: its kind in letters.

    Parameters
    ----------
    label
        A few letters, e.g. a modality.
    size
        Width and height in pixels.
    """
    width, height = size
    image = Image.new("L", size, 40)
    draw = ImageDraw.Draw(image)
    edge = max(min(size) // 16, 1)
    draw.rectangle(
        (edge, edge, max(width - 1 - edge, edge), max(height - 1 - edge, edge)), outline=150
    )
    text_px = min(width * 3 // (2 * max(len(label), 2)), height // 2)
    if text_px >= _SMALLEST_TEXT_PX:
        font = _font(text_px)
        draw.text((width / 2, height / 2), label, fill=230, font=font, anchor="mm")
    return np.asarray(image)
