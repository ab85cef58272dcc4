"""PNG and GIF unpacked to native frames (PS3.18 Table 10.5.2-1: Transform)."""

import io
import struct
from collections.abc import Callable
from typing import Final

from PIL import Image, ImageSequence, UnidentifiedImageError

from archive.dicom.codestream import ImageHeader
from archive.dicom.part10 import Buffer

_MOST_PIXELS: Final = 64 * 1024 * 1024
_MOST_FRAMES: Final = 10_000
# Pillow's mode of a file, the mode its frames are stored in, samples and bits.
_MODES: Final = {
    "1": ("L", 1, 8),
    "L": ("L", 1, 8),
    "LA": ("L", 1, 8),
    "I;16": ("I;16", 1, 16),
    "I;16B": ("I;16", 1, 16),
    "I": ("I;16", 1, 16),
    "P": ("RGB", 3, 8),
    "PA": ("RGB", 3, 8),
    "RGB": ("RGB", 3, 8),
    "RGBA": ("RGB", 3, 8),
}
_PNG_COLOURS: Final = frozenset({2, 6})


def decode_raster(data: Buffer, sink: Callable[[bytes], None]) -> ImageHeader:
    """Write the frames of a PNG or a GIF, colours by pixel, transparency left out.

    Parameters
    ----------
    sink
        Takes the frames, one by one.

    Raises
    ------
    ValueError
        If it is none, too large, or could not be stored without loss.
    """
    _require_depth(data)
    try:
        with Image.open(io.BytesIO(bytes(data)), formats=("PNG", "GIF")) as image:
            return _frames(image, sink)
    except (UnidentifiedImageError, OSError, SyntaxError, struct.error, EOFError) as error:
        raise ValueError(f"the image cannot be read: {error}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"the image is too large: {error}") from error


def _require_depth(data: Buffer) -> None:
    """Refuse what Pillow would round: 16 bits a colour."""
    head = bytes(data[:26])
    if head.startswith(b"\x89PNG") and len(head) == 26:
        depth, colours = head[24], head[25]
        if depth == 16 and colours in _PNG_COLOURS:
            raise ValueError("a PNG of 16 bits a colour cannot be stored without loss")


def _frames(image: Image.Image, sink: Callable[[bytes], None]) -> ImageHeader:
    columns, rows = image.size
    count = getattr(image, "n_frames", 1)
    if columns * rows > _MOST_PIXELS or max(rows, columns) > 65535 or count > _MOST_FRAMES:
        raise ValueError(f"an image of {columns} x {rows}, {count} frames is too large")
    if image.mode not in _MODES:
        raise ValueError(f"an image of mode {image.mode} is not stored")
    mode, samples, bits = _MODES[image.mode]
    if count > 1 and image.format == "GIF":
        mode, samples, bits = "RGB", 3, 8  # frames may have palettes of their own
    for frame in ImageSequence.Iterator(image):
        sink(frame.convert(mode).tobytes())
        if image.format == "PNG":
            break
    return ImageHeader(
        transfer_syntaxes=(),
        rows=rows,
        columns=columns,
        samples_per_pixel=samples,
        photometric_interpretation="RGB" if samples == 3 else "MONOCHROME2",
        bits_stored=bits,
        number_of_frames=count if image.format == "GIF" else 1,
        frame_time_ms=float(image.info.get("duration") or 100) if count > 1 else 0.0,
    )
