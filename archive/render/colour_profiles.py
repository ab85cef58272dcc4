"""ICC profiles of rendered images, and conversion between them (PS3.18 §8.3.5.1.5).

The profiles of the well-known colour spaces are made here: three primaries and one curve
describe each of them (ICC.1:2010, version 2 display profiles).
"""

import io
import struct
from functools import lru_cache
from typing import Final

from PIL import Image, ImageCms

from archive.render.options import ColourSpace

_D50: Final = (0.9642, 1.0, 0.8249)
# Columns of red, green and blue in XYZ, adapted to D50; the exponent of the curve, or 0 for
# the curve of sRGB.
_SPACES: Final[dict[str, tuple[str, tuple[tuple[float, float, float], ...], float]]] = {
    "srgb": (
        "sRGB IEC61966-2.1",
        (
            (0.43607, 0.22249, 0.01392),
            (0.38515, 0.71687, 0.09708),
            (0.14307, 0.06061, 0.71410),
        ),
        0.0,
    ),
    "adobergb": (
        "Adobe RGB (1998) compatible",
        (
            (0.60974, 0.31111, 0.01947),
            (0.20528, 0.62567, 0.06087),
            (0.14919, 0.06322, 0.74457),
        ),
        563 / 256,
    ),
    "rommrgb": (
        "ROMM RGB (ISO 22028-2)",
        (
            (0.79767, 0.28804, 0.0),
            (0.13519, 0.71188, 0.0),
            (0.03134, 0.00009, 0.82491),
        ),
        1.8,
    ),
    "displayp3": (
        "Display P3",
        (
            (0.51512, 0.24120, -0.00105),
            (0.29198, 0.69225, 0.04189),
            (0.15710, 0.06657, 0.78407),
        ),
        0.0,
    ),
}
_CURVE_POINTS: Final = 1024


def with_profile(
    image: Image.Image, wanted: ColourSpace, source: bytes
) -> tuple[Image.Image, bytes]:
    """Return the image in a colour space, and the profile that says so.

    Parameters
    ----------
    wanted
        ``yes`` keeps the colours and names their space.
    source
        The profile of the image's colours; empty or unusable: sRGB.
    """
    colour = image if image.mode == "RGB" else image.convert("RGB")
    has_profile = is_usable(source)
    if wanted == "yes":
        return colour, source if has_profile else named_profile("srgb")
    target = named_profile(wanted)
    if not has_profile and wanted == "srgb":
        return colour, target
    return _converted(colour, source if has_profile else named_profile("srgb"), target), target


def is_usable(profile: bytes) -> bool:
    """Tell whether ``profile`` is an ICC profile of RGB colours."""
    if profile[12:16] not in (b"scnr", b"mntr", b"spac") or profile[16:20] != b"RGB ":
        return False
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, ValueError, ImageCms.PyCMSError):
        return False
    return True


def _converted(image: Image.Image, source: bytes, target: bytes) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image,
        io.BytesIO(source),
        io.BytesIO(target),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    return image if converted is None else converted


@lru_cache
def named_profile(name: str) -> bytes:
    """Return the ICC profile of a well-known colour space: a name of ``iccprofile``."""
    description, primaries, exponent = _SPACES[name]
    curve = _curve(exponent)
    tags = [
        (b"desc", _description(description)),
        (b"cprt", b"text\0\0\0\0No copyright, use freely\0"),
        (b"wtpt", _xyz(_D50)),
        *((tag, _xyz(xyz)) for tag, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries,
                                               strict=True)),
        *((tag, curve) for tag in (b"rTRC", b"gTRC", b"bTRC")),
    ]  # fmt: skip
    return _profile(tags)


def _profile(tags: list[tuple[bytes, bytes]]) -> bytes:
    offset = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for signature, content in tags:
        table += signature + struct.pack(">II", offset + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s6H4sI4sIIQI3I4s44x",
        offset + len(data),
        b"\0\0\0\0",
        0x02400000,
        b"mntr",
        b"RGB ",
        b"XYZ ",
        *(2026, 1, 1, 0, 0, 0),
        b"acsp",
        0,
        b"\0\0\0\0",
        0,
        0,
        0,
        0,
        *(round(value * 65536) for value in _D50),
        b"\0\0\0\0",
    )
    return header + table + data


def _description(text: str) -> bytes:
    # An ASCII string, then empty Unicode and Macintosh ones.
    ascii_text = text.encode("ascii") + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(ascii_text)) + ascii_text + bytes(78)


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(exponent: float) -> bytes:
    if exponent:
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256))
    points = [_srgb(index / (_CURVE_POINTS - 1)) for index in range(_CURVE_POINTS)]
    return b"curv\0\0\0\0" + struct.pack(
        f">I{_CURVE_POINTS}H", _CURVE_POINTS, *(round(point * 65535) for point in points)
    )


def _srgb(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
