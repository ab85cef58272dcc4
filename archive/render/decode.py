"""From the bytes of one frame to its stored values (PS3.5 §8, §10, Annex A).

Decoders are called directly: pydicom's wrapper costs half a millisecond a frame, and converts
colour in ways that cost five. Codestream headers are looked at before anything is decoded, so
that one that lies about its size is refused, not allocated for.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from archive.dicom.instance import PixelDescription
from archive.dicom.transfer_syntax import transfer_syntax
from archive.errors import InvalidInstanceError, NotAcceptableError
from archive.render.codecs import (
    decode_jpeg,
    decode_jpeg2000,
    decode_jpeg_ls,
    decode_jpeg_xl,
    decode_rle,
)

Pixels = npt.NDArray[Any]
_ROOT: Final = "1.2.840.10008.1.2."
_DEFLATED_FRAME: Final = _ROOT + "8.1"
_ENCAPSULATED_UNCOMPRESSED: Final = _ROOT + "1.98"
_422: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """Stored values, and the colour space they are in after decoding.

    Parameters
    ----------
    pixels
        Shape (rows, columns), or (rows, columns, samples) colour-by-pixel.
    photometric_interpretation
        As PS3.3 §C.7.6.3.1.2; a decoder may have turned YBR into RGB.
    """

    pixels: Pixels
    photometric_interpretation: str


_Codec = Callable[[bytes, PixelDescription], tuple[Pixels, str]]
_CODECS: Final[dict[str, _Codec]] = {
    _ROOT + "5": decode_rle,
    **{_ROOT + f"4.{n}": decode_jpeg for n in range(50, 71)},
    **{_ROOT + f"4.{n}": decode_jpeg_ls for n in (80, 81)},
    **{_ROOT + f"4.{n}": decode_jpeg2000 for n in (90, 91, 92, 93, 201, 202, 203)},
    **{_ROOT + f"4.{n}": decode_jpeg_xl for n in (110, 111, 112)},
}


def decode_frame(
    frame: bytes,
    description: PixelDescription,
    transfer_syntax_uid: str,
    *,
    bit_offset: int = 0,
    in_words: bool = False,
) -> DecodedFrame:
    """Decode one frame.

    Parameters
    ----------
    frame
        Its bytes: native, or all its fragments joined.
    bit_offset
        For 1-bit native frames: bits of the first byte that belong to the frame before.
    in_words
        The pixel data element is OW: in big endian, 8-bit samples lie swapped in its words.

    Raises
    ------
    InvalidInstanceError
        If the bytes are not what the description and the transfer syntax say.
    NotAcceptableError
        If no installed decoder reads this transfer syntax.
    """
    syntax = transfer_syntax(transfer_syntax_uid)
    if transfer_syntax_uid == _DEFLATED_FRAME:
        frame = _inflate(frame, description)
    elif syntax.encapsulated and transfer_syntax_uid != _ENCAPSULATED_UNCOMPRESSED:
        return _decode_encapsulated(frame, description, transfer_syntax_uid)
    order = ">" if syntax.big_endian else "<"
    if syntax.big_endian and in_words and description.bits_allocated == 8:
        frame = _swapped(frame)
    pixels = _native(frame, description, order, bit_offset=bit_offset)
    return DecodedFrame(pixels, description.photometric_interpretation)


def _decode_encapsulated(
    frame: bytes, description: PixelDescription, transfer_syntax_uid: str
) -> DecodedFrame:
    codec = _CODECS.get(transfer_syntax_uid)
    if codec is None:
        raise NotAcceptableError(
            f"frames of {transfer_syntax(transfer_syntax_uid).name} cannot be decoded here; "
            "ask for them as they are stored"
        )
    pixels, photometric = codec(frame, description)
    wanted = (description.rows, description.columns)
    if pixels.shape[:2] != wanted:
        raise InvalidInstanceError(
            f"the codestream is {pixels.shape[1]} x {pixels.shape[0]} pixels, the data set "
            f"says {wanted[1]} x {wanted[0]}"
        )
    return DecodedFrame(pixels, photometric)


def _swapped(frame: bytes) -> bytes:
    words = np.frombuffer(frame + b"\0" * (len(frame) % 2), np.uint16)
    return words.byteswap().tobytes()


def _inflate(frame: bytes, description: PixelDescription) -> bytes:
    wanted = -(-_frame_bits(description) // 8)
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, wanted + 1)
    except zlib.error as error:
        raise InvalidInstanceError(f"a deflated frame cannot be inflated: {error}") from error


def _frame_bits(description: PixelDescription) -> int:
    samples = description.samples_per_pixel
    if description.photometric_interpretation in _422:
        samples = 2
    return description.rows * description.columns * samples * description.bits_allocated


# -- native ------------------------------------------------------------------------------------


def _native(
    frame: bytes,
    description: PixelDescription,
    order: str,
    *,
    bit_offset: int,
) -> Pixels:
    rows, columns, samples = (
        description.rows,
        description.columns,
        description.samples_per_pixel,
    )
    if description.bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")
        return _shaped(bits[bit_offset:], rows, columns, samples, planar=False)
    kind = _dtype(description, order)
    if description.photometric_interpretation in _422 and samples == 3:
        return _from_422(np.frombuffer(frame, kind), rows, columns)
    count = rows * columns * samples
    if len(frame) < count * kind.itemsize:
        raise InvalidInstanceError(
            f"a frame of {count * kind.itemsize} bytes is expected, {len(frame)} are there"
        )
    values = np.frombuffer(frame, kind, count)
    if order == ">" and kind.itemsize > 1:
        values = values.astype(kind.newbyteorder("<"))
    values = _without_unused_bits(values, description)
    planar = description.planar_configuration == 1
    return _shaped(values, rows, columns, samples, planar=planar)


def _without_unused_bits(values: Pixels, description: PixelDescription) -> Pixels:
    # Above High Bit and below the stored bits lies what is no pixel: overlays, or anything
    # (PS3.5 §8.1.1).
    stored, allocated = description.bits_stored, values.dtype.itemsize * 8
    above = allocated - 1 - description.high_bit
    below = description.high_bit + 1 - stored
    if values.dtype.kind == "f" or not 0 < stored < allocated or above < 0 or below < 0:
        return values
    return (values << above) >> (above + below)


def _dtype(description: PixelDescription, order: str) -> np.dtype[Any]:
    if not description.bits_stored:  # Float and Double Float Pixel Data have none
        return np.dtype(f"{order}f{description.bits_allocated // 8}")
    size = -(-description.bits_allocated // 8)
    if size not in (1, 2, 4, 8):
        raise NotAcceptableError(
            f"pixels of {description.bits_allocated} bits allocated cannot be decoded here"
        )
    return np.dtype(f"{order}{'i' if description.pixel_representation else 'u'}{size}")


def _shaped(values: Pixels, rows: int, columns: int, samples: int, *, planar: bool) -> Pixels:
    count = rows * columns * samples
    if values.size < count:
        raise InvalidInstanceError(f"{count} samples are expected, {values.size} are there")
    values = values[:count]
    if samples == 1:
        return values.reshape(rows, columns)
    if planar:
        return values.reshape(samples, rows, columns).transpose(1, 2, 0)
    return values.reshape(rows, columns, samples)


def _from_422(values: Pixels, rows: int, columns: int) -> Pixels:
    # Y1 Y2 Cb Cr for each two pixels of a row (PS3.3 §C.7.6.3.1.2).
    quads = values[: rows * columns * 2].reshape(-1, 4)
    pixels = np.empty((quads.shape[0], 2, 3), values.dtype)
    pixels[:, 0, 0] = quads[:, 0]
    pixels[:, 1, 0] = quads[:, 1]
    pixels[:, :, 1] = quads[:, 2:3]
    pixels[:, :, 2] = quads[:, 3:4]
    return pixels.reshape(rows, columns, 3)
