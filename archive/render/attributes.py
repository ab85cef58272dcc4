"""Reading values out of DICOM JSON attributes, whatever they hold (PS3.18 Annex F).

What rendering reads was written by thousands of devices: a value that is absent, of another
type or not a number is the same as no value, never a refusal.
"""

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archive.errors import ArchiveError

# One data set or item of the DICOM JSON Model: eight upper-case digits to an element.
Attributes = Mapping[str, Any]
ReadBulk = Callable[[str], bytes]

_BULK_PREFIX = "bulkdata/"


def values(attributes: Attributes, tag: str) -> list[Any]:
    """Return the values of an element, empty when it has none."""
    element = attributes.get(tag)
    if not isinstance(element, Mapping):
        return []
    found = element.get("Value")
    return found if isinstance(found, list) else []


def numbers(attributes: Attributes, tag: str) -> list[float]:
    """Return the finite numbers among the values; DS and IS may be numbers or text."""
    read = [_number(value) for value in values(attributes, tag)]
    return [value for value in read if value is not None]


def number(attributes: Attributes, tag: str) -> float | None:
    """Return the first value as a finite number, or ``None``."""
    found = values(attributes, tag)
    return _number(found[0]) if found else None


def integer(attributes: Attributes, tag: str) -> int | None:
    """Return the first value as an integer, or ``None``."""
    value = number(attributes, tag)
    return None if value is None else int(value)


def text(attributes: Attributes, tag: str) -> str:
    """Return the first value as stripped text, empty when there is none."""
    found = values(attributes, tag)
    return found[0].strip() if found and isinstance(found[0], str) else ""


def items(attributes: Attributes, tag: str) -> list[Attributes]:
    """Return the items of a sequence; what is not an item is left out."""
    return [item for item in values(attributes, tag) if isinstance(item, Mapping)]


def first_item(attributes: Attributes, tag: str) -> Attributes:
    """Return the first item of a sequence, or an empty one."""
    found = items(attributes, tag)
    return found[0] if found else {}


def binary(attributes: Attributes, tag: str, read_bulk: ReadBulk) -> bytes:
    """Return the bytes of a binary element, little endian, empty when there are none.

    Parameters
    ----------
    attributes
        The data set or item.
    tag
        The element; ``InlineBinary``, ``BulkDataURI``, and integer ``Value`` of US are read.
    read_bulk
        Called with what follows ``bulkdata/`` in a ``BulkDataURI`` (PS3.18 §F.2.6).
    """
    element = attributes.get(tag)
    if not isinstance(element, Mapping):
        return b""
    inline = element.get("InlineBinary")
    if isinstance(inline, str):
        return _from_base64(inline)
    uri = element.get("BulkDataURI")
    if isinstance(uri, str) and _BULK_PREFIX in uri:
        try:
            return read_bulk(uri.rpartition(_BULK_PREFIX)[2])
        except (ArchiveError, LookupError):
            return b""
    return _from_integers(values(attributes, tag))


def _from_base64(inline: str) -> bytes:
    try:
        return base64.b64decode(inline)
    except (binascii.Error, ValueError):
        return b""


def _from_integers(found: Sequence[Any]) -> bytes:
    try:
        return b"".join((int(value) & 0xFFFF).to_bytes(2, "little") for value in found)
    except (TypeError, ValueError, OverflowError):
        return b""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        converted = float(value)
    except (ValueError, OverflowError):
        return None
    return converted if math.isfinite(converted) else None
