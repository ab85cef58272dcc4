"""Overlay planes: bitmaps that lie over an image (PS3.3 §C.9.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from archive.render.attributes import Attributes, ReadBulk, binary, integer, numbers

_GROUPS: Final = tuple(f"60{group:02X}" for group in range(0, 0x20, 2))
_LARGEST_SIDE: Final = 65535


@dataclass(frozen=True, slots=True)
class Overlay:
    """One plane over one frame.

    Parameters
    ----------
    rows, columns
        Its size.
    top, left
        Where its first pixel lies, 0-based; negative when it begins outside the image.
    bits
        One bit a pixel, least significant first (PS3.5 §8.1.2); empty when the plane lies in
        the pixel data itself.
    bit_offset
        Where the plane begins in ``bits``.
    bit_position
        Which bit of each pixel it is, for a plane in the pixel data (retired).
    """

    rows: int
    columns: int
    top: int
    left: int
    bits: bytes
    bit_offset: int = 0
    bit_position: int = 0


def overlays_from_json(
    attributes: Attributes, frame_index: int, read_bulk: ReadBulk
) -> tuple[Overlay, ...]:
    """Return the overlay planes that belong to a frame; what cannot be read is left out."""
    return tuple(_overlays(attributes, frame_index, read_bulk))


def _overlays(
    attributes: Attributes, frame_index: int, read_bulk: ReadBulk
) -> Iterator[Overlay]:
    for group in _GROUPS:
        rows = integer(attributes, group + "0010") or 0
        columns = integer(attributes, group + "0011") or 0
        if not (0 < rows <= _LARGEST_SIDE and 0 < columns <= _LARGEST_SIDE):
            continue
        first = (integer(attributes, group + "0051") or 1) - 1
        count = integer(attributes, group + "0015")
        index = frame_index - first
        # Without a number of its own, one plane lies over every frame.
        if count is not None and not 0 <= index < max(count, 1):
            continue
        offset = rows * columns * index if count and count > 1 else 0
        bits = binary(attributes, group + "3000", read_bulk)
        position = integer(attributes, group + "0102") or 0
        if not bits and not position:
            continue
        if bits and 8 * len(bits) < offset + rows * columns:
            continue
        top, left = _origin(attributes, group + "0050")
        yield Overlay(rows, columns, top, left, bits, offset, position)


def _origin(attributes: Attributes, tag: str) -> tuple[int, int]:
    found = numbers(attributes, tag)
    if len(found) < 2:
        return 0, 0
    return int(found[0]) - 1, int(found[1]) - 1
