"""A data set in little endian, explicit or implicit, from any encoding (PS3.5 §7, §A.1, §A.2).

Values are copied byte for byte, or swapped where the byte order differs: text, odd values and
private attributes are neither read nor judged. Large values are not copied until they are sent.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from archive.dicom.dictionary import LONG_VRS, public_vr
from archive.dicom.part10 import Buffer
from archive.dicom.reader import DEEPEST, ITEM, ITEM_END, SEQUENCE_END, DataSetReader, Element
from archive.dicom.scope import UNDEFINED, Scope
from archive.dicom.values import STRINGS, TEXT_VRS, WORD_BYTES, swapped
from archive.errors import InvalidInstanceError

PIXEL_DATA: Final = 0x7FE00010
_PIXEL_REPRESENTATION: Final = 0x00280103
_COPIED_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 1 << 20
_LONGEST_SHORT: Final = 0xFFFE
# With what a value of odd length is made even (PS3.5 §6.2); NUL for UI and all that is binary.
_PADDING: Final = dict.fromkeys((*STRINGS, *TEXT_VRS, "UR"), b" ") | {"UI": b"\0"}
_ITEM_END_BYTES: Final = b"\xfe\xff\x0d\xe0\0\0\0\0"
_SEQUENCE_END_BYTES: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the source that is copied when it is sent.

    Parameters
    ----------
    offset, length
        In bytes.
    word_bytes
        What is swapped at once; 1 for nothing.
    """

    offset: int
    length: int
    word_bytes: int = 1

    def chunks(self, buffer: Buffer) -> Iterator[bytes]:
        """Yield the bytes."""
        end = self.offset + self.length
        for start in range(self.offset, end, _CHUNK_BYTES):
            yield swapped(
                bytes(buffer[start : min(start + _CHUNK_BYTES, end)]), self.word_bytes
            )


Part = bytes | Span


@dataclass(frozen=True, slots=True)
class EncodedElement:
    """One element of the outermost data set, as it will be sent."""

    tag: int
    parts: tuple[Part, ...]

    @property
    def length_bytes(self) -> int:
        """Length with its header."""
        return length_of(self.parts)


def length_of(parts: Sequence[Part]) -> int:
    """Return how many bytes parts come to."""
    return sum(part.length if isinstance(part, Span) else len(part) for part in parts)


def element_header(tag: int, vr: str, length: int, *, implicit: bool) -> bytes:
    """Return the header of a little endian element (PS3.5 §7.1.2, §7.1.3)."""
    group, number = tag >> 16, tag & 0xFFFF
    if implicit:
        return struct.pack("<HHI", group, number, length)
    if vr in LONG_VRS:
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, length)
    return struct.pack("<HH2sH", group, number, vr.encode(), length)


class Rewriter(DataSetReader):
    """Writes one data set anew.

    Group lengths are left out, which are retired and would not be true (PS3.5 §7.2). Sequences
    and items keep the kind of length they have.

    Parameters
    ----------
    buffer
        The object, or the inflated data set.
    implicit, big_endian
        How it is encoded.
    to_implicit
        Whether the result is implicit VR; else explicit.
    """

    def __init__(
        self, buffer: Buffer, *, implicit: bool, big_endian: bool, to_implicit: bool = False
    ) -> None:
        super().__init__(buffer, implicit=implicit, big_endian=big_endian)
        self._to_implicit = to_implicit
        self._swaps = big_endian
        self._pixel_word = 2

    def rewrite(self, start: int, *, bits_allocated: int) -> list[EncodedElement]:
        """Return the elements of the data set that begins at byte ``start``, in its order.

        Parameters
        ----------
        bits_allocated
            Of Pixel Data: in big endian, pixels of 32 and 64 bits are swapped whole.

        Raises
        ------
        InvalidInstanceError
            If the data set cannot be read.
        """
        self._pixel_word = max(bits_allocated // 8, 2)
        scope = Scope("", self._look_at_encoding(start))
        end = len(self._buffer)
        elements: list[EncodedElement] = []
        position = start
        while position + 8 <= end:
            element = self._header(position, end, scope)
            if element.tag == 0 and not any(self._buffer[position : min(end, position + 64)]):
                break  # padding behind the data set
            parts: list[Part] = []
            position = self._write(element, end, scope, parts, implicit=self._to_implicit)
            if parts:
                elements.append(EncodedElement(element.tag, tuple(parts)))
        return elements

    # -- elements --------------------------------------------------------------------------

    def _write(
        self, element: Element, end: int, scope: Scope, parts: list[Part], *, implicit: bool
    ) -> int:
        tag, length = element.tag, element.length
        if tag >> 16 == 0xFFFE:
            raise InvalidInstanceError(
                "a delimiter stands where an element is expected",
                offset=element.at,
                tag=f"{tag:08X}",
            )
        if length == UNDEFINED:
            return self._write_undefined(element, end, scope, parts, implicit=implicit)
        after = element.value_at + length
        if after > end:
            raise self._runs_past(element, end)
        if not tag & 0xFFFF:
            return after
        if element.vr != "SQ" or not self._write_sequence(
            element, after, scope, parts, implicit=implicit
        ):
            self._write_value(element, scope, parts, implicit=implicit)
        return after

    def _write_value(
        self, element: Element, scope: Scope, parts: list[Part], *, implicit: bool
    ) -> None:
        tag, vr, length = element.tag, element.vr, element.length
        if vr == "SQ" or (vr not in LONG_VRS and length > _LONGEST_SHORT):
            vr = "UN"  # longer than its VR can say (PS3.5 §6.2.2)
        word_bytes = WORD_BYTES.get(vr, 1) if self._swaps else 1
        if word_bytes == 2 and tag == PIXEL_DATA and not scope.path:
            word_bytes = self._pixel_word
        padding = b"" if not length % 2 else _PADDING.get(vr, b"\0")  # PS3.5 §7.1.1
        parts.append(element_header(tag, vr, length + len(padding), implicit=implicit))
        if length > _COPIED_BYTES:
            parts += [Span(element.value_at, length, word_bytes), padding]
            return
        value = bytes(self._buffer[element.value_at : element.value_at + length])
        parts.append(swapped(value, word_bytes) + padding)
        self._note(tag, value, scope)

    def _note(self, tag: int, value: bytes, scope: Scope) -> None:
        """Remember what decides the VR of implicit elements behind."""
        if tag == _PIXEL_REPRESENTATION:
            scope.signed = any(value)
        elif tag & 0xFFFF <= 0xFF and tag >> 16 & 1:
            creator = value.decode("ascii", "replace").split("\\")[0].rstrip(" \0")
            scope.creators[tag >> 16 << 16 | (tag & 0xFF) << 8] = creator

    def _write_undefined(
        self, element: Element, end: int, scope: Scope, parts: list[Part], *, implicit: bool
    ) -> int:
        tag, vr = element.tag, element.vr
        if vr in ("SQ", "UN", ""):
            # The items of UN are implicit wherever they stand (PS3.5 §6.2.2, note 4).
            hidden = vr == "UN" and not scope.implicit
            parts.append(
                element_header(tag, "UN" if hidden else "SQ", UNDEFINED, implicit=implicit)
            )
            after = self._write_items(element, end, scope, parts, implicit=implicit or hidden)
            parts.append(_SEQUENCE_END_BYTES)
            return after
        _, after, closed = self.fragments(element.value_at, end, f"{tag:08X}")
        parts.append(element_header(tag, vr, UNDEFINED, implicit=implicit))
        parts.append(Span(element.value_at, after - element.value_at))
        if not closed:
            parts.append(_SEQUENCE_END_BYTES)
        return after

    # -- sequences -------------------------------------------------------------------------

    def _write_sequence(
        self, element: Element, after: int, scope: Scope, parts: list[Part], *, implicit: bool
    ) -> bool:
        """Write a sequence of known length; False if it is none after all."""
        items: list[Part] = []
        try:
            self._write_items(element, after, scope, items, implicit=implicit)
        except InvalidInstanceError:
            if not scope.implicit or public_vr(element.tag) == "SQ":
                raise
            return False  # a private dictionary took it for one
        parts.append(element_header(element.tag, "SQ", length_of(items), implicit=implicit))
        parts.extend(items)
        return True

    def _write_items(
        self, element: Element, end: int, scope: Scope, parts: list[Part], *, implicit: bool
    ) -> int:
        if scope.depth >= DEEPEST:
            raise InvalidInstanceError(
                f"sequences are nested more than {DEEPEST} deep", offset=element.at
            )
        hidden = element.vr == "UN"
        position = element.value_at
        while position + 8 <= end:
            group, number, length = self._tag_and_length.unpack_from(self._buffer, position)
            tag = group << 16 | number
            if tag == SEQUENCE_END:
                return position + 8
            if tag != ITEM:
                raise InvalidInstanceError(
                    "expected an item of a sequence", offset=position, tag=f"{tag:08X}"
                )
            inner = scope.inner(f"{element.tag:08X}/", implicit=scope.implicit or hidden)
            position = self._write_item(position + 8, length, end, inner, parts, implicit)
        if element.length == UNDEFINED:
            raise InvalidInstanceError("a sequence has no end", offset=position)
        return end

    def _write_item(
        self,
        position: int,
        length: int,
        end: int,
        scope: Scope,
        parts: list[Part],
        implicit: bool,
    ) -> int:
        open_ended = length == UNDEFINED
        if not open_ended and position + length > end:
            raise InvalidInstanceError("an item runs past its sequence", offset=position - 8)
        end = end if open_ended else position + length
        inside: list[Part] = []
        while position + 8 <= end:
            element = self._header(position, end, scope)
            if open_ended and element.tag == ITEM_END:
                parts += [struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED), *inside]
                parts.append(_ITEM_END_BYTES)
                return position + 8
            position = self._write(element, end, scope, inside, implicit=implicit)
        if open_ended:
            raise InvalidInstanceError("an item has no end", offset=position)
        parts += [struct.pack("<HHI", 0xFFFE, 0xE000, length_of(inside)), *inside]
        return end
