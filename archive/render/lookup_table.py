"""Lookup tables of the standard, in one shape (PS3.3 §C.11.1, §C.11.2, §C.7.6.3)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from archive.render.attributes import Attributes, ReadBulk, binary, numbers

_DESCRIPTOR: Final = "00283002"
_DATA: Final = "00283006"
_PALETTE_DESCRIPTORS: Final = ("00281101", "00281102", "00281103")
_PALETTE_DATA: Final = ("00281201", "00281202", "00281203")
_PALETTE_SEGMENTS: Final = ("00281221", "00281222", "00281223")
MAX_ENTRIES: Final = 65536


@dataclass(frozen=True, slots=True)
class LookupTable:
    """One output value for each input value from ``first_mapped`` on.

    Parameters
    ----------
    first_mapped
        The input of the first entry; smaller inputs take it, larger than the last the last.
    entries
        Unsigned 16-bit little endian, at least one.
    bits
        How many bits of an entry count: the greatest output is ``2**bits - 1``.
    """

    first_mapped: int
    entries: bytes
    bits: int

    @property
    def length(self) -> int:
        """Number of entries."""
        return len(self.entries) // 2


@dataclass(frozen=True, slots=True)
class Palette:
    """The three tables of PALETTE COLOR (PS3.3 §C.7.6.3.1.5)."""

    red: LookupTable
    green: LookupTable
    blue: LookupTable


def lookup_table(item: Attributes, read_bulk: ReadBulk, *, signed: bool) -> LookupTable | None:
    """Read an item of a Modality or VOI LUT Sequence (PS3.3 §C.11.1.1, §C.11.2.1.1).

    Parameters
    ----------
    item
        The item, as DICOM JSON.
    read_bulk
        Gives the bytes of a bulk data path.
    signed
        Whether the input is signed, which the VR of the descriptor does not always say.

    Returns
    -------
    LookupTable or None
        ``None`` when descriptor or data are missing or do not fit each other.
    """
    return _table(numbers(item, _DESCRIPTOR), binary(item, _DATA, read_bulk), signed=signed)


def palette(attributes: Attributes, read_bulk: ReadBulk) -> Palette | None:
    """Read the palette color lookup tables, plain or segmented (PS3.3 §C.7.9).

    Returns
    -------
    Palette or None
        ``None`` unless all three tables are there.
    """
    tables = []
    for descriptor_tag, data_tag, segments_tag in zip(
        _PALETTE_DESCRIPTORS, _PALETTE_DATA, _PALETTE_SEGMENTS, strict=True
    ):
        descriptor = numbers(attributes, descriptor_tag)
        data = binary(attributes, data_tag, read_bulk)
        if not data and len(descriptor) == 3:
            segments = binary(attributes, segments_tag, read_bulk)
            data = expand_segments(segments, bits=int(descriptor[2]))
        tables.append(_table(descriptor, data, signed=False))
    red, green, blue = tables
    if red is None or green is None or blue is None:
        return None
    return Palette(red, green, blue)


def _table(descriptor: Sequence[float], data: bytes, *, signed: bool) -> LookupTable | None:
    if len(descriptor) < 3 or not data:
        return None
    # 65536 entries do not fit a US value and are written as 0 (PS3.3 §C.11.1.1).
    length = int(descriptor[0]) & 0xFFFF or MAX_ENTRIES
    first_mapped = int(descriptor[1])
    if signed and first_mapped > 0x7FFF:
        first_mapped -= 0x10000
    entries = _widened(data, length)
    if len(entries) < 2:
        return None
    bits = min(max(int(descriptor[2]), 1), 16)
    return LookupTable(first_mapped, entries, _bits_used(entries, bits))


def _widened(data: bytes, length: int) -> bytes:
    # Eight-bit entries may be written two to a word (PS3.3 §C.7.6.3.1.6): then the data is
    # as long as the table, or one byte of padding longer.
    if length > 1 and len(data) <= length + length % 2:
        words = bytearray(2 * len(data))
        words[::2] = data
        return bytes(words[: 2 * length])
    return data[: 2 * min(length, len(data) // 2)]


def _bits_used(entries: bytes, bits: int) -> int:
    # Writers put 16 over tables that hold 8-bit values (all then black) and the reverse (all
    # then white): the entries decide when the descriptor cannot be true.
    low, high = max(entries[::2], default=0), max(entries[1::2], default=0)
    greatest = high << 8 | (0xFF if high else low)
    if bits > 8 and not high and low > 0:
        return 8
    return bits if greatest < 1 << bits else greatest.bit_length()


def expand_segments(segments: bytes, *, bits: int) -> bytes:
    """Expand segmented palette data to plain 16-bit entries (PS3.3 §C.7.9.2).

    Parameters
    ----------
    segments
        Discrete, linear and indirect segments; bytes when ``bits`` is 8, else 16-bit words.
    bits
        The third value of the descriptor.

    Returns
    -------
    bytes
        Unsigned 16-bit little endian entries, empty when a segment cannot be understood.
    """
    size = 1 if bits <= 8 else 2
    count = len(segments) // size
    words = struct.unpack(f"<{count}{'B' if size == 1 else 'H'}", segments[: count * size])
    try:
        entries = _Segments(words, word_bytes=size).expand()
    except (IndexError, ValueError):
        return b""
    return struct.pack(f"<{len(entries)}H", *entries)


class _Segments:
    """The segments of one colour while they are read."""

    def __init__(self, words: Sequence[int], *, word_bytes: int) -> None:
        self._words = words
        self._word_bytes = word_bytes
        self._entries: list[int] = []

    def expand(self) -> list[int]:
        position = 0
        # A zero pads an odd number of bytes; a segment has at least three words.
        while position + 2 < len(self._words):
            position = self._segment(position)
        return self._entries

    def _segment(self, position: int) -> int:
        code, length = self._words[position], self._words[position + 1]
        if code == 0:
            return self._discrete(position, length)
        if code == 1:
            return self._linear(position, length)
        if code == 2:
            return self._indirect(position, length)
        raise ValueError(f"segment code {code}")

    def _discrete(self, position: int, length: int) -> int:
        self._extend(self._words[position + 2 : position + 2 + length])
        return position + 2 + length

    def _linear(self, position: int, length: int) -> int:
        start, end = self._entries[-1], self._words[position + 2]
        step = (end - start) / length if length else 0.0
        self._extend([round(start + step * (index + 1)) for index in range(length)])
        return position + 3

    def _indirect(self, position: int, length: int) -> int:
        # The offset has 32 bits in two or four words, least significant first, and counts
        # bytes from the beginning of the data.
        offset_words = 4 // self._word_bytes
        parts = self._words[position + 2 : position + 2 + offset_words]
        shift = 8 * self._word_bytes
        offset = sum(part << shift * index for index, part in enumerate(parts))
        target = offset // self._word_bytes
        for _ in range(length):
            # An indirect segment never points at another: recursion without end is no table.
            if self._words[target] == 2:
                raise ValueError("an indirect segment points at an indirect segment")
            target = self._segment(target)
        return position + 2 + offset_words

    def _extend(self, entries: Sequence[int]) -> None:
        if len(self._entries) + len(entries) > MAX_ENTRIES:
            raise ValueError("more entries than a table has")
        self._entries.extend(entries)
