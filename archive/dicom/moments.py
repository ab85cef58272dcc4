"""Dates and times as spans of moments, so that values of any precision and zone compare.

PS3.5 §6.2: a DA names a day, a TM and a DT of less precision everything they leave open.
"""

import re
from datetime import datetime, timedelta
from typing import Final

from archive.dicom.normalise import normalise_date, normalise_time

# First and last moment, in microseconds since year 1 in UTC; None: open on that side.
Span = tuple[int | None, int | None]

_DT_FORM: Final = (
    r"\d{4}(?:\d\d(?:\d\d(?:\d\d(?:\d\d(?:\d\d(?:\.\d{1,6})?)?)?)?)?)?"
    r"(?:[+-](?:0\d|1[0-4])[0-5]\d)?"
)
_DT: Final = re.compile(_DT_FORM)
_DT_RANGE: Final = re.compile(rf"({_DT_FORM})?-({_DT_FORM})?")
_OFFSET: Final = re.compile(r"([+-])(0\d|1[0-4])([0-5]\d)")
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST: Final = ("9999", "12", "31", "23", "59", "59")


def parse_offset(text: str) -> int | None:
    """Return a Timezone Offset From UTC (0008,0201) in minutes; None if it is none.

    A plus that was not percent-encoded arrives as a blank (PS3.18 §8.3.4.1).
    """
    match = _OFFSET.fullmatch("+" + text[1:] if text.startswith(" ") else text.strip())
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    return -minutes if match[1] == "-" else minutes


def datetime_span(text: str, zone: int) -> Span | None:
    """Return what a DT value covers; None if it is none.

    Parameters
    ----------
    zone
        Offset in minutes that holds where the value says none.
    """
    value = text.strip()
    if _DT.fullmatch(value) is None:
        return None
    digits, offset = value, zone
    if len(value) > 5 and value[-5] in "+-":
        digits, offset = value[:-5], parse_offset(value[-5:]) or 0
    whole, _, fraction = digits.partition(".")
    parts = [whole[:4], *(whole[at : at + 2] for at in range(4, len(whole), 2))]
    try:
        low = _moment(parts, fraction.ljust(6, "0") if fraction else "000000")
        high = _moment_after(parts, fraction) - 1
    except (ValueError, OverflowError):
        return None
    return low - offset * 60_000_000, high - offset * 60_000_000


def datetime_range(text: str, zone: int) -> Span | None:
    """Return what a DT key covers, a range or a single value (PS3.4 §C.2.2.2.5); or None."""
    single = datetime_span(text, zone)
    if single is not None:
        return single
    match = _DT_RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    low = datetime_span(match[1], zone) if match[1] else (None, None)
    high = datetime_span(match[2], zone) if match[2] else (None, None)
    return None if low is None or high is None else (low[0], high[1])


def shifted(date: str, time: str, minutes: int) -> tuple[str, str] | None:
    """Return a date and a time of day moved by ``minutes``; None if they are not both whole."""
    day, clock = normalise_date(date), normalise_time(time)
    if not day or not clock:
        return None
    try:
        moment = datetime.strptime(day + clock, "%Y%m%d%H%M%S.%f")  # noqa: DTZ007 - no zone yet
        moved = moment + timedelta(minutes=minutes)
    except (ValueError, OverflowError):
        return None
    return moved.strftime("%Y%m%d"), moved.strftime("%H%M%S.%f")


def days_apart(date: str, days: int) -> str:
    """Return the day so many days from ``date``, both ``YYYYMMDD``; itself if it is no day."""
    try:
        day = datetime.strptime(date, "%Y%m%d")  # noqa: DTZ007 - a day has no zone
        return (day + timedelta(days=days)).strftime("%Y%m%d")
    except (ValueError, OverflowError):
        return date


def _moment(parts: list[str], fraction: str) -> int:
    filled = [*parts, *("0001", "01", "01", "00", "00", "00")[len(parts) :]]
    year, month, day, hour, minute, second = (int(part) for part in filled)
    second = min(second, 59)  # a leap second
    moment = datetime(year, month, day, hour, minute, second, int(fraction))  # noqa: DTZ001
    return (moment - datetime.min) // _MICROSECOND  # noqa: DTZ901


def _moment_after(parts: list[str], fraction: str) -> int:
    """Return the first moment behind everything that a value of this precision covers."""
    if fraction:
        return _moment(parts, fraction.ljust(6, "0")) + int(10 ** (6 - len(fraction)))
    filled = [*parts, *_LAST[len(parts) :]]
    if len(parts) == 2:
        filled[2] = _last_day(int(parts[0]), int(parts[1]))
    return _moment(filled, "999999") + 1


def _last_day(year: int, month: int) -> str:
    following = datetime(year + month // 12, month % 12 + 1, 1)  # noqa: DTZ001
    return str((following - timedelta(days=1)).day)
