"""The DICOM JSON Model as a small data set in any of the syntaxes of queries (PS3.5 §7, §A).

pydicom takes half a millisecond for the identifier of a study; this takes a twentieth of it.
"""

import base64
import binascii
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from archive.dicom.charset_encoder import Encoder, encoder
from archive.dicom.dictionary import LONG_VRS
from archive.dicom.encode_values import ModelError, encode_values
from archive.dicom.instance import Attributes
from archive.dicom.normalise import joined_name
from archive.dicom.transfer_syntax import transfer_syntax
from archive.dicom.values import BINARY_VRS, TEXT_VRS, WORD_BYTES, swapped

Element = dict[str, Any]

_CHARACTER_SET: Final = 0x00080005
_ITEM: Final = 0xFFFEE000
_LONGEST_SHORT: Final = 0xFFFF
_PLAIN_TEXT: Final = frozenset({"AE", "AS", "CS", "DA", "DT", "TM", "UI", "UR"})
_UTF8: Final = ("ISO_IR 192",)


class CharacterSet:
    """How text is written, and the element that says so.

    Parameters
    ----------
    terms
        Of Specific Character Set; none for the default repertoire, which needs no element.
    encode
        Writes text, or raises UnicodeEncodeError.
    """

    def __init__(self, terms: tuple[str, ...], encode: Encoder) -> None:
        self.terms = terms
        self.encode = encode


_ASCII: Final = CharacterSet((), lambda text, _is_name: text.encode("ascii"))
_UNICODE: Final = CharacterSet(_UTF8, lambda text, _is_name: text.encode("utf-8", "replace"))


def character_sets(asked: tuple[str, ...]) -> Sequence[CharacterSet]:
    """Return what to write text with, the first that can write all of it.

    The default repertoire, without Specific Character Set, which shall only be there where
    others are used (PS3.4 §C.4.1.1.3.2); what the peer asked in, since it can read that; UTF-8.
    """
    encode = encoder(asked) if any(asked) else None
    theirs = [CharacterSet(asked, encode)] if encode is not None and asked != _UTF8 else []
    return (_ASCII, *theirs, _UNICODE)


class DataSetEncoder:
    """Writes data sets in one transfer syntax.

    Parameters
    ----------
    transfer_syntax_uid
        Implicit or explicit VR, little or big endian, or deflated.
    asked
        The terms of Specific Character Set that the peer wrote in.
    """

    def __init__(self, transfer_syntax_uid: str, asked: tuple[str, ...] = ()) -> None:
        syntax = transfer_syntax(transfer_syntax_uid)
        self._implicit = syntax.implicit
        self._deflated = syntax.deflated
        self._big_endian = syntax.big_endian
        order = ">" if syntax.big_endian else "<"
        self._tag_and_length = struct.Struct(order + "HHI")
        self._tag = struct.Struct(order + "HH")
        self._length = struct.Struct(order + "I")
        self._short = struct.Struct(order + "H")
        # The bytes before the length, of what is written again and again.
        self._heads: dict[tuple[str, str], bytes] = {}
        self._sets = character_sets(asked)

    def encode(self, elements: Iterable[tuple[str, Element | bytes]]) -> bytes:
        """Return a data set.

        Parameters
        ----------
        elements
            Tags, ascending, and what they hold, or the elements as `element` wrote them;
            without Specific Character Set (0008,0005), which is added where it is needed.
        """
        listed = list(elements)
        for characters in self._sets:
            try:
                body = self._body(listed, characters)
            except UnicodeEncodeError:
                continue
            return self._deflate(body) if self._deflated else body
        raise AssertionError("UTF-8 writes every text")  # pragma: no cover

    def _deflate(self, body: bytes) -> bytes:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        deflated = deflater.compress(body) + deflater.flush()
        return deflated + b"\0" * (len(deflated) % 2)  # PS3.5 §A.5

    def element(self, tag: str, element: Element) -> bytes:
        """Return an element of a plain VR, to be part of many data sets."""
        return self._element(tag, element, _ASCII)

    def _body(
        self, elements: list[tuple[str, Element | bytes]], characters: CharacterSet
    ) -> bytes:
        parts = [
            element if isinstance(element, bytes) else self._element(tag, element, characters)
            for tag, element in elements
        ]
        if characters.terms:
            said = self._written("00080005", "CS", "\\".join(characters.terms).encode())
            before = sum(int(tag, 16) < _CHARACTER_SET for tag, _ in elements)
            parts.insert(before, said)
        return b"".join(parts)

    def _element(self, tag: str, element: Element, characters: CharacterSet) -> bytes:
        vr = element["vr"]
        if vr == "SQ":
            value = self._items(element.get("Value", ()), characters)
        else:
            value = self._value(vr, element, characters)
        return self._written(tag, vr, value)

    def _written(self, tag: str, vr: str, value: bytes) -> bytes:
        if len(value) & 1:
            value += b"\0" if vr == "UI" or vr in BINARY_VRS else b" "
        length = len(value)
        if length > _LONGEST_SHORT and not self._implicit and vr not in LONG_VRS:
            vr = "UN"  # PS3.5 §6.2.2: what a VR has no room for
        head = self._heads.get((tag, vr)) or self._head(tag, vr)
        short = not self._implicit and vr not in LONG_VRS
        return head + (self._short if short else self._length).pack(length) + value

    def _head(self, tag: str, vr: str) -> bytes:
        number = int(tag, 16)
        head = self._tag.pack(number >> 16, number & 0xFFFF)
        if not self._implicit:
            head += vr.encode() + (b"\0\0" if vr in LONG_VRS else b"")
        self._heads[tag, vr] = head
        return head

    def _items(self, items: Iterable[Attributes], characters: CharacterSet) -> bytes:
        written = []
        for item in items:
            body = b"".join(
                self._element(tag, element, characters)
                for tag, element in item.items()
                if tag != "00080005" and "BulkDataURI" not in element
            )
            header = self._tag_and_length.pack(_ITEM >> 16, _ITEM & 0xFFFF, len(body))
            written.append(header + body)
        return b"".join(written)

    def _value(self, vr: str, element: Element, characters: CharacterSet) -> bytes:
        values = element.get("Value")
        if not values:
            return self._binary(vr, element)
        if vr == "PN":
            names = [joined_name(v) if isinstance(v, dict) else _text(v) for v in values]
            return characters.encode("\\".join(names), True)
        if vr in TEXT_VRS:
            return characters.encode("\\".join(map(_text, values)), False)
        if vr in _PLAIN_TEXT:
            # These have the default repertoire, whatever a sender wrote there.
            return "\\".join(map(_text, values)).encode("ascii", "replace")
        try:
            encoded, _ = encode_values(vr, values)
        except ModelError:
            return b""  # stored, but no value of its VR: nobody could read it
        return swapped(encoded, WORD_BYTES.get(vr, 1)) if self._big_endian else encoded

    def _binary(self, vr: str, element: Element) -> bytes:
        inline = element.get("InlineBinary")
        if inline is None:
            return b""
        try:
            raw = base64.b64decode(inline)
        except (binascii.Error, ValueError):
            return b""
        return swapped(raw, WORD_BYTES.get(vr, 1)) if self._big_endian else raw


def _text(value: Any) -> str:  # noqa: ANN401 - a JSON value
    return "" if value is None else str(value)
