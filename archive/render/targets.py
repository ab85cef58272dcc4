"""What may be asked for: stored syntaxes that can be decoded, syntaxes that can be written.

Looked at before an answer begins, so without the decoders: nothing here imports one.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

from archive.dicom.instance import PixelDescription
from archive.dicom.transfer_syntax import (
    DEFLATED_LITTLE_ENDIAN,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    transfer_syntax,
)

_ROOT: Final = "1.2.840.10008.1.2."
RLE: Final = _ROOT + "5"
JPEG_BASELINE: Final = _ROOT + "4.50"
JPEG_LOSSLESS: Final = _ROOT + "4.70"
JPEG_LS: Final = _ROOT + "4.80"
JPEG_2000: Final = _ROOT + "4.90"
HTJ2K: Final = _ROOT + "4.201"

# What frames can be made into; JPEG Baseline only from 8 bits, and with loss.
TARGETS: Final = frozenset(
    {EXPLICIT_LITTLE_ENDIAN, RLE, JPEG_BASELINE, JPEG_LOSSLESS, JPEG_LS, JPEG_2000, HTJ2K}
)
NATIVE_TARGETS: Final = frozenset({EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN})
_ENCAPSULATED_UNCOMPRESSED: Final = _ROOT + "1.98"
_PAPYRUS: Final = "1.2.840.10008.1.20"
_DEFLATED_FRAME: Final = _ROOT + "8.1"
# Written, and read, by the optional extra alone.
_WRITTEN_BY_EXTRA: Final = frozenset({HTJ2K, JPEG_LOSSLESS})
_JPEG_XL: Final = frozenset(_ROOT + f"4.{n}" for n in (110, 111, 112))
_DECODABLE: Final = frozenset(
    {
        EXPLICIT_LITTLE_ENDIAN,
        IMPLICIT_LITTLE_ENDIAN,
        DEFLATED_LITTLE_ENDIAN,
        EXPLICIT_BIG_ENDIAN,
        _PAPYRUS,
        _ENCAPSULATED_UNCOMPRESSED,
        _DEFLATED_FRAME,
        RLE,
        *(
            _ROOT + f"4.{n}"
            for n in (*range(50, 67), 70, 80, 81, 90, 91, 92, 93, 201, 202, 203)
        ),
        *_JPEG_XL,
    }
)
# RLE has room for the offsets of fifteen segments, one for each byte of a pixel (PS3.5 §G.5).
_MOST_RLE_SEGMENTS: Final = 15


@lru_cache(maxsize=1)
def has_codecs() -> bool:
    """Tell whether the optional extra ``codecs`` is installed."""
    return find_spec("imagecodecs") is not None


def refusal(
    stored_syntax_uid: str, description: PixelDescription | None, target_uid: str
) -> str:
    """Return why an instance cannot be had in another transfer syntax; "" when it can.

    A codestream that is broken is only found when it is decoded.

    Parameters
    ----------
    stored_syntax_uid
        How it is stored.
    description
        Its pixels; None when it has no frames.
    target_uid
        How it is wanted.
    """
    if target_uid not in TARGETS | NATIVE_TARGETS:
        return (
            f"nothing is transcoded to {transfer_syntax(target_uid).name} ({target_uid}); "
            f"available are {', '.join(sorted(TARGETS))} and the stored one"
        )
    if description is None:
        return (
            ""
            if target_uid in NATIVE_TARGETS
            else "an instance without frames is not encapsulated"
        )
    return _undecodable(stored_syntax_uid) or _unwritable(description, target_uid)


def embedded_overlay(attributes: Mapping[str, Any]) -> bool:
    """Tell whether an overlay lies in the unused bits of Pixel Data (PS3.5 §8.1.2, retired)."""
    return any(
        tag[:2] == "60"
        and tag[4:] == "0102"
        and (element.get("Value") or [0])[0] != 0
        and f"{tag[:4]}3000" not in attributes
        for tag, element in attributes.items()
    )


def _undecodable(stored_syntax_uid: str) -> str:
    stored = transfer_syntax(stored_syntax_uid)
    if stored_syntax_uid not in _DECODABLE:
        return f"{stored.name} is not decoded here; it is available as stored"
    if stored_syntax_uid in _JPEG_XL and not has_codecs():
        return f"{stored.name} is not decoded by what is installed; install fileroom[codecs]"
    return ""


def _unwritable(description: PixelDescription, target_uid: str) -> str:
    """Return why pixels like these are not written so (PS3.5 §8.2)."""
    if target_uid in NATIVE_TARGETS:
        return ""
    name = transfer_syntax(target_uid).name
    if target_uid in _WRITTEN_BY_EXTRA and not has_codecs():
        return f"{name} is not written by what is installed; install fileroom[codecs]"
    if not description.bits_stored:
        return f"float pixel data is not written as {name}"
    if target_uid == RLE:
        segments = description.samples_per_pixel * description.bits_allocated // 8
        fits = not description.bits_allocated % 8 and segments <= _MOST_RLE_SEGMENTS
        return (
            ""
            if fits
            else f"pixels of {description.bits_allocated} bits are not written as {name}"
        )
    return _unwritable_image(description, target_uid, name)


def _unwritable_image(description: PixelDescription, target_uid: str, name: str) -> str:
    bits = description.bits_allocated
    if bits not in (8, 16) or description.bits_stored > bits:
        return f"pixels of {bits} bits allocated are not written as {name}"
    if description.samples_per_pixel not in (1, 3):
        return f"pixels of {description.samples_per_pixel} samples are not written as {name}"
    if target_uid in (JPEG_LS, JPEG_LOSSLESS) and description.bits_stored < 2:
        return f"pixels of one bit stored are not written as {name}"
    if target_uid == JPEG_BASELINE and (
        bits != 8
        or description.bits_stored != 8
        or description.pixel_representation
        or description.photometric_interpretation == "PALETTE COLOR"
    ):
        return f"only unsigned grey and colour pixels of 8 bits are written as {name}"
    return ""
