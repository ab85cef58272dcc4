"""What compressed images and films say of themselves: enough to file them (PS3.18 §10.5.2).

Reads headers only and decodes nothing. Every position is checked, so that a hostile stream is
an error and not a crash.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from archive.dicom.part10 import Buffer

_ROOT: Final = "1.2.840.10008.1.2.4."
_JP2: Final = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The Image Pixel Description Macro of a stream (PS3.3 Table C.7-11c).

    Parameters
    ----------
    transfer_syntaxes
        Those that a stream like this may be stored in; the first where nobody says.
    number_of_frames
        0 where it is one frame of perhaps many.
    frame_time_ms
        Of a film; 0 where it does not say.
    """

    transfer_syntaxes: tuple[str, ...]
    rows: int
    columns: int
    samples_per_pixel: int
    photometric_interpretation: str
    bits_stored: int
    is_signed: bool = False
    number_of_frames: int = 0
    frame_time_ms: float = 0.0

    @property
    def bits_allocated(self) -> int:
        """Bits Allocated (0028,0100)."""
        return 8 if self.bits_stored <= 8 else 16


def read_image_header(data: Buffer, media_type: str) -> ImageHeader | None:
    """Read the header of a frame or a film; None for a kind that is not read here.

    Raises
    ------
    ValueError
        If it is not what it begins like.
    """
    try:
        if bytes(data[:2]) == b"\xff\xd8":
            return _jpeg(data)
        if bytes(data[:12]) == _JP2 or bytes(data[:4]) == b"\xff\x4f\xff\x51":
            return _jpeg_2000(data[slice(*codestream_span(data))])
    except (IndexError, struct.error):
        raise ValueError(f"the {media_type} is cut short or no such thing") from None
    return None


# -- JPEG and JPEG-LS (ITU-T T.81 Annex B, T.87 Annex C) ---------------------------------------


def _segments(data: Buffer, position: int = 2) -> Iterator[tuple[int, int, int]]:
    """Yield each marker with where its parameters begin and end, up to the first scan."""
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:
            position += 1
        if data[position] != 0xFF:
            raise ValueError("the JPEG has bytes where a marker is expected")
        marker = data[position + 1]
        if marker in _STANDALONE:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if length < 2:
            raise ValueError("the JPEG has a segment without a length")
        yield marker, position + 4, position + 2 + length
        if marker == 0xDA:
            return
        position += 2 + length


def _jpeg(data: Buffer) -> ImageHeader:
    adobe_transform = -1
    header: ImageHeader | None = None
    process = 0
    for marker, at, end in _segments(data):
        if marker == 0xEE and bytes(data[at : at + 5]) == b"Adobe" and end - at >= 12:
            adobe_transform = data[at + 11]
        elif marker in _FRAME_HEADERS:
            process = marker
            header = _jpeg_frame(data, at, marker)
        elif marker == 0xDA and header is not None:
            parameter = data[at + 1 + 2 * data[at]]
            return replace(
                header,
                transfer_syntaxes=_jpeg_syntaxes(process, header.bits_stored, parameter),
                photometric_interpretation=_jpeg_colours(header, process, adobe_transform),
            )
    raise ValueError("the JPEG has no frame header")


def _jpeg_frame(data: Buffer, at: int, marker: int) -> ImageHeader:
    precision, rows, columns, components = struct.unpack_from(">BHHB", data, at)
    if not rows or not columns or components not in (1, 3) or not 2 <= precision <= 16:
        raise ValueError(
            f"a JPEG of {columns} x {rows} with {components} components cannot be stored"
        )
    sampling = {data[at + 7 + 3 * n] for n in range(components)}
    subsampled = "YBR_FULL_422" if len(sampling) > 1 and marker != 0xF7 else "YBR_FULL"
    return ImageHeader((), rows, columns, components, subsampled, precision)


def _jpeg_syntaxes(process: int, precision: int, parameter: int) -> tuple[str, ...]:
    if process == 0xF7:  # the parameter is NEAR
        return (_ROOT + "81",) if parameter else (_ROOT + "80", _ROOT + "81")
    if process == 0xC0 or (process == 0xC1 and precision == 8):
        return (_ROOT + "50", _ROOT + "51")
    if process == 0xC1:
        return (_ROOT + "51",)
    if process == 0xC3:  # the parameter is the predictor
        return (_ROOT + "70", _ROOT + "57") if parameter == 1 else (_ROOT + "57",)
    if process == 0xC2:
        return (_ROOT + "55",)
    raise ValueError(f"a JPEG of process {process:02X} has no transfer syntax that is in use")


def _jpeg_colours(header: ImageHeader, process: int, adobe_transform: int) -> str:
    if header.samples_per_pixel == 1:
        return "MONOCHROME2"
    if process in (0xC3, 0xF7) or adobe_transform == 0:
        return "RGB"
    return header.photometric_interpretation


# -- JPEG 2000 and HTJ2K (ITU-T T.800 Annex A, I; T.814 Annex A) -------------------------------


def codestream_span(data: Buffer) -> tuple[int, int]:
    """Return where the codestream lies in a JP2 file, whose boxes DICOM does not store.

    PS3.5 §8.2.4 allows the codestream alone.
    """
    if bytes(data[:12]) != _JP2:
        return 0, len(data)
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        end = len(data) if length == 0 else position + length
        if kind == b"jp2c":
            return start, min(end, len(data))
        if end <= position:
            break
        position = end
    raise ValueError("the JP2 holds no codestream")


def _jpeg_2000(data: Buffer) -> ImageHeader:
    if bytes(data[:4]) != b"\xff\x4f\xff\x51":
        raise ValueError("the JPEG 2000 codestream does not begin with its size")
    (capabilities,) = struct.unpack_from(">H", data, 6)
    x1, y1, x0, y0 = struct.unpack_from(">4I", data, 8)
    (components,) = struct.unpack_from(">H", data, 40)
    depth = data[42]
    rows, columns = y1 - y0, x1 - x0
    if not 0 < rows < 65536 or not 0 < columns < 65536 or components not in (1, 3):
        raise ValueError(
            f"a JPEG 2000 of {columns} x {rows} with {components} components cannot be stored"
        )
    reversible, mixed = _coding_style(data)
    syntaxes: tuple[str, ...]
    if capabilities & 0x4000:
        syntaxes = ("201", "202", "203") if reversible else ("203",)
    else:
        syntaxes = ("90", "91", "92", "93") if reversible else ("91", "93")
    colours = "MONOCHROME2"
    if components == 3:
        colours = ("YBR_RCT" if reversible else "YBR_ICT") if mixed else "RGB"
    return ImageHeader(
        tuple(_ROOT + arc for arc in syntaxes),
        rows,
        columns,
        components,
        colours,
        (depth & 0x7F) + 1,
        bool(depth & 0x80),
    )


def _coding_style(data: Buffer) -> tuple[bool, bool]:
    """Tell whether the wavelet is reversible, and whether components are mixed."""
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, position)
        if marker == 0xFF52:
            return data[position + 13] == 1, data[position + 8] == 1
        if marker == 0xFF90 or length < 2:
            raise ValueError("the JPEG 2000 codestream does not say how it is coded")
        position += 2 + length


# -- frames one behind the other ---------------------------------------------------------------


def split_frames(data: Buffer) -> list[tuple[int, int]]:
    """Divide codestreams that follow one another; return where each begins and ends.

    Raises
    ------
    ValueError
        If something else than such codestreams is there.
    """
    spans: list[tuple[int, int]] = []
    position = 0
    try:
        while position < len(data):
            if not spans or data[position] == 0xFF:
                end = _end_of_frame(data, position)
                spans.append((position, end))
                position = end
            elif data[position]:
                raise ValueError("bytes that are no codestream stand between two frames")
            else:
                position += 1  # padding to an even length
    except (IndexError, struct.error):
        raise ValueError("the last codestream is cut short") from None
    return spans


def _end_of_frame(data: Buffer, start: int) -> int:
    if bytes(data[start : start + 2]) == b"\xff\xd8":
        return _end_of_jpeg(data, start)
    if bytes(data[start : start + 2]) == b"\xff\x4f":
        return _end_of_jpeg_2000(data, start)
    raise ValueError("a frame begins like no codestream whose end could be found")


def _end_of_jpeg(data: Buffer, start: int) -> int:
    position = start + 2
    while True:
        position = list(_segments(data, position))[-1][2]
        position = _end_of_scan(data, position)
        if data[position + 1] == 0xD9:
            return position + 2


def _end_of_scan(data: Buffer, position: int) -> int:
    """Return where the marker is that ends the entropy-coded bytes."""
    chunk_start = position
    while True:
        chunk = bytes(data[chunk_start : chunk_start + (1 << 16)])
        at = chunk.find(b"\xff")
        if not chunk:
            raise IndexError
        if at < 0:
            chunk_start += len(chunk)
            continue
        position = chunk_start + at
        following = data[position + 1]
        # In JPEG-LS a set bit cannot follow FF; in JPEG a zero byte does, or a restart.
        if following >= 0xC0 and following not in _STANDALONE and following != 0xFF:
            return position
        chunk_start = position + (1 if following == 0xFF else 2)


def _end_of_jpeg_2000(data: Buffer, start: int) -> int:
    position = start + 2
    while True:
        (marker,) = struct.unpack_from(">H", data, position)
        if marker == 0xFFD9:
            return position + 2
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker == 0xFF90:
            (tile_bytes,) = struct.unpack_from(">I", data, position + 6)
            if tile_bytes == 0:
                return len(data)  # up to the end, as its last tile-part says
            length = tile_bytes - 2
        if length < 2:
            raise ValueError("the JPEG 2000 codestream has a segment without a length")
        position += 2 + length
