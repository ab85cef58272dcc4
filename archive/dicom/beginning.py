"""What the first elements of a data set tell of it, before the rest is read.

A data set that comes over the wire has no header of its own: how it is encoded and what it is
are said beside it, and what is said may be wrong. Its beginning shows.
"""

import zlib
from dataclasses import dataclass
from typing import Final, Literal

from archive.dicom.dictionary import LONG_VRS, VRS, public_vr
from archive.dicom.part10 import PREAMBLE, Buffer, read_file_meta
from archive.dicom.transfer_syntax import (
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    TransferSyntax,
    transfer_syntax,
)
from archive.errors import InvalidInstanceError

# SOP Instance UID stands among the first elements; nothing behind it is looked at.
LOOKED_AT_BYTES: Final = 4096
_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_Order = Literal["little", "big"]
_PLAIN: Final = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN)


@dataclass(frozen=True, slots=True)
class Beginning:
    """What can be seen.

    Parameters
    ----------
    transfer_syntax_uid
        The syntax that was claimed, or the one that the first element is in instead.
    sop_class_uid, sop_instance_uid
        Of the data set; empty where they cannot be seen.
    """

    transfer_syntax_uid: str
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


def embedded_header(data: Buffer) -> bool | None:
    """Tell whether a data set is a file after all, header and all (PS3.10 §7.1).

    Returns
    -------
    bool or None
        True: preamble, prefix and File Meta Information; False: File Meta Information
        without them; None: neither, or no transfer syntax in it.
    """
    has_preamble = bytes(data[128:132]) == PREAMBLE[128:]
    if not has_preamble and bytes(data[:2]) != b"\x02\x00":
        return None
    try:
        read_file_meta(data)
    except InvalidInstanceError:
        return None
    return has_preamble


def look_at_beginning(data: Buffer, claimed_syntax_uid: str) -> Beginning:
    """Look at the first elements of a data set.

    Parameters
    ----------
    data
        The data set, or as much of it as there is.
    claimed_syntax_uid
        How it is said to be encoded.
    """
    seen = bytes(data[:LOOKED_AT_BYTES])
    uid = _syntax_shown(seen, claimed_syntax_uid)
    syntax = transfer_syntax(uid)
    if syntax.deflated:
        seen = _inflated(seen)
    found = _uids(seen, implicit=syntax.implicit, order=_order(syntax))
    return Beginning(uid, found.get(_SOP_CLASS_UID, ""), found.get(_SOP_INSTANCE_UID, ""))


def _syntax_shown(seen: bytes, claimed: str) -> str:
    syntax = transfer_syntax(claimed)
    if syntax.deflated:
        # Deflated bytes look like anything; a group and VR that fit are no accident.
        return EXPLICIT_LITTLE_ENDIAN if _begins_in(seen, EXPLICIT_LITTLE_ENDIAN) else claimed
    if claimed not in _PLAIN or _begins_in(seen, claimed):
        return claimed
    return next((uid for uid in _PLAIN if _begins_in(seen, uid)), claimed)


def _begins_in(seen: bytes, uid: str) -> bool:
    """Tell whether the first element is one of group 0008 in this syntax."""
    syntax = transfer_syntax(uid)
    if len(seen) < 8 or int.from_bytes(seen[:2], _order(syntax)) != 0x0008:
        return False
    vr = VRS.get(seen[4:6])
    if not syntax.implicit:
        return vr is not None
    # As a length, two letters are 16 KiB and more: no first element is so long.
    return vr is None or vr != public_vr(0x00080000 | int.from_bytes(seen[2:4], "little"))


def _order(syntax: TransferSyntax) -> _Order:
    return "big" if syntax.big_endian else "little"


def _inflated(seen: bytes) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(seen, LOOKED_AT_BYTES)
    except zlib.error:
        return b""


def _uids(seen: bytes, *, implicit: bool, order: _Order) -> dict[int, str]:
    found: dict[int, str] = {}
    position = 0

    def number(at: int, count: int) -> int:
        return int.from_bytes(seen[at : at + count], order)

    while position + 8 <= len(seen):
        tag = number(position, 2) << 16 | number(position + 2, 2)
        value_at, length = position + 8, number(position + 4, 4)
        if not implicit:
            vr = VRS.get(seen[position + 4 : position + 6])
            length = number(position + 6, 2)
            if vr in LONG_VRS:
                value_at, length = position + 12, number(position + 8, 4)
        position = value_at + length
        if tag > _SOP_INSTANCE_UID or position > len(seen):
            break
        if tag in (_SOP_CLASS_UID, _SOP_INSTANCE_UID):
            found[tag] = seen[value_at:position].decode("ascii", "replace").strip("\0 ")
    return found
