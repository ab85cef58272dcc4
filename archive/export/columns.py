"""What an attribute becomes in a table: one column, whose type follows from PS3.6 alone.

The value representation and multiplicity that the dictionary gives decide, not what some file
holds, so that the tables of two archives, or of two days, have the same types. What a file has
instead of a value of that type is never forced into it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Final

import orjson
import pyarrow as pa
from pydicom import datadict

from archive.dicom.attributes import keyword_of
from archive.dicom.dictionary import public_vr
from archive.dicom.normalise import joined_name, normalise_date

Element = Mapping[str, Any]

_INT64: Final = 1 << 63
_DIGITS: Final = re.compile(r"-?\d{1,20}", re.ASCII)
_TIME: Final = re.compile(r"(\d\d):?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?", re.ASCII)
_DATE_TIME: Final = re.compile(r"(\d{8})(\d\d)(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?", re.ASCII)
_NOT_FINITE: Final = frozenset({"NaN", "inf", "-inf"})


def _text(value: Any) -> str:  # noqa: ANN401 - whatever a file holds
    if not isinstance(value, str):
        raise TypeError
    return value


def _name(value: Any) -> str:  # noqa: ANN401
    return value if isinstance(value, str) else joined_name(value)


def _integer(value: Any) -> int:  # noqa: ANN401
    # Numbers that a JSON reader would round are text (PS3.18 §F.2.3).
    if isinstance(value, bool) or (isinstance(value, str) and not _DIGITS.fullmatch(value)):
        raise TypeError
    number = int(value)
    if (isinstance(value, float) and not value.is_integer()) or not -_INT64 <= number < _INT64:
        raise ValueError
    return number


def _decimal(value: Any) -> float:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _float(value: Any) -> float:  # noqa: ANN401
    return float(value) if value in _NOT_FINITE else _decimal(value)


def _date(value: Any) -> date:  # noqa: ANN401
    digits = normalise_date(value)
    if len(digits) != len(value.strip().translate({ord("."): None, ord("-"): None})):
        raise ValueError
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))


def _time(value: Any) -> time:  # noqa: ANN401
    match = _TIME.fullmatch(value.strip())
    if match is None:
        raise ValueError
    hour, minute, second, fraction = match.groups()
    return time(int(hour), int(minute), int(second or 0), int((fraction or "").ljust(6, "0")))


def _moment(value: Any) -> datetime:  # noqa: ANN401
    match = _DATE_TIME.fullmatch(value.strip())
    if match is None:
        raise ValueError
    day, hour, minute, second, fraction = match.groups()
    return datetime(  # noqa: DTZ001 - the clock on the wall, as it was written
        int(day[:4]), int(day[4:6]), int(day[6:]), int(hour), int(minute), int(second or 0),
        int((fraction or "").ljust(6, "0")),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Kind:
    """How values of some VR are kept: the type of one, and how one becomes that."""

    arrow: Any
    convert: Callable[[Any], object]


_TEXT_VRS: Final = (
    "AE", "AS", "AT", "CS", "LO", "LT", "SH", "ST", "UC", "UI", "UR", "UT",
)  # fmt: skip
_INTEGER_VRS: Final = ("IS", "SL", "SS", "SV", "UL", "US", "UV")
_TEXT: Final = _Kind(pa.string(), _text)
_WHOLE: Final = _Kind(pa.int64(), _integer)
_KINDS: Final[dict[str, _Kind]] = {
    **dict.fromkeys(_TEXT_VRS, _TEXT),
    **dict.fromkeys(_INTEGER_VRS, _WHOLE),
    "DS": _Kind(pa.float64(), _decimal),
    **dict.fromkeys(("FL", "FD"), _Kind(pa.float64(), _float)),
    "PN": _Kind(pa.string(), _name),
    "DA": _Kind(pa.date32(), _date),
    "TM": _Kind(pa.time64("us"), _time),
    "DT": _Kind(pa.timestamp("us"), _moment),
    "SQ": _Kind(pa.string(), _text),
}


@dataclass(frozen=True, slots=True)
class Column:
    """The column of one attribute.

    Parameters
    ----------
    tag
        Eight upper-case hexadecimal digits.
    name
        The keyword.
    vr
        As in PS3.6; of several the first.
    vm
        Value multiplicity as in PS3.6, "1-n".
    """

    tag: str
    name: str
    vr: str
    vm: str

    @property
    def is_list(self) -> bool:
        """Whether there may be several values."""
        return self.vm != "1" and self.vr != "SQ"

    @property
    def arrow(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        """The type of the column, as Arrow names it."""
        one = _KINDS[self.vr].arrow
        return pa.list_(one) if self.is_list else one

    def convert(self, element: Element) -> object:
        """Return what the column holds for an attribute of the DICOM JSON Model.

        Raises
        ------
        ValueError, TypeError, AttributeError, OverflowError
            If a value is none of the column's type.
        """
        values = element.get("Value") or ()
        if not values:
            return None
        if self.vr == "SQ":
            return orjson.dumps(values).decode()
        kept = [None if one is None else _KINDS[self.vr].convert(one) for one in values]
        if self.is_list:
            return kept
        if len(kept) > 1:
            raise ValueError
        return kept[0]


def column_of(tag: str) -> Column | None:
    """Return the column of an attribute; None where it has none.

    Those have none that PS3.6 does not name, and those whose values are bytes.
    """
    name = keyword_of(tag)
    vr = public_vr(int(tag, 16))[:2]
    if not name or vr not in _KINDS:
        return None
    return Column(tag, name, vr, str(datadict.dictionary_VM(int(tag, 16))))
