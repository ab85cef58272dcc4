"""Values of the DICOM JSON Model as bytes of a data set (PS3.18 §F.2.3, PS3.5 §6.2).

Little endian; text becomes UTF-8. Each encoder returns the bytes, not yet padded, and what had
to be done to the values, if anything.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

Encoded = tuple[bytes, str]


class ModelError(Exception):
    """An attribute is not of the DICOM JSON Model; the text never holds a value."""


_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_INTEGERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q"}
_FLOATS: Final = {"FL": "f", "FD": "d"}
_MULTIPLE: Final = frozenset({"AE", "AS", "CS", "DA", "DT", "TM", "UI", "LO", "SH", "UC"})
_SINGLE: Final = frozenset({"ST", "LT", "UT", "UR"})
_HEX: Final = frozenset("0123456789ABCDEFabcdef")
_LONGEST_DECIMAL: Final = 16
_AS_TEXT: Final = "a number was given for text: it is kept as its digits"


def encode_values(vr: str, values: list[Any]) -> Encoded:
    """Encode ``Value`` of an attribute that is no sequence.

    Raises
    ------
    ModelError
        If a value is none of ``vr``.
    """
    if vr in _MULTIPLE:
        return _texts(values)
    if vr in _SINGLE:
        return _single_text(values)
    if vr in _INTEGERS:
        return _packed(_INTEGERS[vr], [_integer(value, vr) for value in values], vr)
    if vr in _FLOATS:
        return _packed(_FLOATS[vr], [_float(value, vr) for value in values], vr)
    encoder = _OTHERS.get(vr)
    if encoder is None:
        raise ModelError(f"VR {vr} has no Value; it has InlineBinary or BulkDataURI")
    return encoder(values)


def _texts(values: list[Any]) -> Encoded:
    texts = [_text(value) for value in values]
    remark = _AS_TEXT if any(isinstance(value, int | float) for value in values) else ""
    if any("\\" in text for text in texts):
        remark = "a backslash inside a value divides it into two"
    return "\\".join(texts).encode("utf-8"), remark


def _single_text(values: list[Any]) -> Encoded:
    texts = [_text(value) for value in values]
    remark = _AS_TEXT if any(isinstance(value, int | float) for value in values) else ""
    if len(texts) > 1:
        remark = "this VR has one value: the several given are joined by backslashes"
    return "\\".join(texts).encode("utf-8"), remark


def _text(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ModelError(f"a value is {_kind(value)} where text is expected")
    return str(value)


def _kind(value: Any) -> str:  # noqa: ANN401 - a JSON value
    names = {bool: "true or false", dict: "an object", list: "a list", str: "text"}
    return names.get(type(value), "a number")


def _names(values: list[Any]) -> Encoded:
    return "\\".join(_name(value) for value in values).encode("utf-8"), ""


def _name(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or any(
        key not in _GROUPS or not isinstance(group, str | None) for key, group in value.items()
    ):
        raise ModelError(
            "a person name is an object of Alphabetic, Ideographic and Phonetic texts"
        )
    return "=".join(value.get(group) or "" for group in _GROUPS).rstrip("=")


def _integer_strings(values: list[Any]) -> Encoded:
    texts = []
    for value in values:
        if isinstance(value, str):
            texts.append(value)  # as it was: what is no number is told when it is read
        else:
            texts.append("" if value is None else str(_integer(value, "IS")))
    return "\\".join(texts).encode("utf-8"), ""


def _decimal_strings(values: list[Any]) -> Encoded:
    texts = [value if isinstance(value, str) else _decimal(value) for value in values]
    # What needs more than 16 characters gets them: a number is not rounded behind one's back.
    return "\\".join(texts).encode("utf-8"), ""


def _decimal(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"a value is {_kind(value)} where a number is expected")
    text = repr(value)
    text = text.removesuffix(".0")
    if len(text) > _LONGEST_DECIMAL:
        # Shorter spellings of the same number: no leading zero, a whole mantissa.
        bare = text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
        return min((bare, _whole_mantissa(text)), key=len)
    return text


def _whole_mantissa(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("-0") or "0"
    sign = "-" if text.startswith("-") else ""
    return f"{sign}{digits}E{int(exponent or 0) - len(fraction)}"


def _integer(value: Any, vr: str) -> int:  # noqa: ANN401 - a JSON value
    if isinstance(value, str):
        try:
            return int(value.strip())
        except ValueError:
            raise ModelError(f"a value of VR {vr} is no whole number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"a value is {_kind(value)} where a whole number is expected")
    if isinstance(value, float) and not value.is_integer():
        raise ModelError(f"a value of VR {vr} is no whole number")
    return int(value)


def _float(value: Any, vr: str) -> float:  # noqa: ANN401 - a JSON value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ModelError(f"a value is {_kind(value)} where a number is expected")
    try:
        return float(value)  # "NaN", "INF" and "-Infinity" too (PS3.18 §F.2.3)
    except (ValueError, OverflowError):
        raise ModelError(f"a value of VR {vr} is no number") from None


def _packed(code: str, numbers: list[int] | list[float], vr: str) -> Encoded:
    try:
        return struct.pack(f"<{len(numbers)}{code}", *numbers), ""
    except (struct.error, OverflowError):
        raise ModelError(f"a number does not fit VR {vr}") from None


def _tags(values: list[Any]) -> Encoded:
    encoded = b""
    for value in values:
        if not isinstance(value, str) or len(value) != 8 or not _HEX.issuperset(value):
            raise ModelError("a value of VR AT is eight hexadecimal digits")
        number = int(value, 16)
        encoded += struct.pack("<HH", number >> 16, number & 0xFFFF)
    return encoded, ""


_OTHERS: Final[dict[str, Callable[[list[Any]], Encoded]]] = {
    "PN": _names,
    "IS": _integer_strings,
    "DS": _decimal_strings,
    "AT": _tags,
}
