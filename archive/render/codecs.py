"""The compressed syntaxes, each by the library that reads it best."""

import contextlib
import importlib
import io
import struct
from collections.abc import Callable
from typing import Any, Final

import jpeg_ls
import libjpeg
import numpy as np
import numpy.typing as npt
import openjpeg
from PIL import Image
from rle.utils import decode_frame as decode_rle_frame

from archive.dicom.instance import PixelDescription
from archive.errors import InvalidInstanceError, NotAcceptableError
from archive.render.targets import has_codecs

Pixels = npt.NDArray[Any]

_BASELINE: Final = frozenset({0xC0, 0xC1})
_LOSSLESS: Final = 0xC3
_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}


def _refuse(name: str, error: Exception) -> InvalidInstanceError:
    return InvalidInstanceError(f"a {name} frame cannot be decoded: {error}")


def _require_size(rows: int, columns: int, description: PixelDescription, name: str) -> None:
    if (rows, columns) != (description.rows, description.columns):
        raise InvalidInstanceError(
            f"the {name} codestream says {columns} x {rows} pixels, the data set "
            f"{description.columns} x {description.rows}: it is not decoded"
        )


# -- RLE ---------------------------------------------------------------------------------------


def decode_rle(frame: bytes, description: PixelDescription) -> Pixels:
    """Decode RLE (PS3.5 Annex G); of 1-bit pixels the packed bytes are what is encoded."""
    shape = (description.samples_per_pixel, description.rows, description.columns)
    count = description.rows * description.columns
    if description.bits_allocated == 1:
        packed = _rle_bytes(frame, -(-count // 8), 8)
        return np.unpackbits(packed, count=count, bitorder="little").reshape(shape[1:])
    planes = _rle_bytes(frame, count, description.bits_allocated)
    sign = "i" if description.pixel_representation else "u"
    values = planes.view(f"<{sign}{description.bits_allocated // 8}")
    if values.size != shape[0] * count:
        raise InvalidInstanceError(
            "an RLE frame holds another number of samples than it should"
        )
    pixels = values.reshape(shape)
    return pixels[0] if description.samples_per_pixel == 1 else pixels.transpose(1, 2, 0)


def _rle_bytes(frame: bytes, count: int, bits: int) -> npt.NDArray[np.uint8]:
    try:
        return np.frombuffer(decode_rle_frame(frame, count, bits, "<"), np.uint8)
    except (ValueError, IndexError) as error:
        raise _refuse("RLE", error) from error


# -- JPEG --------------------------------------------------------------------------------------


def _jpeg_header(frame: bytes) -> tuple[int, int, int, int, int]:
    """Return marker, precision, rows, columns and components of the frame header."""
    position = frame.find(b"\xff\xd8") + 2
    while 2 <= position <= len(frame) - 10:
        if frame[position] != 0xFF:
            position += 1
            continue
        marker = frame[position + 1]
        if marker in _FRAME_HEADERS:
            return (marker, *struct.unpack_from(">BHHB", frame, position + 4))
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:
            position += 1 if marker == 0xFF else 2
            continue
        position += 2 + struct.unpack_from(">H", frame, position + 2)[0]
    raise InvalidInstanceError("a JPEG frame has no frame header: it is no JPEG, or truncated")


def decode_jpeg(frame: bytes, description: PixelDescription) -> Pixels:
    """Decode JPEG, lossy and lossless (PS3.5 §A.4.1, §A.4.2).

    Grey baseline by Pillow, everything else by libjpeg, and what that refuses (12-bit
    extended, hierarchical) by imagecodecs where it is installed. Colours are those of the
    codestream: YBR stays YBR.
    """
    marker, precision, rows, columns, components = _jpeg_header(frame)
    _require_size(rows, columns, description, "JPEG")
    if components != description.samples_per_pixel:
        raise InvalidInstanceError(
            f"the JPEG codestream has {components} components, the data set says "
            f"{description.samples_per_pixel} samples per pixel"
        )
    if marker in _BASELINE and precision == 8 and components == 1:
        # Four times as fast as libjpeg, and equal to it where no chroma is interpolated.
        return _decode_grey(frame, description)
    if marker == _LOSSLESS and components == 1 and has_codecs():
        # Five times as fast as libjpeg, and equal to it.
        with contextlib.suppress(InvalidInstanceError):
            return _signed(_optional("jpeg8_decode", frame, "JPEG", None), description)
    try:
        pixels = libjpeg.decode(frame, 0)
    except (RuntimeError, ValueError, TypeError) as error:
        pixels = _optional("jpeg8_decode", frame, f"JPEG of {precision} bits", error)
    return _signed(pixels, description)


def _decode_grey(frame: bytes, description: PixelDescription) -> Pixels:
    try:
        with Image.open(io.BytesIO(frame)) as image:
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise _refuse("JPEG", error) from error
    return _signed(pixels, description)


def _signed(pixels: Pixels, description: PixelDescription) -> Pixels:
    """Read the decoder's unsigned values as the data set's signed ones."""
    if not description.pixel_representation or pixels.dtype.kind == "i":
        return pixels
    signed = pixels.view(pixels.dtype.str.replace("u", "i"))
    shift = pixels.dtype.itemsize * 8 - description.bits_stored
    return (signed << shift) >> shift if shift > 0 else signed


# -- JPEG-LS -----------------------------------------------------------------------------------


def decode_jpeg_ls(frame: bytes, description: PixelDescription) -> Pixels:
    """Decode JPEG-LS, lossless and near-lossless (PS3.5 §A.4.3)."""
    _, _, rows, columns, components = _jpeg_header(frame)
    _require_size(rows, columns, description, "JPEG-LS")
    try:
        pixels: Pixels = jpeg_ls.decode(np.frombuffer(frame, np.uint8))
    except (RuntimeError, ValueError) as error:
        raise _refuse("JPEG-LS", error) from error
    if components == 3 and pixels.shape[0] == 3 and pixels.shape[-1] != 3:
        pixels = pixels.transpose(1, 2, 0)
    return _signed(pixels, description)


# -- JPEG 2000 and HTJ2K -----------------------------------------------------------------------


def _jpeg2000_size(frame: bytes) -> tuple[int, int]:
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 24 > len(frame):
        raise InvalidInstanceError("a JPEG 2000 frame has no size marker: it is no JPEG 2000")
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    return bottom - top, right - left


def decode_jpeg2000(frame: bytes, description: PixelDescription) -> Pixels:
    """Decode JPEG 2000 and HTJ2K (PS3.5 §A.4.4, §A.4.8)."""
    _require_size(*_jpeg2000_size(frame), description, "JPEG 2000")
    try:
        pixels: Pixels = openjpeg.decode(frame)
    except (RuntimeError, ValueError) as error:
        raise _refuse("JPEG 2000", error) from error
    return _as_described(pixels, description)


def _as_described(pixels: Pixels, description: PixelDescription) -> Pixels:
    # The codestream has a sign of its own; where it differs, the data set decides how the
    # bits are read (PS3.5 §A.4.4).
    if description.pixel_representation and pixels.dtype.kind == "u":
        return _signed(pixels, description)
    if not description.pixel_representation and pixels.dtype.kind == "i":
        unsigned = pixels.view(pixels.dtype.str.replace("i", "u"))
        mask = (1 << description.bits_stored) - 1
        masked: Pixels = unsigned & unsigned.dtype.type(mask)
        return masked
    return pixels


def decode_htj2k(frame: bytes, description: PixelDescription) -> Pixels:
    """Decode HTJ2K without loss (PS3.5 §A.4.8); grey twice as fast where the extra is there."""
    if description.samples_per_pixel == 1 and has_codecs():
        _require_size(*_jpeg2000_size(frame), description, "HTJ2K")
        with contextlib.suppress(InvalidInstanceError):
            return _as_described(_optional("htj2k_decode", frame, "HTJ2K", None), description)
    return decode_jpeg2000(frame, description)


# -- JPEG XL, and what only the optional extra reads -------------------------------------------


def _jpeg_xl_size(frame: bytes) -> tuple[int, int]:
    """Return rows and columns (ISO/IEC 18181-1 §D.2, SizeHeader)."""
    start = frame.find(b"\xff\x0a")
    if start < 0 or start + 12 > len(frame):
        raise InvalidInstanceError("a JPEG XL frame has no signature: it is no JPEG XL")
    bits = int.from_bytes(frame[start + 2 : start + 12], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    small = bool(take(1))

    def length() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    rows = length()
    ratio = take(3)
    if not ratio:
        return rows, length()
    over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return rows, rows * over // under


def decode_jpeg_xl(frame: bytes, description: PixelDescription) -> Pixels:
    """Decode JPEG XL (PS3.5 §A.4.12), by the optional extra."""
    rows, columns = _jpeg_xl_size(frame)
    _require_size(rows, columns, description, "JPEG XL")
    pixels = _optional("jpegxl_decode", frame, "JPEG XL", None)
    return _signed(pixels, description)


def _optional(function: str, frame: bytes, name: str, refused: Exception | None) -> Pixels:
    try:
        decode: Callable[[bytes], Pixels] = getattr(
            importlib.import_module("imagecodecs"), function
        )
    except (ImportError, AttributeError) as error:
        raise NotAcceptableError(
            f"{name} is not decoded by what is installed; install fileroom[codecs]"
        ) from (refused or error)
    try:
        return decode(frame)
    except Exception as error:
        raise _refuse(name, error) from error
