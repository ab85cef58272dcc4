"""Pixel data divided into frames, at ingest (PS3.5 §8.1.1, §A.4, PS3.3 §C.7.6.3.1.8)."""

import base64
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from archive.dicom.frame_table import FrameTable, Span
from archive.dicom.instance import Attributes, BulkValue, PixelDescription
from archive.dicom.part10 import Buffer
from archive.dicom.transfer_syntax import TransferSyntax
from archive.dicom.walk import PixelElement

_FLOAT_BITS: Final = {"7FE00008": 32, "7FE00009": 64}
# How the codestream of a frame begins: JPEG and JPEG-LS; JPEG 2000 and HTJ2K; in a JP2 box;
# JPEG XL bare and in a box.
_STARTS: Final = (
    b"\xff\xd8\xff",
    b"\xff\x4f\xff\x51",
    b"\x00\x00\x00\x0cjP  ",
    b"\xff\x0a",
    b"\x00\x00\x00\x0cJXL ",
)


def describe_pixels(attributes: Attributes) -> PixelDescription:
    """Read the Image Pixel Module; what is missing or no number is 0."""
    bits_allocated = _integer(attributes, "00280100")
    return PixelDescription(
        rows=_integer(attributes, "00280010"),
        columns=_integer(attributes, "00280011"),
        samples_per_pixel=max(_integer(attributes, "00280002", 1), 1),
        bits_allocated=bits_allocated,
        bits_stored=_integer(attributes, "00280101", bits_allocated),
        high_bit=_integer(attributes, "00280102", max(bits_allocated - 1, 0)),
        pixel_representation=_integer(attributes, "00280103"),
        photometric_interpretation=str(_first(attributes, "00280004") or "").strip(),
        planar_configuration=_integer(attributes, "00280006"),
        number_of_frames=max(_integer(attributes, "00280008", 1), 1),
    )


def _first(attributes: Attributes, tag: str) -> Any:  # noqa: ANN401 - a JSON value
    values = attributes.get(tag, {}).get("Value") or [None]
    return values[0]


def _integer(attributes: Attributes, tag: str, default: int = 0) -> int:
    value = _first(attributes, tag)
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**31 else default


def native_frames(
    pixels: PixelElement, description: PixelDescription, *, inflated: bool
) -> tuple[FrameTable | None, str]:
    """Divide native pixel data by arithmetic; return the table and what is odd, if anything."""
    bits = _FLOAT_BITS.get(pixels.tag, description.bits_allocated)
    samples = description.samples_per_pixel
    if description.photometric_interpretation in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        samples = 2  # two chroma samples serve two pixels (PS3.3 §C.7.6.3.1.2)
    frame_bits = description.rows * description.columns * samples * bits
    if not frame_bits or pixels.length is None:
        return None, "the size of a frame cannot be told from Rows, Columns and Bits Allocated"
    held = pixels.length * 8 // frame_bits
    count = min(held, description.number_of_frames)
    remark = (
        ""
        if held >= description.number_of_frames
        else (f"pixel data holds {held} of {description.number_of_frames} frames")
    )
    if not count:
        return None, remark
    table = FrameTable.native(
        start=pixels.offset, frame_bits=frame_bits, number_of_frames=count, inflated=inflated
    )
    return table, remark


def encapsulated_frames(
    buffer: Buffer,
    pixels: PixelElement,
    description: PixelDescription,
    syntax: TransferSyntax,
    extended: Sequence[int],
) -> tuple[FrameTable | None, str]:
    """Divide fragments into frames: by an offset table that can be true, else by looking.

    Parameters
    ----------
    extended
        Extended Offset Table (7FE0,0001), empty when there is none.

    Returns
    -------
    tuple
        The table, and what is odd, if anything.
    """
    fragments = pixels.fragments[1:]  # the first item is the Basic Offset Table
    if not fragments:
        return None, "no fragment holds pixel data"
    wanted = description.number_of_frames
    if syntax.video or wanted == 1:
        return FrameTable.encapsulated(fragments, [0]), ""
    by_table, remark = _by_tables(buffer, pixels.fragments, extended, wanted)
    if by_table is not None:
        return FrameTable.encapsulated(fragments, by_table), remark
    starts = _by_codestreams(buffer, fragments)
    if len(fragments) != wanted and len(starts) == wanted:
        return FrameTable.encapsulated(fragments, starts), remark
    if len(fragments) > wanted:
        return None, f"{len(fragments)} fragments cannot be divided into {wanted} frames"
    if len(fragments) < wanted:
        remark = f"pixel data holds {len(fragments)} of {wanted} frames"
    return FrameTable.encapsulated(fragments, range(len(fragments))), remark


def _by_tables(
    buffer: Buffer, items: Sequence[Span], extended: Sequence[int], wanted: int
) -> tuple[list[int] | None, str]:
    """Divide by an offset table; None when there is none, or none that can be true."""
    remark = ""
    for name, offsets in (("Extended", extended), ("Basic", _basic_offsets(buffer, items[0]))):
        if offsets:
            firsts = _by_offsets(items[1:], offsets)
            if firsts is not None and len(firsts) == wanted:
                return firsts, remark
            remark = f"the {name} Offset Table does not fit the fragments: it was not used"
    return None, remark


def _basic_offsets(buffer: Buffer, item: Span) -> Sequence[int]:
    offset, length = item
    return struct.unpack_from(f"<{length // 4}I", buffer, offset)


def extended_offsets(
    buffer: Buffer, attributes: Attributes, bulk: Sequence[BulkValue]
) -> Sequence[int]:
    """Return the values of the Extended Offset Table, inline or left out of the JSON."""
    element = attributes.get("7FE00001", {})
    raw = b""
    if isinstance(inline := element.get("InlineBinary"), str):
        raw = base64.b64decode(inline)
    elif "BulkDataURI" in element:
        value = next((v for v in bulk if v.path == "7FE00001"), None)
        if value is not None:
            raw = bytes(buffer[value.offset : value.offset + value.length])
    return struct.unpack(f"<{len(raw) // 8}Q", raw[: len(raw) // 8 * 8])


def _by_offsets(fragments: Sequence[Span], offsets: Sequence[int]) -> list[int] | None:
    # Offsets count from the first byte of the first fragment's item header (PS3.5 §A.4).
    origin = fragments[0][0] - 8
    index_at = {offset - 8 - origin: index for index, (offset, _) in enumerate(fragments)}
    firsts = [index_at.get(offset, -1) for offset in offsets]
    if firsts[0] != 0 or -1 in firsts:
        return None
    if any(later <= earlier for earlier, later in pairwise(firsts)):
        return None
    return firsts


def _by_codestreams(buffer: Buffer, fragments: Sequence[Span]) -> list[int]:
    return [
        index
        for index, (offset, length) in enumerate(fragments)
        if bytes(buffer[offset : offset + min(length, 12)]).startswith(_STARTS)
    ]
