"""Stored values to frames of another transfer syntax, without loss (PS3.5 §8, Annex A)."""

import importlib
import io
from collections.abc import Callable
from typing import Any, Final

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

# Below these, what is always installed fails: it makes its buffer too small, or insists on six
# resolutions.
_LEAST_JPEG_LS_BYTES: Final = 1024
_LEAST_JPEG_2000_SIDE: Final = 32
_JPEG_QUALITY: Final = 95


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
        case "1.2.840.10008.1.2.4.70":
            encoded = _jpeg_lossless(pixels, description)
        case "1.2.840.10008.1.2.4.80":
            encoded = _jpeg_ls(pixels, description)
        case "1.2.840.10008.1.2.4.90":
            encoded = _jpeg_2000(pixels, description)
        case "1.2.840.10008.1.2.4.201":
            encoded = _htj2k(pixels, description)
        case "1.2.840.10008.1.2.4.50":
            encoded = _jpeg(pixels, decoded.photometric_interpretation)
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


def _needed_bits(pixels: npt.NDArray[Any], description: PixelDescription) -> int:
    """Return how many bits hold every sample: Bits Stored, or more where it is not true."""
    if pixels.dtype.kind == "i":
        span = max(int(pixels.max()), -1 - int(pixels.min()))
        return max(description.bits_stored, span.bit_length() + 1)
    return max(description.bits_stored, int(pixels.max()).bit_length())


def _without_sign(pixels: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    # JPEG and JPEG-LS know no sign: the bits are written as they are (PS3.5 §A.4.1, §A.4.3).
    unsigned = pixels.view(pixels.dtype.str.replace("i", "u"))
    masked: npt.NDArray[Any] = unsigned & unsigned.dtype.type((1 << bits) - 1)
    return masked


def _jpeg_lossless(pixels: npt.NDArray[Any], description: PixelDescription) -> bytes:
    """Encode JPEG Lossless, selection value 1 (PS3.5 §A.4.2), colours as they are."""
    # Its encoder takes 2 to 8 bits from bytes, and 9 to 16 from words.
    least = 2 if pixels.dtype.itemsize == 1 else 9
    bits = max(_needed_bits(pixels, description), least)
    return _by_extra(
        "jpeg8_encode",
        _without_sign(pixels, bits),
        "JPEG Lossless",
        lossless=True,
        predictor=1,
        bitspersample=bits,
        **({"colorspace": "RGB", "outcolorspace": "RGB"} if pixels.ndim == 3 else {}),
    )


def _jpeg_ls(pixels: npt.NDArray[Any], description: PixelDescription) -> bytes:
    bits = _needed_bits(pixels, description)
    unsigned = _without_sign(pixels, bits)
    if unsigned.nbytes < _LEAST_JPEG_LS_BYTES:
        return _by_extra("jpegls_encode", unsigned, "so small a frame as JPEG-LS")
    try:
        return bytes(
            jpeg_ls.encode_buffer(
                unsigned.tobytes(),
                rows=description.rows,
                columns=description.columns,
                samples_per_pixel=description.samples_per_pixel,
                bits_stored=bits,
                interleave_mode=2,
            )
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise NotAcceptableError(f"this frame cannot be written as JPEG-LS: {error}") from error


def _jpeg_2000(pixels: npt.NDArray[Any], description: PixelDescription) -> bytes:
    bits = _needed_bits(pixels, description)
    if min(pixels.shape[:2]) < _LEAST_JPEG_2000_SIDE:
        smallest = min(pixels.shape[:2])
        return _by_extra(
            "jpeg2k_encode",
            pixels,
            "so small a frame as JPEG 2000",
            codecformat="J2K",
            reversible=True,
            mct=False,
            bitspersample=bits,
            resolutions=smallest.bit_length(),
        )
    try:
        return bytes(
            encode_array(
                pixels,
                bits_stored=bits,
                photometric_interpretation=1 if pixels.ndim == 3 else 2,
                use_mct=False,
            )
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise NotAcceptableError(
            f"this frame cannot be written as JPEG 2000: {error}"
        ) from error


def _by_extra(function: str, pixels: npt.NDArray[Any], what: str, **options: object) -> bytes:
    try:
        encode: Callable[..., bytes] = getattr(importlib.import_module("imagecodecs"), function)
    except (ImportError, AttributeError) as error:
        raise NotAcceptableError(
            f"what is installed does not write {what}; install fileroom[codecs]"
        ) from error
    try:
        return bytes(encode(pixels, **options))
    except (RuntimeError, ValueError, TypeError) as error:
        raise NotAcceptableError(f"this frame cannot be written: {error}") from error


def _htj2k(pixels: npt.NDArray[Any], description: PixelDescription) -> bytes:
    """Encode HTJ2K; the encoder knows depths of 8 and 16 bits only, so the depth is set after.

    Samples of fewer bits are moved down by half their range and written as signed: then the
    codestream is that of unsigned ones, but for the depth that it names (ISO/IEC 15444-1
    §A.5.1, §G.1.2).
    """
    bits, depth = _needed_bits(pixels, description), pixels.dtype.itemsize * 8
    if bits == depth:
        return _by_extra("htj2k_encode", pixels, "HTJ2K", rgb=False, reversible=True)
    signed = pixels
    if pixels.dtype.kind == "u":
        kind = pixels.dtype.str.replace("u", "i")
        signed = pixels.astype(kind) - np.dtype(kind).type(1 << (bits - 1))
    encoded = bytearray(_by_extra("htj2k_encode", signed, "HTJ2K", rgb=False, reversible=True))
    size = encoded.index(b"\xff\x4f\xff\x51")
    for component in range(description.samples_per_pixel):
        sign = 0x80 if pixels.dtype.kind == "i" else 0
        encoded[size + 42 + 3 * component] = sign | (bits - 1)
    return bytes(encoded)


def _jpeg(pixels: npt.NDArray[Any], photometric: str) -> bytes:
    output = io.BytesIO()
    # Colours are written as YBR_FULL_422, the one way lossy JPEG has (PS3.5 Table 8.2.1-1).
    mode = "YCbCr" if photometric.startswith("YBR") else None
    image = Image.frombytes(
        mode or ("L" if pixels.ndim == 2 else "RGB"), pixels.shape[1::-1], pixels.tobytes()
    )
    image.save(output, "JPEG", quality=_JPEG_QUALITY, subsampling="4:2:2")
    return output.getvalue()
