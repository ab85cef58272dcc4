"""What holds inside one data set or item, and the VRs that follow from it.

Character set, sign and private creators (PS3.5 §6.1.2, §7.8.1, §A.1).
"""

from dataclasses import dataclass, field
from typing import Final

from archive.dicom.charset import Decoder, decoder
from archive.dicom.dictionary import private_vr, public_vr

UNDEFINED: Final = 0xFFFFFFFF
PIXEL_TAGS: Final = frozenset({0x7FE00010, 0x7FE00008, 0x7FE00009})
# An encapsulated document is asked for by its address, however short it is.
ALWAYS_BULK: Final = PIXEL_TAGS | {0x00420011}


@dataclass(slots=True)
class Scope:
    """What holds inside one data set or item."""

    path: str
    implicit: bool
    depth: int = 0
    decode: Decoder = field(default_factory=lambda: decoder(()))
    signed: bool = False
    creators: dict[int, str] = field(default_factory=dict)

    def inner(self, path: str, *, implicit: bool) -> "Scope":
        """Return the scope of an item: it begins with what holds outside."""
        return Scope(path, implicit, self.depth + 1, self.decode, self.signed)

    def known_vr(self, tag: int) -> str:
        """Return the VR of an attribute that was written as UN; "UN" when nobody knows."""
        vr = self._private_vr(tag) if tag >> 16 & 1 else public_vr(tag)
        return vr if len(vr) == 2 and vr != "SQ" else "UN"

    def implied_vr(self, tag: int, length: int) -> str:
        """Return the VR of an attribute in implicit VR; its length decides among several."""
        vr = self._private_vr(tag) if tag >> 16 & 1 else public_vr(tag)
        if len(vr) == 2:
            return vr
        if not vr:
            return "UL" if tag & 0xFFFF == 0 else "UN"
        if length == UNDEFINED and tag in PIXEL_TAGS:
            return "OB"  # fragments (PS3.5 §A.4)
        if vr == "US or SS" or (vr == "US or SS or OW" and length <= 4):
            return "SS" if self.signed else "US"
        if vr == "US or OW":
            return "US" if length == 2 else "OW"
        return "OW"  # "OB or OW": implicit VR knows only words (PS3.5 §A.1)

    def _private_vr(self, tag: int) -> str:
        if 0x10 <= tag & 0xFFFF <= 0xFF:
            return "LO"  # a private creator (PS3.5 §7.8.1)
        creator = self.creators.get(tag & 0xFFFFFF00)
        return private_vr(tag, creator) if creator is not None else ""
