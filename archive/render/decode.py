"""From the bytes of one frame to its stored values (PS3.5 §8, §10, Annex A).

Decoders are called directly: pydicom's wrapper costs half a millisecond a frame, and converts
colour in ways that cost five. Codestream headers are looked at before anything is decoded, so
that one that lies about its size is refused, not allocated for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from archive.dicom.instance import PixelDescription
from archive.dicom.transfer_syntax import transfer_syntax
from archive.errors import InvalidInstanceError, NotAcceptableError
from archive.render.codecs import (
    decode_htj2k,
    decode_jpeg,
    decode_jpeg2000,
    decode_jpeg_ls,
    decode_jpeg_xl,
    decode_rle,
)
from archive.render.native import SUBSAMPLED, little_endian_frame, needs_no_decoder
from archive.render.photometric import decoded_photometric

Pixels = npt.NDArray[Any]
_ROOT: Final = "1.2.840.10008.1.2."


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """Stored values, and the colour space they are in after decoding.

    Parameters
    ----------
    pixels
        Shape (rows, columns), or (rows, columns, samples) colour-by-pixel.
    photometric_interpretation
        As PS3.3 §C.7.6.3.1.2; a decoder may have turned YBR into RGB.
    is_displayed
        Whether the pixels are displayed values already, 8 bits of grey or RGB.
    """

    pixels: Pixels
    photometric_interpretation: str
    is_displayed: bool = False


_Codec = Callable[[bytes, PixelDescription], Pixels]
_CODECS: Final[dict[str, _Codec]] = {
    _ROOT + "5": decode_rle,
    **{_ROOT + f"4.{n}": decode_jpeg for n in range(50, 71)},
    **{_ROOT + f"4.{n}": decode_jpeg_ls for n in (80, 81)},
    **{_ROOT + f"4.{n}": decode_jpeg2000 for n in (90, 91, 92, 93, 203)},
    **{_ROOT + f"4.{n}": decode_htj2k for n in (201, 202)},
    **{_ROOT + f"4.{n}": decode_jpeg_xl for n in (110, 111, 112)},
}


def decode_frame(
    frame: bytes, description: PixelDescription, transfer_syntax_uid: str
) -> DecodedFrame:
    """Decode one frame.

    Parameters
    ----------
    frame
        Its bytes: all its fragments joined, or native, little endian and from a byte's start.

    Raises
    ------
    InvalidInstanceError
        If the bytes are not what the description and the transfer syntax say.
    NotAcceptableError
        If no installed decoder reads this transfer syntax.
    """
    photometric = decoded_photometric(transfer_syntax_uid, description)
    if needs_no_decoder(transfer_syntax_uid):
        plain = little_endian_frame(frame, description, transfer_syntax_uid)
        return DecodedFrame(_native(plain, description), photometric)
    codec = _CODECS.get(transfer_syntax_uid)
    if codec is None:
        raise NotAcceptableError(
            f"frames of {transfer_syntax(transfer_syntax_uid).name} cannot be decoded here; "
            "ask for them as they are stored"
        )
    pixels = _widened(codec(frame, description), description)
    wanted = (description.rows, description.columns)
    if pixels.shape[:2] != wanted:
        raise InvalidInstanceError(
            f"the codestream is {pixels.shape[1]} x {pixels.shape[0]} pixels, the data set "
            f"says {wanted[1]} x {wanted[0]}"
        )
    return DecodedFrame(pixels, photometric)


def _widened(pixels: Pixels, description: PixelDescription) -> Pixels:
    # A codestream of 8 bits may stand for samples that have 16 allocated.
    size = description.bits_allocated // 8
    if pixels.dtype.itemsize >= size or pixels.dtype.kind == "f":
        return pixels
    return pixels.astype(f"<{pixels.dtype.kind}{size}")


# -- native ------------------------------------------------------------------------------------


def _native(frame: bytes, description: PixelDescription) -> Pixels:
    rows, columns, samples = (
        description.rows,
        description.columns,
        description.samples_per_pixel,
    )
    if description.bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")
        return _shaped(bits, rows, columns, samples, planar=False)
    values = np.frombuffer(frame, _dtype(description))
    if description.photometric_interpretation in SUBSAMPLED and samples == 3:
        return _from_422(values, rows, columns)
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
    if values.dtype.kind == "u" and not below:
        greatest = values.dtype.type((1 << stored) - 1)
        # Hardly ever is anything there, and to look is cheaper than to copy.
        if values.size and values.max() <= greatest:
            return values
        masked: Pixels = values & greatest
        return masked
    return (values << above) >> (above + below)


def _dtype(description: PixelDescription) -> np.dtype[Any]:
    if not description.bits_stored:  # Float and Double Float Pixel Data have none
        return np.dtype(f"<f{description.bits_allocated // 8}")
    size = -(-description.bits_allocated // 8)
    if size not in (1, 2, 4, 8):
        raise NotAcceptableError(
            f"pixels of {description.bits_allocated} bits allocated cannot be decoded here"
        )
    return np.dtype(f"<{'i' if description.pixel_representation else 'u'}{size}")


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
