"""One pass over a data set: attributes as DICOM JSON, and where everything else lies.

pydicom takes 3 ms of CPU for the JSON of a CT header; this takes a fifteenth of it. pydicom is
the reference: the tests compare the two on every real file there is. The pass copies no bulk
value and touches no page of pixel data but the headers of its fragments.
"""

import base64
from typing import Any, Final

from archive.dicom.charset import decoder, is_known
from archive.dicom.dictionary import PLAIN_PUBLIC_VRS, PLAIN_VRS, public_vr, tag_name
from archive.dicom.instance import Attributes, BulkValue
from archive.dicom.memory import LONGEST_ELEMENT, Memory, memory_of
from archive.dicom.part10 import Buffer
from archive.dicom.reader import DEEPEST, ITEM, ITEM_END, SEQUENCE_END, DataSetReader, Element
from archive.dicom.scope import ALWAYS_BULK, PIXEL_TAGS, UNDEFINED, Scope
from archive.dicom.values import (
    BINARY_NUMBERS,
    BINARY_VRS,
    STRINGS,
    TEXT_VRS,
    little_endian,
    name_values,
    text_values,
)
from archive.dicom.walk import PixelElement, Walk
from archive.errors import InvalidInstanceError

INLINE_BYTES: Final = 1024
# Longer values of any kind are left out of the JSON: a hostile one must not swell the index.
_LONGEST_VALUE_BYTES: Final = 64 * 1024

_LONGEST_REMEMBERED: Final = LONGEST_ELEMENT - 8

_CHARACTER_SET: Final = 0x00080005
_PIXEL_REPRESENTATION: Final = 0x00280103


# Elements that change how others are read.
_WITH_EFFECT: Final = frozenset({_CHARACTER_SET, _PIXEL_REPRESENTATION})


class Walker(DataSetReader):
    """Reads one data set.

    Parameters
    ----------
    buffer
        The object, or the inflated data set.
    implicit, big_endian
        How it is encoded; whether VRs are written is looked at, since senders lie.
    """

    def __init__(self, buffer: Buffer, *, implicit: bool, big_endian: bool = False) -> None:
        super().__init__(buffer, implicit=implicit, big_endian=big_endian)
        self._bulk: list[BulkValue] = []
        self._pixels: PixelElement | None = None
        self._has_text_beyond_ascii = False
        self._character_set: tuple[str, ...] = ()

    def walk(self, start: int) -> Walk:
        """Read the data set that begins at byte ``start`` and ends where the buffer does.

        Raises
        ------
        InvalidInstanceError
            If it is cut short, or its structure is broken beyond what can be kept.
        """
        implicit = self._look_at_encoding(start)
        scope = Scope("", implicit)
        attributes, end = self._dataset(start, len(self._buffer), scope, delimited=False)
        if end < len(self._buffer) and any(self._buffer[end:]):
            raise InvalidInstanceError(
                f"{len(self._buffer) - end} bytes are left that are too few for an element: "
                "the object is truncated",
                offset=end,
            )
        return Walk(
            attributes,
            self._bulk,
            self._warnings,
            self._pixels,
            self._has_text_beyond_ascii,
            "walker",
            self._character_set,
        )

    # -- structure -------------------------------------------------------------------------

    def _dataset(
        self, position: int, end: int, scope: Scope, *, delimited: bool
    ) -> tuple[Attributes, int]:
        attributes: Attributes = {}
        last = -1
        ordered = True
        while position + 8 <= end:
            position, last = self._plain_run(position, end, scope, attributes, last)
            if position + 8 > end:
                break
            if not self._buffer[position] and self._is_padding(position, end):
                break
            element = self._header(position, end, scope)
            tag = element.tag
            if tag == ITEM_END and delimited:
                return self._sorted(attributes, ordered), element.value_at
            if tag <= last:
                ordered = False
                self._warn(f"{tag:08X}", "out of order, or there twice")
            last = tag
            position = self._take(element, end, scope, attributes)
        if delimited:
            raise InvalidInstanceError(
                "an item has no end: its delimiter is missing", offset=position
            )
        return self._sorted(attributes, ordered), position

    def _is_padding(self, position: int, end: int) -> bool:
        """Tell whether zeros follow, which some writers leave behind the data set."""
        return not any(self._buffer[position : min(end, position + 64)])

    def _plain_run(
        self, position: int, end: int, scope: Scope, into: Attributes, last: int
    ) -> tuple[int, int]:
        """Take elements as long as they are plain: in order, short, of a VR without surprises.

        Nine in ten elements are, and this loop takes them at half the cost of the general
        way, which must come to the same; the first that is not plain ends it.

        Returns
        -------
        tuple
            Where the next element begins, and the tag of the last one taken.
        """
        buffer, implicit = self._buffer, scope.implicit
        unpack = (self._tag_and_length if implicit else self._tag_and_vr).unpack_from
        memory = self._memory(scope)
        known, raw_vr = memory.elements, b""
        while position + 8 <= end:
            if implicit:
                group, number, length = unpack(buffer, position)
            else:
                group, number, raw_vr, length = unpack(buffer, position)
            tag = group << 16 | number
            after = position + 8 + length
            if length <= _LONGEST_REMEMBERED and tag > last and after <= end:
                element = known.get(bytes(buffer[position:after]))
                if element is not None:
                    into[element[0]] = element[1]
                    last, position = tag, after
                    continue
            vr = PLAIN_PUBLIC_VRS.get(tag) if implicit else PLAIN_VRS.get(raw_vr)
            if (
                vr is None
                or length > _LONGEST_VALUE_BYTES
                or tag <= last
                or after > end
                or not number
                or group < 0x0008
                or tag in _WITH_EFFECT
                or (group & 1 and number <= 0xFF)
            ):
                break
            key = tag_name(tag)
            if length:
                raw = bytes(buffer[position + 8 : after])
                values, whole = self._converted(raw, vr, scope)
                into[key] = {"vr": vr, "Value": values} if values else {"vr": vr}
                if not whole:
                    self._warn(key, f"its value is not as VR {vr} demands")
                elif length <= _LONGEST_REMEMBERED and (vr not in TEXT_VRS or _plain(raw)):
                    memory.keep(bytes(buffer[position:after]), key, into[key])
            else:
                into[key] = {"vr": vr}
            last = tag
            position = after
        return position, last

    def _sorted(self, attributes: Attributes, ordered: bool) -> Attributes:
        return attributes if ordered else dict(sorted(attributes.items()))

    def _memory(self, scope: Scope) -> Memory:
        return memory_of(scope.decode, self._order, scope.implicit, scope.signed)

    def _take(self, element: Element, end: int, scope: Scope, into: Attributes) -> int:
        """Put one element's JSON into ``into``; return where the next one begins."""
        if element.vr != "SQ" or scope.path:
            return self._take_anew(element, end, scope, into)
        # Sequences are most of the work, and the same from slice to slice.
        memory = self._memory(scope)
        known = memory.sequence(element.tag, self._buffer, element.at)
        if known is not None:
            length, into[f"{element.tag:08X}"] = known
            return element.at + length
        mark = len(self._bulk), self._warned
        beyond, self._has_text_beyond_ascii = self._has_text_beyond_ascii, False
        after = self._take_anew(element, end, scope, into)
        if mark == (len(self._bulk), self._warned) and not self._has_text_beyond_ascii:
            raw = bytes(self._buffer[element.at : after])
            memory.keep_sequence(element.tag, raw, into[f"{element.tag:08X}"])
        self._has_text_beyond_ascii |= beyond
        return after

    def _take_anew(self, element: Element, end: int, scope: Scope, into: Attributes) -> int:
        tag, vr, length = element.tag, element.vr, element.length
        if tag >> 16 == 0xFFFE:
            raise InvalidInstanceError(
                "a delimiter stands where an element is expected",
                offset=element.at,
                tag=f"{tag:08X}",
            )
        if length == UNDEFINED:
            return self._take_undefined(element, end, scope, into)
        after = element.value_at + length
        if after > end:
            raise self._runs_past(element, end)
        if vr == "SQ" or (vr == "UN" and public_vr(tag) == "SQ"):
            self._take_sequence(element, after, scope, into)
        elif tag & 0xFFFF and tag >> 16 not in (0, 2):
            self._take_value(element, scope, into)
        return after

    def _take_undefined(
        self, element: Element, end: int, scope: Scope, into: Attributes
    ) -> int:
        key = f"{element.tag:08X}"
        if element.vr in ("SQ", "UN", ""):
            implicit = scope.implicit or element.vr == "UN"  # PS3.5 §6.2.2, note 4
            items, after = self._items(element, end, scope, implicit=implicit)
            into[key] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
            return after
        if element.vr not in ("OB", "OW", "OF", "OD"):
            raise InvalidInstanceError(
                f"VR {element.vr} cannot have an undefined length", offset=element.at, tag=key
            )
        fragments, after, closed = self.fragments(element.value_at, end, key)
        if not closed:
            self._warn(key, "the delimiter behind the last fragment is missing")
        last_byte = sum(fragments[-1]) if fragments else element.value_at
        self._leave_out(element, scope, into, last_byte - element.value_at)
        if not scope.path and element.tag in PIXEL_TAGS:
            self._pixels = PixelElement(key, element.vr, element.value_at, None, fragments)
        return after

    # -- sequences -------------------------------------------------------------------------

    def _take_sequence(
        self, element: Element, after: int, scope: Scope, into: Attributes
    ) -> None:
        key = f"{element.tag:08X}"
        mark = len(self._bulk)
        implicit = scope.implicit or element.vr == "UN"
        try:
            items, _ = self._items(element, after, scope, implicit=implicit)
        except InvalidInstanceError:
            if element.vr != "UN" and (not scope.implicit or public_vr(element.tag) == "SQ"):
                raise
            del self._bulk[mark:]  # it is no sequence after all: bytes of unknown meaning
            self._take_value(element._replace(vr="UN"), scope, into)
            return
        into[key] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}

    def _items(
        self, element: Element, end: int, scope: Scope, *, implicit: bool
    ) -> tuple[list[Attributes], int]:
        if scope.depth >= DEEPEST:
            raise InvalidInstanceError(
                f"sequences are nested more than {DEEPEST} deep",
                offset=element.at,
                tag=f"{element.tag:08X}",
            )
        items: list[Attributes] = []
        position = element.value_at
        while position + 8 <= end:
            group, number, length = self._tag_and_length.unpack_from(self._buffer, position)
            tag = group << 16 | number
            if tag == SEQUENCE_END:
                return items, position + 8
            if tag != ITEM:
                raise InvalidInstanceError(
                    f"expected an item of a sequence, found ({group:04X},{number:04X})",
                    offset=position,
                    tag=f"{element.tag:08X}",
                )
            item, position = self._item(
                position + 8,
                length,
                end,
                scope.inner(f"{scope.path}{element.tag:08X}/{len(items)}/", implicit=implicit),
            )
            items.append(item)
        if element.length == UNDEFINED:
            raise InvalidInstanceError(
                "a sequence has no end: its delimiter is missing",
                offset=position,
                tag=f"{element.tag:08X}",
            )
        return items, end

    def _item(
        self, position: int, length: int, end: int, scope: Scope
    ) -> tuple[Attributes, int]:
        if length == UNDEFINED:
            return self._dataset(position, end, scope, delimited=True)
        if position + length > end:
            raise InvalidInstanceError(
                f"an item of {length} bytes runs past the end of its sequence: "
                f"only {end - position} are left",
                offset=position - 8,
            )
        attributes, _ = self._dataset(position, position + length, scope, delimited=False)
        return attributes, position + length

    # -- values ----------------------------------------------------------------------------

    def _take_value(self, element: Element, scope: Scope, into: Attributes) -> None:
        tag, vr, length = element.tag, element.vr, element.length
        key = f"{tag:08X}"
        if vr == "UN" and not scope.implicit:
            vr = scope.known_vr(tag)
            element = Element(tag, vr, length, element.at, element.value_at)
        if not length:
            into[key] = {"vr": vr}
            return
        if not scope.path and tag in ALWAYS_BULK:
            self._leave_out_always(element, scope, into)
            return
        if length > (INLINE_BYTES if vr in BINARY_VRS else _LONGEST_VALUE_BYTES):
            self._leave_out(element, scope, into, length)
            return
        raw = bytes(self._buffer[element.value_at : element.value_at + length])
        if vr in BINARY_VRS:
            plain = little_endian(raw, vr) if self._order == ">" else raw
            into[key] = {"vr": vr, "InlineBinary": base64.b64encode(plain).decode("ascii")}
            return
        values, whole = self._converted(raw, vr, scope)
        if not whole:
            self._warn(key, f"its value is not as VR {vr} demands")
        into[key] = {"vr": vr, "Value": values} if values else {"vr": vr}
        if tag == _CHARACTER_SET:
            self._set_characters(values, scope, into[key])
        elif tag == _PIXEL_REPRESENTATION:
            scope.signed = values[:1] == [1]
        elif tag & 0xFFFF <= 0xFF and tag >> 16 & 1 and values and isinstance(values[0], str):
            scope.creators[tag >> 16 << 16 | (tag & 0xFF) << 8] = values[0]

    def _converted(self, raw: bytes, vr: str, scope: Scope) -> tuple[list[Any], bool]:
        strings = STRINGS.get(vr)
        if strings is not None:
            return strings(raw)
        numbers = BINARY_NUMBERS.get(vr)
        if numbers is not None:
            return numbers(raw, self._order)
        if vr == "PN":
            values, whole = name_values(raw, scope.decode)
        else:
            values, whole = text_values(raw, vr, scope.decode)
        if vr in TEXT_VRS and not _plain(raw):
            self._has_text_beyond_ascii = True
        return values, whole

    def _set_characters(self, values: list[Any], scope: Scope, element: dict[str, Any]) -> None:
        terms = tuple(value or "" for value in values)
        if not is_known(terms):
            self._warn(f"{_CHARACTER_SET:08X}", "an unknown character set")
        scope.decode = decoder(terms)
        if not scope.path:
            self._character_set = terms
        # The JSON is UTF-8 whatever the data set was (PS3.18 §F.2.1).
        if values:
            element["Value"] = ["ISO_IR 192"]

    def _leave_out_always(self, element: Element, scope: Scope, into: Attributes) -> None:
        if element.tag in PIXEL_TAGS:
            key = f"{element.tag:08X}"
            self._pixels = PixelElement(key, element.vr, element.value_at, element.length)
        self._leave_out(element, scope, into, element.length)

    def _leave_out(self, element: Element, scope: Scope, into: Attributes, length: int) -> None:
        path = f"{scope.path}{element.tag:08X}"
        self._bulk.append(BulkValue(path, element.vr, element.value_at, length))
        into[f"{element.tag:08X}"] = {"vr": element.vr, "BulkDataURI": f"bulkdata/{path}"}


def _plain(raw: bytes) -> bool:
    return raw.isascii() and b"\x1b" not in raw
