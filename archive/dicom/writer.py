"""The DICOM JSON Model written as a data set in Explicit VR Little Endian (PS3.5 §7, §A.2)."""

import base64
import binascii
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from archive.dicom.dictionary import LONG_VRS, SHORT_VRS
from archive.dicom.encode_values import ModelError, encode_values
from archive.dicom.instance import Attributes, AttributeWarning
from archive.dicom.part10 import Buffer
from archive.errors import InvalidInstanceError

DEEPEST: Final = 60
# The largest even length that is no mark of an undefined one, and the same of 16 bits.
LARGEST_VALUE_BYTES: Final = 0xFFFFFFFE
_LARGEST_SHORT: Final = 0xFFFE
_UNDEFINED: Final = 0xFFFFFFFF
_CHARACTER_SET: Final = "00080005"
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_MOST_REMARKS: Final = 100
_HEX: Final = frozenset("0123456789ABCDEF")
_PADDED_WITH_NUL: Final = frozenset({"UI", "OB", "OW", "OF", "OD", "OL", "OV", "UN"})

Sink = Callable[[Buffer], None]


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a value that the metadata only point to.

    Parameters
    ----------
    length
        Of all of it, in bytes.
    copy
        Writes them.
    frames
        Lengths of the frames of encapsulated pixel data, which `copy` then writes one by one
        when it is called with a number; None for a native value.
    """

    length: int
    copy: Callable[[Sink, int | None], None]
    frames: tuple[int, ...] | None = None


# From the path of an attribute, its VR and what it points to, to the bytes.
Resolve = Callable[[str, str, str], Content]


class DataSetWriter:
    """Writes one data set; tags ascending, sequences and items of undefined length.

    Parameters
    ----------
    sink
        Takes the bytes.
    resolve
        Finds bulk data; raises InvalidInstanceError where there is none.
    """

    def __init__(self, sink: Sink, resolve: Resolve) -> None:
        self._sink = sink
        self._resolve = resolve
        self.remarks: list[AttributeWarning] = []

    def write(self, attributes: Attributes, path: str = "", depth: int = 0) -> None:
        """Write ``attributes``.

        Raises
        ------
        InvalidInstanceError
            If an attribute is not of the model; the tag says which.
        """
        for tag, element in sorted(checked_tags(attributes).items()):
            if tag.endswith("0000"):
                continue  # group lengths are left out of the model, and of data sets
            try:
                self._element(tag, element, path, depth)
            except ModelError as error:
                raise InvalidInstanceError(str(error), tag=tag) from error

    def _element(self, tag: str, element: dict[str, Any], path: str, depth: int) -> None:
        vr = checked_vr(element)
        kinds = [k for k in ("Value", "BulkDataURI", "InlineBinary") if k in element]
        if len(kinds) > 1:
            raise ModelError(f"it has {' and '.join(kinds)}: one is allowed")
        kind = kinds[0] if kinds else ""
        if vr == "SQ":
            self._sequence(tag, element, f"{path}{tag}/", depth)
        elif kind == "BulkDataURI":
            self._bulk(tag, vr, element[kind], path)
        elif kind == "InlineBinary":
            self._value(tag, vr, decoded_binary(element[kind]))
        else:
            self._plain(tag, vr, element.get("Value"))

    def _plain(self, tag: str, vr: str, values: Any) -> None:  # noqa: ANN401 - a JSON value
        if values is None:
            values = []
        if not isinstance(values, list):
            raise ModelError("Value is an array (PS3.18 §F.2.2)")
        if tag == _CHARACTER_SET and any(values):
            values = ["ISO_IR 192"]  # all text is written so
        raw, remark = encode_values(vr, values) if values else (b"", "")
        if remark and len(self.remarks) < _MOST_REMARKS:
            self.remarks.append(AttributeWarning(tag, remark))
        self._value(tag, vr, raw)

    def _value(self, tag: str, vr: str, raw: bytes) -> None:
        self._header(tag, vr, len(raw) + len(raw) % 2)
        self._sink(raw)
        if len(raw) % 2:
            self._sink(_padding(vr))

    def _header(self, tag: str, vr: str, length: int) -> None:
        if length > LARGEST_VALUE_BYTES and length != _UNDEFINED:
            raise ModelError("the value is longer than 4 GiB, which no data set can hold")
        if vr not in LONG_VRS and length > _LARGEST_SHORT:
            vr = "UN"  # PS3.5 §6.2.2: what is too long for a length of 16 bits
        head = struct.pack("<HH2s", int(tag[:4], 16), int(tag[4:], 16), vr.encode())
        self._sink(head + struct.pack("<HI" if vr in LONG_VRS else "<H", *_length(vr, length)))

    def _sequence(self, tag: str, element: dict[str, Any], path: str, depth: int) -> None:
        items = [] if element.get("Value") is None else element["Value"]
        if not isinstance(items, list) or "BulkDataURI" in element or "InlineBinary" in element:
            raise ModelError("a sequence has a Value that is an array of objects")
        if depth >= DEEPEST:
            raise ModelError(f"sequences are nested more than {DEEPEST} deep")
        if not items:
            self._header(tag, "SQ", 0)
            return
        self._header(tag, "SQ", _UNDEFINED)
        for number, item in enumerate(items):
            if item is not None and not isinstance(item, dict):
                raise ModelError(f"item {number + 1} is no object")
            self._sink(_delimiter(_ITEM, _UNDEFINED))
            self.write(item or {}, f"{path}{number}/", depth + 1)
            self._sink(_delimiter(_ITEM_END, 0))
        self._sink(_delimiter(_SEQUENCE_END, 0))

    # -- bulk data -------------------------------------------------------------------------

    def _bulk(self, tag: str, vr: str, uri: Any, path: str) -> None:  # noqa: ANN401 - a JSON value
        if not isinstance(uri, str) or not uri.strip():
            raise ModelError("BulkDataURI is a text that is not empty")
        content = self._resolve(f"{path}{tag}", vr, uri)
        if content.frames is None:
            self._header(tag, vr, content.length + content.length % 2)
            content.copy(self._sink, None)
            if content.length % 2:
                self._sink(_padding(vr))
            return
        self._header(tag, "OB", _UNDEFINED)
        self._sink(_offset_table(content.frames))
        for number, length in enumerate(content.frames):
            self._sink(_delimiter(_ITEM, length + length % 2))
            content.copy(self._sink, number)
            if length % 2:
                self._sink(b"\0")
        self._sink(_delimiter(_SEQUENCE_END, 0))


def checked_tags(attributes: Attributes) -> dict[str, dict[str, Any]]:
    """Return ``attributes`` with upper-case tags.

    Raises
    ------
    InvalidInstanceError
        If a name is no tag, is there twice, or has no object.
    """
    checked: dict[str, dict[str, Any]] = {}
    for name, element in attributes.items():
        tag = name.upper()
        if len(tag) != 8 or not _HEX.issuperset(tag):
            raise InvalidInstanceError(
                f"{name[:32]!r} is no tag: expected eight hexadecimal digits (PS3.18 §F.2.2)"
            )
        if tag in checked:
            raise InvalidInstanceError("the attribute is there twice", tag=tag)
        if tag.startswith("FFFE"):
            raise InvalidInstanceError("a delimiter is no attribute", tag=tag)
        if not isinstance(element, dict):
            raise InvalidInstanceError("an attribute is an object with a vr", tag=tag)
        checked[tag] = element
    return checked


def checked_vr(element: dict[str, Any]) -> str:
    """Return the VR of an attribute.

    Raises
    ------
    ModelError
        If there is none, or none that the standard has.
    """
    vr = element.get("vr")
    if not isinstance(vr, str):
        raise ModelError("the attribute has no vr (PS3.18 §F.2.2)")
    if vr not in LONG_VRS and vr not in SHORT_VRS:
        raise ModelError(f"{vr[:16]!r} is no value representation (PS3.5 §6.2)")
    return vr


def decoded_binary(text: Any) -> bytes:  # noqa: ANN401 - a JSON value
    """Return what InlineBinary holds (PS3.18 §F.2.7).

    Raises
    ------
    ModelError
        If it is not Base64.
    """
    if isinstance(text, list) and len(text) == 1:
        text = text[0]  # as older editions had it
    try:
        return base64.b64decode("".join(str(text).split()), validate=True)
    except (ValueError, binascii.Error):
        raise ModelError("InlineBinary is not Base64 (RFC 4648 §4)") from None


def text_of(values: Iterable[Any]) -> Iterable[str]:
    """Yield every text in JSON values, nested ones too."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from text_of(value.values())
        elif isinstance(value, list):
            yield from text_of(value)


def _length(vr: str, length: int) -> tuple[int, ...]:
    return (0, length) if vr in LONG_VRS else (length,)


def _padding(vr: str) -> bytes:
    return b"\0" if vr in _PADDED_WITH_NUL else b" "


def _delimiter(tag: int, length: int) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)


def _offset_table(lengths: tuple[int, ...]) -> bytes:
    """Return the Basic Offset Table; empty where offsets would not fit (PS3.5 §A.4)."""
    offsets, position = [], 0
    for length in lengths:
        offsets.append(position)
        position += 8 + length + length % 2
    if len(lengths) < 2 or offsets[-1] > _UNDEFINED:
        return _delimiter(_ITEM, 0)
    return _delimiter(_ITEM, 4 * len(offsets)) + struct.pack(f"<{len(offsets)}I", *offsets)
