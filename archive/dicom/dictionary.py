"""What the data dictionary says of a tag, as fast as a dict can say it (PS3.6, PS3.5 §7.8)."""

from functools import lru_cache
from typing import Final

from pydicom import datadict
from pydicom._dicom_dict import DicomDictionary

_VR_OF: Final[dict[int, str]] = {tag: entry[0] for tag, entry in DicomDictionary.items()}
_REPEATING_GROUPS: Final = frozenset({0x50, 0x60, 0x10, 0x20, 0x28, 0x7F})

# VRs whose length has 32 bits where VRs are written, and 16 bits (PS3.5 §7.1.2).
LONG_VRS: Final = frozenset(
    {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
)
SHORT_VRS: Final = frozenset(
    [
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FL",
        "FD",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "SL",
        "SS",
        "ST",
        "TM",
        "UI",
        "UL",
        "US",
    ]
)
VRS: Final = {vr.encode(): vr for vr in LONG_VRS | SHORT_VRS}
# VRs whose length has 16 bits, so that no value of theirs is left out of the JSON.
PLAIN_VRS: Final = {vr.encode(): vr for vr in SHORT_VRS}
# Those of standard attributes that have one and no other, where no VR is written.
PLAIN_PUBLIC_VRS: Final = {tag: vr for tag, vr in _VR_OF.items() if vr in SHORT_VRS}
_NAMES: Final[dict[int, str]] = {}
_MOST_NAMES: Final = 50_000


def tag_name(tag: int) -> str:
    """Return a tag as eight upper-case digits, remembered: formatting costs five look-ups."""
    name = _NAMES.get(tag)
    if name is None:
        name = f"{tag:08X}"
        if len(_NAMES) < _MOST_NAMES:  # hostile tags must not fill the memory
            _NAMES[tag] = name
    return name


def public_vr(tag: int) -> str:
    """Return the VR of a standard attribute, "US or SS" and the like included; else ""."""
    known = _VR_OF.get(tag)
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
