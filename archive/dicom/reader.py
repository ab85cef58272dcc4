"""The structure of a data set: headers of elements, items and fragments (PS3.5 §7).

What the walker and the rewriter both need, and nothing of what they make of the values.
"""

import struct
from typing import Final, NamedTuple

from archive.dicom.dictionary import LONG_VRS, SHORT_VRS, VRS, public_vr
from archive.dicom.instance import AttributeWarning
from archive.dicom.part10 import Buffer
from archive.dicom.scope import Scope
from archive.errors import InvalidInstanceError

DEEPEST: Final = 64
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
_MOST_WARNINGS: Final = 100


class Element(NamedTuple):  # made for every element: a frozen dataclass costs three times this
    """A header that was read."""

    tag: int
    vr: str
    length: int
    at: int
    value_at: int


class DataSetReader:
    """Reads headers.

    Parameters
    ----------
    buffer
        The object, or the inflated data set.
    implicit, big_endian
        How it is encoded; whether VRs are written is looked at, since senders lie.
    """

    def __init__(self, buffer: Buffer, *, implicit: bool, big_endian: bool = False) -> None:
        self._buffer = buffer
        self._implicit = implicit
        self._order = ">" if big_endian else "<"
        self._tag_and_vr = struct.Struct(self._order + "HH2sH")
        self._tag_and_length = struct.Struct(self._order + "HHI")
        self._length = struct.Struct(self._order + "I")
        self._warnings: list[AttributeWarning] = []
        self._warned = 0

    def _look_at_encoding(self, start: int) -> bool:
        if start + 8 > len(self._buffer):
            return self._implicit
        written = bytes(self._buffer[start + 4 : start + 6]) in VRS
        if written and self._implicit:
            (length,) = self._length.unpack_from(self._buffer, start + 4)
            if start + 8 + length > len(self._buffer):
                self._warn("", "the transfer syntax says implicit VR, but VRs are written")
                return False
        elif not written and not self._implicit and self._reads_as_implicit(start):
            self._warn("", "the transfer syntax says explicit VR, but no VRs are written")
            return True
        return self._implicit

    def _reads_as_implicit(self, start: int) -> bool:
        group, element, length = self._tag_and_length.unpack_from(self._buffer, start)
        return bool(public_vr(group << 16 | element)) and length < len(self._buffer) - start

    def _header(self, at: int, end: int, scope: Scope) -> Element:
        if scope.implicit:
            group, number, length = self._tag_and_length.unpack_from(self._buffer, at)
            tag = group << 16 | number
            if group == 0xFFFE:
                return Element(tag, "", length, at, at + 8)
            return Element(tag, scope.implied_vr(tag, length), length, at, at + 8)
        group, number, raw_vr, length = self._tag_and_vr.unpack_from(self._buffer, at)
        tag = group << 16 | number
        vr = VRS.get(raw_vr)
        if vr is None:
            return self._odd_header(tag, raw_vr, at, end)
        if vr not in LONG_VRS:
            return Element(tag, vr, length, at, at + 8)
        if at + 12 > end:
            raise self._cut_short(tag, at)
        (length,) = self._length.unpack_from(self._buffer, at + 8)
        return Element(tag, vr, length, at, at + 12)

    def _odd_header(self, tag: int, raw_vr: bytes, at: int, end: int) -> Element:
        if tag >> 16 == 0xFFFE:
            (length,) = self._length.unpack_from(self._buffer, at + 4)
            return Element(tag, "", length, at, at + 8)
        # Unknown letters: a future VR has a 32-bit length (PS3.5 §6.2.2); broken letters stand
        # before the 16-bit one that was meant. What follows tells which.
        candidates = []
        if at + 12 <= end:
            (long_length,) = self._length.unpack_from(self._buffer, at + 8)
            candidates.append((at + 12, long_length))
        (short_length,) = struct.unpack_from(self._order + "H", self._buffer, at + 6)
        candidates.insert(0 if not raw_vr.isalpha() else 1, (at + 8, short_length))
        for value_at, length in candidates:
            if self._follows(tag, value_at + length, end):
                self._warn(f"{tag:08X}", "its VR is none of the standard's")
                return Element(tag, self._guessed_vr(tag), length, at, value_at)
        raise InvalidInstanceError(
            f"expected a value representation of two letters, found {raw_vr.hex(' ')}",
            offset=at + 4,
            tag=f"{tag:08X}",
        )

    def _follows(self, tag: int, at: int, end: int) -> bool:
        if at == end:
            return True
        if at + 8 > end:
            return False
        group, number, raw_vr, _ = self._tag_and_vr.unpack_from(self._buffer, at)
        following = group << 16 | number
        return following > tag and (raw_vr in VRS or group == 0xFFFE)

    def _guessed_vr(self, tag: int) -> str:
        vr = public_vr(tag)
        return vr if vr in SHORT_VRS else "UN"

    def fragments(
        self, position: int, end: int, tag_name: str
    ) -> tuple[list[tuple[int, int]], int, bool]:
        """Read the items of encapsulated pixel data (PS3.5 §A.4), the offset table first.

        Returns
        -------
        tuple
            Offset and length of each, where the next element begins, and whether the
            delimiter was there.
        """
        fragments: list[tuple[int, int]] = []
        unpack = self._tag_and_length.unpack_from
        while position + 8 <= end:
            group, number, length = unpack(self._buffer, position)
            tag = group << 16 | number
            if tag == SEQUENCE_END:
                return fragments, position + 8, True
            if tag != ITEM:
                if not fragments:
                    break
                # The next attribute, where the delimiter was forgotten.
                return fragments, position, False
            if position + 8 + length > end:
                raise InvalidInstanceError(
                    f"fragment {len(fragments)} of {length} bytes runs past the end: "
                    f"only {end - position - 8} are left",
                    offset=position,
                    tag=tag_name,
                )
            fragments.append((position + 8, length))
            position += 8 + length
        if not fragments:
            raise InvalidInstanceError(
                "encapsulated pixel data without a fragment", offset=position, tag=tag_name
            )
        return fragments, end, False

    # -- faults ----------------------------------------------------------------------------

    def _warn(self, tag: str, message: str) -> None:
        self._warned += 1
        if len(self._warnings) < _MOST_WARNINGS:
            self._warnings.append(AttributeWarning(tag, message))

    def _cut_short(self, tag: int, at: int) -> InvalidInstanceError:
        return InvalidInstanceError(
            "the object ends inside the header of an element: it is truncated",
            offset=at,
            tag=f"{tag:08X}",
        )

    def _runs_past(self, element: Element, end: int) -> InvalidInstanceError:
        return InvalidInstanceError(
            f"a value of {element.length} bytes runs past the end: only "
            f"{end - element.value_at} are left; the object is truncated, or the length wrong",
            offset=element.at,
            tag=f"{element.tag:08X}",
        )
