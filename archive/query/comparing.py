"""Does a value of the DICOM JSON Model match what was asked (PS3.4 §C.2.2.2), by its VR.

The columns of the index match in the same ways (`archive/query/matching.py`); here it is the
stored value itself that is looked at, whatever attribute it belongs to.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from archive.dicom.moments import Span, datetime_range, datetime_span
from archive.dicom.normalise import (
    joined_name,
    name_key,
    normalise_date,
    normalise_text,
    normalise_time,
)
from archive.dicom.phonetic import matches_fuzzily
from archive.errors import InvalidRequestError
from archive.identity import require_uid
from archive.query.forms import Bounds, date_bounds, listed, time_bounds

Test = Callable[[Any], bool]

FOLDED_VRS: Final = frozenset({"LO", "SH", "ST", "LT", "UT", "UC"})
EXACT_VRS: Final = frozenset({"AE", "CS", "UR", "AS"})
NUMBER_VRS: Final = frozenset(
    {"DS", "IS", "FL", "FD", "SL", "SS", "SV", "UL", "US", "UV", "US or SS"}
)
# What has no value that could be asked for.
UNMATCHABLE_VRS: Final = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW"})
# VRs whose values may be several and are matched each (PS3.4 §C.2.2.2.8).
LISTED_VRS: Final = frozenset({"AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"})


@lru_cache(maxsize=1024)
def pattern(text: str) -> re.Pattern[str]:
    """Return what matches ``text``: ``*`` any characters, ``?`` one (PS3.4 §C.2.2.2.4)."""
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(c) or re.escape(c) for c in text), re.DOTALL)


@dataclass(frozen=True, slots=True)
class Asked:
    """One value that was asked for.

    Parameters
    ----------
    name
        The key, for what is said of a value that is not of its form.
    value
        As asked.
    fuzzy
        Names match by how they sound too.
    zone
        Offset from UTC in minutes of date-times that say none.
    """

    name: str
    value: str
    fuzzy: bool = False
    zone: int = 0


def test_of(asked: Asked, vr: str) -> Test:
    """Return the test that a value of a VR must pass.

    Raises
    ------
    InvalidRequestError
        If the value that was asked for is not of the VR's form.
    """
    make = _TESTS.get(vr, _any_test)
    return make(asked)


def _text_test(asked: str, form: Callable[[str], str], *, wild: bool = True) -> Test:
    if wild and ("*" in asked or "?" in asked):
        compiled = pattern(asked)
        return lambda value: (
            isinstance(value, str) and compiled.fullmatch(form(value)) is not None
        )
    return lambda value: isinstance(value, str) and form(value) == asked


def _exact_test(asked: Asked) -> Test:
    return _text_test(asked.value.strip(), str.strip)


def _age_test(asked: Asked) -> Test:
    return _text_test(asked.value.strip(), str.strip, wild=False)


def _folded_test(asked: Asked) -> Test:
    return _text_test(normalise_text(asked.value), normalise_text)


def _uid_test(asked: Asked) -> Test:
    uids = frozenset(require_uid(uid, asked.name) for uid in listed(asked.value) if uid)
    return lambda value: value in uids


def _name_test(asked: Asked) -> Test:
    """Match any component group, or several where "=" asks so (PS3.4 §C.2.2.2.1)."""
    key = name_key(asked.value)
    by_group = "=" in key
    compiled = pattern("=".join(group or "*" for group in key.split("=")) if by_group else key)

    def test(value: Any) -> bool:  # noqa: ANN401 - a JSON value
        held = name_key(joined_name(value) if isinstance(value, dict) else str(value or ""))
        groups = [_padded(held, key)] if by_group else held.split("=")
        literal = any(compiled.fullmatch(group) for group in groups if group)
        return literal or (asked.fuzzy and matches_fuzzily(key, held))

    return test


def _padded(held: str, key: str) -> str:
    return held + "=" * max(key.count("=") - held.count("="), 0)


def _number_test(asked: Asked) -> Test:
    try:
        wanted = frozenset(float(part) for part in listed(asked.value) if part)
    except ValueError as error:
        raise InvalidRequestError(
            f"{asked.name}={asked.value!r} is not a number (VR IS, DS or binary, PS3.5 §6.2)"
        ) from error

    def test(value: Any) -> bool:  # noqa: ANN401 - a JSON value
        try:
            return float(value) in wanted
        except (TypeError, ValueError, OverflowError):
            return False

    return test


def _datetime_test(asked: Asked) -> Test:
    span = datetime_range(asked.value, asked.zone)
    if span is None:
        raise InvalidRequestError(
            f"{asked.name}={asked.value!r} is not a date-time: expected "
            "YYYYMMDDHHMMSS.FFFFFF&ZZXX or less of it, or a range FROM-TO, FROM- or -TO "
            "(PS3.5 §6.2)"
        )
    return lambda value: (
        isinstance(value, str) and _within(datetime_span(value, asked.zone), span)
    )


def _within(held: Span | None, asked: Span) -> bool:
    if held is None or held[0] is None or held[1] is None:
        return False
    low, high = asked
    return (low is None or held[1] >= low) and (high is None or held[0] <= high)


def _date_test(asked: Asked) -> Test:
    return _range_test(date_bounds(asked.name, asked.value), normalise_date)


def _time_test(asked: Asked) -> Test:
    return _range_test(time_bounds(asked.name, asked.value), normalise_time)


def _range_test(bounds: Sequence[Bounds], form: Callable[[str], str]) -> Test:
    def test(value: Any) -> bool:  # noqa: ANN401 - a JSON value
        held = form(value) if isinstance(value, str) else ""
        return bool(held) and any(
            (low is None or held >= low) and (high is None or held <= high)
            for low, high in bounds
        )

    return test


def _tag_test(asked: Asked) -> Test:
    parts = asked.value.split("\\")
    wanted = frozenset(re.sub(r"[(),\s]", "", part).upper() for part in parts if part.strip())
    return lambda value: isinstance(value, str) and value.upper() in wanted


def _any_test(asked: Asked) -> Test:
    """Match a value of unknown kind by its text."""
    wanted = normalise_text(asked.value)
    compiled = pattern(wanted)
    return lambda value: compiled.fullmatch(normalise_text(str(value))) is not None


_TESTS: Final[dict[str, Callable[[Asked], Test]]] = {
    "PN": _name_test,
    "DT": _datetime_test,
    "DA": _date_test,
    "TM": _time_test,
    "UI": _uid_test,
    "AT": _tag_test,
    "AS": _age_test,
    **dict.fromkeys(FOLDED_VRS, _folded_test),
    **dict.fromkeys(EXACT_VRS - {"AS"}, _exact_test),
    **dict.fromkeys(NUMBER_VRS, _number_test),
}


def is_empty(element: dict[str, Any] | None) -> bool:
    """Tell whether an element is absent or has no value (PS3.4 §C.2.2.2.7)."""
    if element is None:
        return True
    found: Sequence[Any] = element.get("Value") or ()
    if "InlineBinary" in element or "BulkDataURI" in element:
        return False
    return not any(value not in (None, "") for value in found)
