"""Values as DICOM JSON (PS3.18 Annex F): tolerant, so that no value fails an instance.

Each converter takes the bytes of a value and returns the list for ``Value`` and whether the
value was as its VR demands. A number that is none stays text; a float that is not finite
becomes "NaN", "inf" or "-inf"; what cannot be decoded becomes U+FFFD.
"""

import math
import struct
from array import array
from collections.abc import Callable
from typing import Any, Final

from archive.dicom.charset import Decoder

Values = tuple[list[Any], bool]

TEXT_VRS: Final = frozenset({"SH", "LO", "UC", "ST", "LT", "UT", "PN"})
BINARY_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_UNSPLIT: Final = frozenset({"ST", "LT", "UT", "UR"})
# Every integer up to here is exact in the binary64 that JSON readers use.
_EXACT: Final = 2**53
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")


def text_values(raw: bytes, vr: str, decode: Decoder) -> Values:
    """Convert SH, LO, UC, ST, LT, UT, UR."""
    text, whole = decode(raw, False)
    text = text.rstrip(" \0")
    if vr in _UNSPLIT:
        return ([text.replace("\0", "")] if text else []), whole
    return _split(text), whole


def name_values(raw: bytes, decode: Decoder) -> Values:
    """Convert PN: component groups by name (PS3.18 §F.2.2)."""
    text, whole = decode(raw, True)
    names: list[Any] = []
    for name in text.rstrip(" \0").split("\\"):
        groups = [group.rstrip(" \0") for group in name.replace("\0", "").split("=")]
        named = {key: group for key, group in zip(_GROUPS, groups, strict=False) if group}
        names.append(named or None)
        whole = whole and len(groups) <= 3
    return (names if any(names) else []), whole


def string_values(raw: bytes) -> Values:
    """Convert AE, AS, CS, DA, DT, TM, which have no character set of their own."""
    try:
        return _split(raw.decode("ascii").rstrip(" \0")), True
    except UnicodeDecodeError:
        return _split(raw.decode("latin_1").rstrip(" \0")), False


def uid_values(raw: bytes) -> Values:
    """Convert UI. A NUL that is no padding stays to be seen: without it, it is another UID."""
    padded = raw.rstrip(b" \0")
    if b"\0" in padded:
        texts = [text.rstrip("\0") for text in padded.decode("latin_1").split("\\")]
        return [
            text.replace("\0", "\N{REPLACEMENT CHARACTER}") or None for text in texts
        ], False
    values, whole = string_values(raw)
    return [value.strip() if value else value for value in values], whole


def integer_string_values(raw: bytes) -> Values:
    """Convert IS: numbers where they are numbers."""
    return _numbers(raw, _integer)


def decimal_string_values(raw: bytes) -> Values:
    """Convert DS: numbers where they are numbers."""
    return _numbers(raw, _decimal)


def attribute_tag_values(raw: bytes, order: str) -> Values:
    """Convert AT: eight hexadecimal digits each."""
    count = len(raw) // 4
    words = struct.unpack_from(f"{order}{2 * count}H", raw)
    tags = [f"{words[n]:04X}{words[n + 1]:04X}" for n in range(0, 2 * count, 2)]
    return tags, len(raw) == 4 * count


def _split(text: str) -> list[Any]:
    if not text:
        return []
    if "\0" in text:
        text = text.replace("\0", "")
    if "\\" not in text:
        return [text]
    return [value.rstrip(" ") or None for value in text.split("\\")]


def _numbers(raw: bytes, convert: Callable[[str], Any]) -> Values:
    values, whole = string_values(raw)
    for position, value in enumerate(values):
        if value is None:
            continue
        text = value.strip()
        number = convert(text) if text else None
        if number is None and text:
            values[position] = text
            whole = False
        else:
            values[position] = number
    return ([] if values == [None] else values), whole


def _integer(text: str) -> int | None:
    try:
        number = int(text)
    except ValueError:
        decimal = _decimal(text)
        if decimal is None or not decimal.is_integer():
            return None
        number = int(decimal)
    return number if -(2**63) <= number < 2**64 and "_" not in text else None


def _decimal(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _fixed(code: str, size: int) -> Callable[[bytes, str], Values]:
    def convert(raw: bytes, order: str) -> Values:
        count = len(raw) // size
        values: list[Any] = list(struct.unpack_from(f"{order}{count}{code}", raw))
        return values, len(raw) == count * size

    return convert


def _floats(code: str, size: int) -> Callable[[bytes, str], Values]:
    plain = _fixed(code, size)

    def convert(raw: bytes, order: str) -> Values:
        values, whole = plain(raw, order)
        for position, value in enumerate(values):
            if not math.isfinite(value):
                values[position] = "NaN" if math.isnan(value) else str(value)
        return values, whole

    return convert


def _wide(code: str) -> Callable[[bytes, str], Values]:
    plain = _fixed(code, 8)

    def convert(raw: bytes, order: str) -> Values:
        values, whole = plain(raw, order)
        # Numbers that a JSON reader would round are written as text (PS3.18 §F.2.3).
        return [v if -_EXACT <= v <= _EXACT else str(v) for v in values], whole

    return convert


BINARY_NUMBERS: Final[dict[str, Callable[[bytes, str], Values]]] = {
    "US": _fixed("H", 2),
    "SS": _fixed("h", 2),
    "UL": _fixed("I", 4),
    "SL": _fixed("i", 4),
    "FL": _floats("f", 4),
    "FD": _floats("d", 8),
    "UV": _wide("Q"),
    "SV": _wide("q"),
    "AT": attribute_tag_values,
}
STRINGS: Final[dict[str, Callable[[bytes], Values]]] = {
    "AE": string_values,
    "AS": string_values,
    "CS": string_values,
    "DA": string_values,
    "DT": string_values,
    "TM": string_values,
    "UI": uid_values,
    "IS": integer_string_values,
    "DS": decimal_string_values,
}
# What is swapped at once where the byte order differs (PS3.5 §7.3); a tag is two numbers.
WORD_BYTES: Final = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OL", "OF"), 4),
    **dict.fromkeys(("UV", "SV", "FD", "OD", "OV"), 8),
}
_WORD_CODES: Final = {2: "H", 4: "I", 8: "Q"}


def little_endian(raw: bytes, vr: str) -> bytes:
    """Return a big endian binary value swapped, as InlineBinary must be (PS3.18 §F.2.7)."""
    return swapped(raw, WORD_BYTES.get(vr, 1))


def swapped(raw: bytes, word_bytes: int) -> bytes:
    """Return bytes in the other order, word by word; what is left of a word stays."""
    code = _WORD_CODES.get(word_bytes)
    if code is None:
        return raw
    whole = len(raw) - len(raw) % word_bytes
    words = array(code, raw[:whole])
    words.byteswap()
    return words.tobytes() + raw[whole:]
