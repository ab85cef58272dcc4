"""What the data dictionary says of a tag, as fast as a dict can say it (PS3.6, PS3.5 §7.8)."""

from functools import lru_cache
from typing import Final

from pydicom import datadict
from pydicom._dicom_dict import DicomDictionary

_VRS: Final[dict[int, str]] = {tag: entry[0] for tag, entry in DicomDictionary.items()}
_REPEATING_GROUPS: Final = frozenset({0x50, 0x60, 0x10, 0x20, 0x28, 0x7F})


def public_vr(tag: int) -> str:
    """Return the VR of a standard attribute, "US or SS" and the like included; else ""."""
    known = _VRS.get(tag)
    return known if known is not None else _repeating_vr(tag)


@lru_cache(maxsize=4096)
def _repeating_vr(tag: int) -> str:
    if tag & 0xFFFF == 0:
        return "UL"
    if tag >> 24 not in _REPEATING_GROUPS:
        return ""
    try:
        return str(datadict.dictionary_VR(tag))
    except KeyError:
        return ""


@lru_cache(maxsize=16384)
def private_vr(tag: int, creator: str) -> str:
    """Return the VR that pydicom's private dictionary gives; "" when it has none."""
    try:
        return str(datadict.private_dictionary_VR(tag, creator))
    except KeyError:
        return ""
