"""What a data set says differently in another syntax (PS3.5 §8.2, PS3.3 §C.7.6.1.1.5)."""

import hashlib
import struct
import uuid
from typing import Any, Final

from archive.dicom.instance import PixelDescription
from archive.dicom.rewrite import element_header
from archive.render.attributes import text, values
from archive.render.instance import Changes
from archive.render.native import needs_no_decoder
from archive.render.photometric import decoded_photometric
from archive.render.targets import JPEG_BASELINE, NATIVE_TARGETS

_IMAGE_TYPE: Final = 0x00080008
_SOP_CLASS_UID: Final = "00080016"
_SOP_INSTANCE_UID: Final = 0x00080018
_DERIVATION: Final = 0x00082111
_SOURCE_IMAGES: Final = 0x00082112
_PHOTOMETRIC: Final = 0x00280004
_PLANAR: Final = 0x00280006
_HIGH_BIT: Final = 0x00280102
_LOSSY: Final = 0x00282110
_RATIO: Final = 0x00282112
_METHOD: Final = 0x00282114


def changes(
    stored_syntax_uid: str, description: PixelDescription, target_uid: str
) -> dict[int, tuple[str, bytes]]:
    """Return the attributes of the pixels that a new encoding makes say something else.

    Parameters
    ----------
    stored_syntax_uid
        How the frames are stored.
    description
        What the data set says of them.
    target_uid
        How they are sent.

    Returns
    -------
    dict
        VR and padded value by tag.
    """
    undecoded = needs_no_decoder(stored_syntax_uid)
    if undecoded and target_uid in NATIVE_TARGETS:
        return {}
    changed: dict[int, tuple[str, bytes]] = {}
    photometric = decoded_photometric(stored_syntax_uid, description)
    if target_uid == JPEG_BASELINE and description.samples_per_pixel == 3:
        photometric = "YBR_FULL_422"  # the one colour space of lossy JPEG (PS3.5 Table 8.2.1-1)
    if photometric != description.photometric_interpretation:
        changed[_PHOTOMETRIC] = ("CS", _padded(photometric))
    if description.samples_per_pixel > 1:
        changed[_PLANAR] = ("US", struct.pack("<H", 0))
    if undecoded and description.high_bit != description.bits_stored - 1:
        # Codestreams have no unused bits below: the stored ones were moved down.
        changed[_HIGH_BIT] = ("US", struct.pack("<H", description.bits_stored - 1))
    return changed


def lossy_changes(
    attributes: dict[str, Any], digest: bytes, target_uid: str, ratio: float
) -> Changes:
    """Return what makes an instance the lossy derivation of a stored one.

    It is another image: its UID is another one, but the same whenever it is asked for.

    Parameters
    ----------
    attributes
        DICOM JSON of the stored instance.
    digest
        Of its data set.
    ratio
        How much smaller the pixels became, about.
    """
    seed = hashlib.blake2s(digest + target_uid.encode(), digest_size=16).digest()
    instance_uid = f"2.25.{uuid.UUID(bytes=seed, version=4).int}"
    image_type = ["DERIVED", *_texts(attributes, "00080008")[1:]]
    if len(image_type) == 1:
        image_type.append("PRIMARY")
    ratios = [*_texts(attributes, f"{_RATIO:08X}"), f"{ratio:.4g}"]
    methods = [*_texts(attributes, f"{_METHOD:08X}"), "ISO_10918_1"]
    changed = {
        _IMAGE_TYPE: ("CS", _padded("\\".join(image_type))),
        _SOP_INSTANCE_UID: ("UI", _padded(instance_uid, b"\0")),
        _LOSSY: ("CS", b"01"),
        _RATIO: ("DS", _padded("\\".join(ratios))),
        _METHOD: ("CS", _padded("\\".join(methods))),
    }
    if not values(attributes, f"{_DERIVATION:08X}"):
        description = f"Lossy compression with JPEG baseline, about {ratio:.3g} to 1"
        changed[_DERIVATION] = ("ST", _padded(description))
    if not values(attributes, f"{_SOURCE_IMAGES:08X}"):
        changed[_SOURCE_IMAGES] = ("SQ", _source_item(attributes))
    return changed


def _texts(attributes: dict[str, Any], tag: str) -> list[str]:
    found = values(attributes, tag)
    return ["" if value is None else str(value) for value in found]


def _padded(value: str, padding: bytes = b" ") -> bytes:
    encoded = value.encode("ascii", "replace")
    return encoded + padding * (len(encoded) % 2)


def _source_item(attributes: dict[str, Any]) -> bytes:
    """Return the item that names the instance this one was made from (PS3.3 §C.12.4.1.2)."""
    purpose = _item(
        _element(0x00080100, "SH", "121320")
        + _element(0x00080102, "SH", "DCM")
        + _element(0x00080104, "LO", "Uncompressed predecessor")
    )
    return _item(
        _element(0x00081150, "UI", text(attributes, _SOP_CLASS_UID))
        + _element(0x00081155, "UI", text(attributes, f"{_SOP_INSTANCE_UID:08X}"))
        + element_header(0x0040A170, "SQ", len(purpose), implicit=False)
        + purpose
    )


def _element(tag: int, vr: str, value: str) -> bytes:
    encoded = _padded(value, b"\0" if vr == "UI" else b" ")
    return element_header(tag, vr, len(encoded), implicit=False) + encoded


def _item(content: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) + content
