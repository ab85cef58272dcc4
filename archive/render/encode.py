"""Displayed pixels to image files."""

import io
import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import GifImagePlugin, Image

from archive.render.colour_profiles import with_profile
from archive.render.options import ColourSpace, RenderedMediaType

DEFAULT_QUALITY: Final = 90
Bytes = npt.NDArray[np.uint8]

# Below this quality chroma at half the resolution is not what is seen first.
_FULL_CHROMA_FROM: Final = 80
_COLOURS_OF_A_GIF: Final = 256
# The least delay that viewers keep to; below it they fall back to a tenth of a second.
_SHORTEST_FRAME_MS: Final = 20
_LONGEST_FRAME_MS: Final = 600_000


def encode_image(
    pixels: Bytes,
    media_type: RenderedMediaType,
    quality: int | None = None,
    *,
    colour_space: ColourSpace | None = None,
    icc_profile: bytes = b"",
) -> bytes:
    """Encode grey (rows, columns) or RGB (rows, columns, 3) pixels.

    Parameters
    ----------
    quality
        1 to 100, for JPEG, and for JPEG 2000, which is lossless without it.
    colour_space
        What the colours are converted to and which profile is embedded; None: no profile.
    icc_profile
        The profile the pixels have now, empty when there is none.
    """
    image = Image.fromarray(pixels)
    profile = b""
    if colour_space is not None:
        image, profile = with_profile(image, colour_space, icc_profile)
    output = io.BytesIO()
    embedded = {"icc_profile": profile} if profile else {}
    match media_type:
        case "image/jpeg":
            wanted = quality or DEFAULT_QUALITY
            sampling = 0 if wanted >= _FULL_CHROMA_FROM else 2
            image.save(output, "JPEG", quality=wanted, subsampling=sampling, **embedded)
        case "image/png":
            # Runs alone, after the filters, take three quarters of the time of level 1, and
            # make fewer bytes of grey levels that are never quite the same.
            image.save(output, "PNG", compress_level=1, compress_type=zlib.Z_RLE, **embedded)
        case "image/gif":
            image.save(output, "GIF")
        case "image/jp2":
            image.save(output, "JPEG2000", **_jp2_settings(quality))
            return _jp2_with_profile(output.getvalue(), profile)
    return output.getvalue()


def _jp2_settings(quality: int | None) -> dict[str, object]:
    if quality is None or quality == 100:
        return {"irreversible": False}
    # Signal to noise in dB: from visibly poor at 1 to hardly distinguishable at 99.
    return {
        "irreversible": True,
        "quality_mode": "dB",
        "quality_layers": [25 + quality * 0.3],
    }


def _jp2_with_profile(body: bytes, profile: bytes) -> bytes:
    """Put a restricted ICC profile where the colour space was a number (ISO 15444-1 §I.5.3.3).

    The encoder writes no profile. The box lies in the header box, which grows by the
    difference; nothing in a JP2 file counts bytes from its beginning.
    """
    header, colour = body.find(b"jp2h"), body.find(b"colr")
    if not profile or header < 0 or colour < header:
        return body
    old = int.from_bytes(body[colour - 4 : colour], "big")
    box = b"colr" + bytes([2, 0, 0]) + profile
    box = (len(box) + 4).to_bytes(4, "big") + box
    size = int.from_bytes(body[header - 4 : header], "big") + len(box) - old
    return (
        body[: header - 4]
        + size.to_bytes(4, "big")
        + body[header : colour - 4]
        + box
        + body[colour - 4 + old :]
    )


def encode_animation(frames: Sequence[Bytes], durations_ms: Sequence[float]) -> bytes:
    """Encode frames of one size as an animated GIF that repeats.

    Every frame is kept, equal ones too: who asked for all of them can count them.
    """
    rows, columns = frames[0].shape[:2]
    output = io.BytesIO()
    output.write(b"GIF89a" + columns.to_bytes(2, "little") + rows.to_bytes(2, "little"))
    output.write(b"\x00\x00\x00" + b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
    for pixels, duration in zip(frames, durations_ms, strict=True):
        image = Image.fromarray(pixels)
        if image.mode != "L":
            image = image.quantize(_COLOURS_OF_A_GIF, Image.Quantize.FASTOCTREE)
        bounded = min(max(duration, _SHORTEST_FRAME_MS), _LONGEST_FRAME_MS)
        for block in GifImagePlugin.getdata(
            image, duration=bounded, include_color_table=True, disposal=1
        ):
            output.write(block)
    output.write(b";")
    return output.getvalue()
