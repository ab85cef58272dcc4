"""The forms in which values of keys are written: lists, ranges of dates and of times."""

from datetime import datetime
from typing import Final

from archive.dicom.dictionary import public_vr
from archive.dicom.normalise import normalise_date, normalise_time
from archive.errors import InvalidRequestError
from archive.query.request import SearchKey

EMPTY: Final = '""'
_DATE_FORM: Final = "expected YYYYMMDD, or a range FROM-TO, FROM- or -TO (PS3.5 §6.2)"
_TIME_FORM: Final = "expected HHMMSS.FFFFFF or less of it, or a range FROM-TO, FROM- or -TO"
# First and last value, both included; None: open on that side.
Bounds = tuple[str | None, str | None]


def is_universal(value: str) -> bool:
    """Tell whether a value matches everything (PS3.4 §C.2.2.2.3)."""
    return not value.strip("*")


def asks_for_all(key: SearchKey) -> bool:
    """Tell whether a key matches everything, as a name of empty groups does too.

    Blanks alone are padding, which is no value (PS3.5 §6.2).
    """
    empty = " =" if public_vr(int(key.path[-1], 16)) == "PN" else " "
    return any(is_universal(value.strip(empty)) for value in key.values)


def has_wildcard(value: str) -> bool:
    """Tell whether a value is a pattern (PS3.4 §C.2.2.2.4)."""
    return "*" in value or "?" in value


def listed(value: str) -> list[str]:
    """Split a list at commas and backslashes (PS3.18 §8.3.4.1, PS3.4 §C.2.2.2.2)."""
    return [part.strip() for part in value.replace(",", "\\").split("\\")]


def split_range(value: str) -> tuple[str, str] | None:
    """Split a range; None when it is a single value (PS3.4 §C.2.2.2.5)."""
    low, dash, high = value.strip().partition("-")
    return (low.strip(), high.strip()) if dash else None


def is_range(value: str) -> bool:
    """Tell whether a value of a date or time is a range."""
    return "-" in value


def are_alike(one: str, other: str) -> bool:
    """Tell whether both are ranges of the same form: open on the same side, or on neither."""
    ends = split_range(one), split_range(other)
    if ends[0] is None or ends[1] is None:
        return False
    return [bool(end) for end in ends[0]] == [bool(end) for end in ends[1]]


def date_bounds(name: str, value: str) -> list[Bounds]:
    """Return what a DA key covers: one range, or the days of a list.

    Raises
    ------
    InvalidRequestError
        If it is neither.
    """
    ends = split_range(value)
    if ends is None:
        days = [_date(name, part) for part in listed(value)]
        return [(day, day) for day in days]
    low, high = ends
    if not low and not high:
        raise InvalidRequestError(f"{name}={value!r} is no range: {_DATE_FORM}")
    return [(_date(name, low) if low else None, _date(name, high) if high else None)]


def _date(name: str, value: str) -> str:
    date = normalise_date(value)
    if not _is_day(date) or len(value.strip()) not in (8, 10):
        raise InvalidRequestError(f"{name}={value!r} is not a date: {_DATE_FORM}")
    return date


def _is_day(date: str) -> bool:
    try:
        datetime.strptime(date, "%Y%m%d")  # noqa: DTZ007 - a day, not a moment
    except ValueError:
        return False
    return True


def time_bounds(name: str, value: str) -> list[Bounds]:
    """Return what a TM key covers: a single value covers what its precision leaves open.

    Raises
    ------
    InvalidRequestError
        If it is no time and no range.
    """
    ends = split_range(value)
    low, high = (value, value) if ends is None else ends
    if not low and not high:
        raise InvalidRequestError(f"{name}={value!r} is no range: {_TIME_FORM}")
    return [
        (_time(name, low, "00") if low else None, _time(name, high, "59") if high else None)
    ]


def _time(name: str, value: str, filling: str) -> str:
    """Return a bound: what is missing becomes the least, or the greatest, it can be."""
    digits = value.strip().replace(":", "")
    whole, _, fraction = digits.partition(".")
    padded = whole + filling * ((6 - len(whole)) // 2)
    fraction = fraction.ljust(6, "0" if filling == "00" else "9")
    time = normalise_time(f"{padded}.{fraction}")
    if not time or len(whole) not in (2, 4, 6) or not (whole + fraction).isdigit():
        raise InvalidRequestError(f"{name}={value!r} is not a time: {_TIME_FORM}")
    return time
