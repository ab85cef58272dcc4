"""What a film says of itself: MP4 (ISO/IEC 14496-12) and MPEG-2 (ITU-T H.262)."""

import struct
from collections.abc import Iterator
from typing import Final

from archive.dicom.codestream import ImageHeader
from archive.dicom.part10 import Buffer

_ROOT: Final = "1.2.840.10008.1.2.4."
_CONTAINERS: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
_DEEPEST: Final = 8
_MPEG_RATES: Final = (0, 24000 / 1001, 24, 25, 30000 / 1001, 30, 50, 60000 / 1001, 60)
_SCAN_BYTES: Final = 1 << 20
_COLOURS: Final = "YBR_PARTIAL_420"

Box = tuple[bytes, int, int]


def read_film_header(data: Buffer) -> ImageHeader:
    """Read the size, the length and the coding of a film.

    Raises
    ------
    ValueError
        If it is none that could be stored.
    """
    try:
        if bytes(data[4:8]) in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
            return _mp4(data)
        return _mpeg_2(data)
    except (IndexError, struct.error):
        raise ValueError("the film is cut short or none") from None


def _boxes(data: Buffer, start: int, end: int) -> Iterator[Box]:
    position = start
    while position + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, position)
        content = position + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, content)
            content += 8
        after = end if length == 0 else position + length
        if after <= position or after > end:
            return
        yield kind, content, after
        position = after


def _tracks(data: Buffer) -> Iterator[dict[bytes, tuple[int, int]]]:
    """Yield the boxes of each track, by name."""
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"moov":
            for inner, at, after in _boxes(data, start, end):
                if inner == b"trak":
                    yield dict(_leaves(data, at, after, 0))


def _leaves(
    data: Buffer, start: int, end: int, depth: int
) -> Iterator[tuple[bytes, tuple[int, int]]]:
    for kind, at, after in _boxes(data, start, end):
        if kind in _CONTAINERS and depth < _DEEPEST:
            yield from _leaves(data, at, after, depth + 1)
        else:
            yield kind, (at, after)


def _mp4(data: Buffer) -> ImageHeader:
    if bytes(data[8:12]) == b"qt  ":
        raise ValueError("a QuickTime film is not stored; make it an MP4")
    for boxes in _tracks(data):
        if {b"stsd", b"stts", b"mdhd"} <= set(boxes) and b"vmhd" in boxes:
            return _video_track(data, boxes)
    raise ValueError("the MP4 has no video track, or its index is missing")


def _video_track(data: Buffer, boxes: dict[bytes, tuple[int, int]]) -> ImageHeader:
    entry = boxes[b"stsd"][0] + 8
    length, coding = struct.unpack_from(">I4s", data, entry)
    columns, rows = struct.unpack_from(">HH", data, entry + 32)
    if not rows or not columns:
        raise ValueError("the MP4 does not say how large its frames are")
    frames, units = _duration(data, boxes[b"stts"][0])
    time_scale = _time_scale(data, boxes[b"mdhd"][0])
    return ImageHeader(
        _mp4_syntaxes(data, coding, entry + 86, entry + length),
        rows,
        columns,
        3,
        _COLOURS,
        8,
        number_of_frames=frames,
        frame_time_ms=1000 * units / time_scale / frames if frames and time_scale else 0.0,
    )


def _duration(data: Buffer, at: int) -> tuple[int, int]:
    (entries,) = struct.unpack_from(">I", data, at + 4)
    frames = units = 0
    for number in range(min(entries, 1 << 20)):
        count, delta = struct.unpack_from(">II", data, at + 8 + 8 * number)
        frames += count
        units += count * delta
    return frames, units


def _time_scale(data: Buffer, at: int) -> int:
    wide = data[at] == 1
    (scale,) = struct.unpack_from(">I", data, at + (20 if wide else 12))
    return int(scale)


def _mp4_syntaxes(data: Buffer, coding: bytes, start: int, end: int) -> tuple[str, ...]:
    inner = {kind: at for kind, at, _ in _boxes(data, start, end)}
    arcs: tuple[str, ...]
    if coding in (b"avc1", b"avc3") and b"avcC" in inner:
        level = data[inner[b"avcC"] + 3]
        arcs = ("102", "102.1", "103", "103.1", "106") if level <= 41 else ("104", "105", "106")
    elif coding in (b"hvc1", b"hev1") and b"hvcC" in inner:
        profile = data[inner[b"hvcC"] + 1] & 0x1F
        arcs = ("107",) if profile == 1 else ("108",)
    else:
        raise ValueError(
            f"an MP4 coded as {coding.decode('ascii', 'replace')} has no transfer syntax"
        )
    return tuple(_ROOT + arc for arc in arcs)


def _mpeg_2(data: Buffer) -> ImageHeader:
    at = bytes(data[:_SCAN_BYTES]).find(b"\x00\x00\x01\xb3")
    if at < 0:
        raise ValueError("the film is neither an MP4 nor an MPEG-2")
    packed = int.from_bytes(bytes(data[at + 4 : at + 8]), "big")
    columns, rows, rate = packed >> 20, packed >> 8 & 0xFFF, packed & 0x0F
    if not rows or not columns or len(data) < at + 8:
        raise ValueError("the MPEG-2 does not say how large its frames are")
    frames = _pictures(data)
    per_second = _MPEG_RATES[rate] if rate < len(_MPEG_RATES) else 0
    arcs = ("100", "100.1", "101", "101.1") if rows <= 576 and columns <= 720 else ("101",)
    return ImageHeader(
        tuple(_ROOT + arc for arc in arcs),
        rows,
        columns,
        3,
        _COLOURS,
        8,
        number_of_frames=frames,
        frame_time_ms=1000 / per_second if per_second else 0.0,
    )


def _pictures(data: Buffer) -> int:
    """Count the picture start codes."""
    count = 0
    for at in range(0, len(data), _SCAN_BYTES):
        count += bytes(data[at : at + _SCAN_BYTES + 3]).count(b"\x00\x00\x01\x00")
    return count
