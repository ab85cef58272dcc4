"""Stored values to frames of another transfer syntax, without loss (PS3.5 §8, Annex A)."""

import importlib
import io
from collections.abc import Callable
from typing import Any

import jpeg_ls
import numpy as np
import numpy.typing as npt
from openjpeg.utils import encode_array
from PIL import Image
from rle.utils import encode_pixel_data

from archive.dicom.instance import PixelDescription
from archive.errors import InvalidInstanceError, NotAcceptableError
from archive.render.decode import DecodedFrame
from archive.render.targets import TARGETS


def encode_frame(
    decoded: DecodedFrame, description: PixelDescription, transfer_syntax_uid: str
) -> bytes:
    """Encode one frame.

    Returns
    -------
    bytes
        Native frames as they lie in Pixel Data, colour-by-pixel, 1-bit ones from a byte's
        start; compressed ones padded to an even length.

    Raises
    ------
    NotAcceptableError
        If frames like this one cannot be written in that transfer syntax.
    """
    pixels = np.ascontiguousarray(decoded.pixels)
    match transfer_syntax_uid:
        case "1.2.840.10008.1.2.1" | "1.2.840.10008.1.2":
            return _native(pixels, description)
        case "1.2.840.10008.1.2.5":
            encoded = encode_pixel_data(
                pixels.tobytes(),
                rows=description.rows,
                columns=description.columns,
                samples_per_pixel=description.samples_per_pixel,
                bits_allocated=_bits(description),
                byteorder="<",
            )
        case "1.2.840.10008.1.2.4.80":
            encoded = _jpeg_ls(pixels)
        case "1.2.840.10008.1.2.4.90":
            encoded = _jpeg_2000(pixels, description)
        case "1.2.840.10008.1.2.4.201":
            encoded = _htj2k(pixels)
        case "1.2.840.10008.1.2.4.50":
            encoded = _jpeg(pixels, description)
        case _:
            raise NotAcceptableError(
                f"frames cannot be transcoded to {transfer_syntax_uid}; "
                f"available are {', '.join(sorted(TARGETS))} and the stored one"
            )
    return bytes(encoded) + b"\0" * (len(encoded) % 2)


def _bits(description: PixelDescription) -> int:
    if description.bits_allocated % 8:
        raise NotAcceptableError(
            f"pixels of {description.bits_allocated} bit cannot be written in that syntax"
        )
    return description.bits_allocated


def _native(pixels: npt.NDArray[Any], description: PixelDescription) -> bytes:
    if description.bits_allocated == 1:
        return np.packbits(pixels.reshape(-1), bitorder="little").tobytes()
    raw = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    wanted = pixels.size * description.bits_allocated // 8
    if len(raw) != wanted:
        raise InvalidInstanceError(
            f"the decoder gave {len(raw)} bytes where the data set has {wanted}"
        )
    return raw


def _jpeg_ls(pixels: npt.NDArray[Any]) -> bytes:
    # JPEG-LS knows no sign: the bits are written as they are (PS3.5 §A.4.3).
    unsigned = pixels.view(pixels.dtype.str.replace("i", "u"))
    try:
        return bytes(jpeg_ls.encode_array(unsigned))
    except (RuntimeError, ValueError, TypeError) as error:
        raise NotAcceptableError(f"this frame cannot be written as JPEG-LS: {error}") from error


def _jpeg_2000(pixels: npt.NDArray[Any], description: PixelDescription) -> bytes:
    try:
        return bytes(
            encode_array(
                pixels,
                bits_stored=description.bits_stored,
                photometric_interpretation=1 if pixels.ndim == 3 else 2,
                use_mct=False,
            )
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise NotAcceptableError(
            f"this frame cannot be written as JPEG 2000: {error}"
        ) from error


def _htj2k(pixels: npt.NDArray[Any]) -> bytes:
    try:
        encode: Callable[..., bytes] = importlib.import_module("imagecodecs").htj2k_encode
    except (ImportError, AttributeError) as error:
        raise NotAcceptableError(
            "HTJ2K is not written by what is installed; install fileroom[codecs]"
        ) from error
    try:
        return bytes(encode(pixels, rgb=False, reversible=True))
    except (RuntimeError, ValueError, TypeError) as error:
        raise NotAcceptableError(f"this frame cannot be written as HTJ2K: {error}") from error


def _jpeg(pixels: npt.NDArray[Any], description: PixelDescription) -> bytes:
    if description.bits_stored > 8 or pixels.dtype != np.uint8:
        raise NotAcceptableError("only unsigned 8-bit frames can be written as JPEG Baseline")
    output = io.BytesIO()
    Image.fromarray(pixels).save(output, "JPEG", quality=95, subsampling=0)
    return output.getvalue()
