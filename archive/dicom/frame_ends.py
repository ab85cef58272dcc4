"""Where frames end that do not say so themselves: RLE and Deflate (PS3.5 Annex G, §8.2.16)."""

import struct
import zlib
from typing import Final

from archive.dicom.part10 import Buffer

_HEADER_BYTES: Final = 64
_INFLATED_AT_ONCE: Final = 1 << 20


def split_rle(data: Buffer, segment_bytes: int) -> list[tuple[int, int]]:
    """Divide frames that follow one another; return where each begins and ends.

    Parameters
    ----------
    segment_bytes
        How many bytes each segment unpacks to: one a pixel, or a bit.

    Raises
    ------
    ValueError
        If they cannot be told apart.
    """
    if segment_bytes <= 0:
        raise ValueError("Rows and Columns are needed to find where a frame ends")
    spans: list[tuple[int, int]] = []
    position = 0
    try:
        while position + _HEADER_BYTES <= len(data):
            end = _end_of_frame(data, position, segment_bytes)
            spans.append((position, end))
            position = end + (end - position) % 2
    except (IndexError, struct.error):
        raise ValueError("the last frame is cut short") from None
    return spans


def _end_of_frame(data: Buffer, start: int, segment_bytes: int) -> int:
    count, *offsets = struct.unpack_from("<16I", data, start)
    if not 1 <= count <= 15 or offsets[0] != _HEADER_BYTES:
        raise ValueError("a frame has no RLE header")
    return _end_of_segment(data, start + offsets[count - 1], segment_bytes)


def _end_of_segment(data: Buffer, position: int, segment_bytes: int) -> int:
    unpacked = 0
    while unpacked < segment_bytes:
        code = data[position]
        if code < 128:
            unpacked += code + 1
            position += code + 2
        elif code > 128:
            unpacked += 257 - code
            position += 2
        else:
            position += 1
    return position


def split_deflated(data: Buffer) -> list[tuple[int, int]]:
    """Divide deflated frames that follow one another; return where each begins and ends.

    Raises
    ------
    ValueError
        If they cannot be told apart.
    """
    spans: list[tuple[int, int]] = []
    position = 0
    while position < len(data) and not (spans and len(data) - position == 1):
        end = _end_of_deflated(data, position)
        spans.append((position, end))
        position = end + (end - position) % 2
    return spans


def _end_of_deflated(data: Buffer, start: int) -> int:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    pending: Buffer = data[start:]
    try:
        while not inflater.eof and pending:
            inflater.decompress(pending, _INFLATED_AT_ONCE)
            pending = inflater.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"a frame cannot be inflated: {error}") from None
    if not inflater.eof:
        raise ValueError("the last frame is cut short")
    return len(data) - len(inflater.unused_data)
