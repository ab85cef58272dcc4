"""Keys to predicates: all attribute matching of PS3.4 §C.2.2.2 lives here.

Decisions where the standard leaves room: names and descriptions are compared without regard
to case and accents; a name matches by any of its component groups; identifiers and codes are
compared as they are. A time of lower precision means all of that minute, or hour.
"""

from collections.abc import Callable, Sequence
from typing import Final

from archive.dicom.normalise import name_key, normalise_date, normalise_text, normalise_time
from archive.errors import InvalidRequestError
from archive.identity import require_uid
from archive.query.columns import (
    COLUMNS,
    DATE_TIME_PAIRS,
    PATIENT_COLUMNS,
    IndexColumn,
    Matching,
)
from archive.query.request import Level, SearchKey, SearchRequest
from storage.index.predicates import (
    AnyOf,
    Between,
    BetweenMoments,
    Like,
    OneOf,
    Predicate,
)

_DATE_FORM = "expected YYYYMMDD, or a range FROM-TO, FROM- or -TO (PS3.5 §6.2)"
_TIME_FORM = "expected HHMMSS.FFFFFF or less of it, or a range FROM-TO, FROM- or -TO"
_LONGEST_VALUE = 4096


def column_of(key: SearchKey, level: Level) -> IndexColumn | None:
    """Return the column a key is matched with; None when the index has none."""
    if level is Level.PATIENT and key.path in PATIENT_COLUMNS:
        return PATIENT_COLUMNS[key.path]
    return COLUMNS.get(key.path)


def is_universal(value: str) -> bool:
    """Tell whether a value matches everything (PS3.4 §C.2.2.2.3)."""
    return not value.strip("*")


def ignored_keys(request: SearchRequest) -> tuple[str, ...]:
    """Return the keys that take no part in matching, dotted, in the order asked."""
    return tuple(
        ".".join(key.path)
        for key in request.keys
        if not is_universal(key.value) and column_of(key, request.level) is None
    )


def predicates_of(request: SearchRequest) -> tuple[Predicate, ...]:
    """Return what a match must meet.

    Raises
    ------
    InvalidRequestError
        If a value is not of its attribute's form; the text names both.
    """
    predicates = [
        predicate
        for key in request.keys
        if not is_universal(key.value)
        and (column := column_of(key, request.level)) is not None
        and (predicate := _predicate(key, column)) is not None
    ]
    return _combined(predicates) if request.combined_date_time else tuple(predicates)


def _predicate(key: SearchKey, column: IndexColumn) -> Predicate | None:
    if len(key.value) > _LONGEST_VALUE and column.matching is not Matching.UID:
        raise InvalidRequestError(
            f"the value of {_name(key)} is longer than {_LONGEST_VALUE} characters"
        )
    return _MATCHERS[column.matching](key, column.name)


def _name(key: SearchKey) -> str:
    return ".".join(key.path)


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.replace(",", "\\").split("\\")]


def _any(predicates: Sequence[Predicate]) -> Predicate | None:
    if len(predicates) <= 1:
        return predicates[0] if predicates else None
    return AnyOf(tuple(predicates))


# -- identifiers and numbers -------------------------------------------------------------------


def _uids(key: SearchKey, column: str) -> Predicate | None:
    values = [value for value in _listed(key.value) if value]
    if "*" in values:
        return None
    return OneOf(column, tuple(require_uid(value, _name(key)) for value in values))


def _numbers(key: SearchKey, column: str) -> Predicate:
    try:
        values = tuple(int(value) for value in _listed(key.value) if value)
    except ValueError as error:
        raise InvalidRequestError(
            f"{_name(key)}={key.value!r} is not an integer (VR IS, PS3.5 §6.2)"
        ) from error
    if any(not -(2**63) <= value < 2**63 for value in values):
        raise InvalidRequestError(f"{_name(key)}={key.value!r} is too large")
    return OneOf(column, values)


# -- text --------------------------------------------------------------------------------------


def _texts(column: str, values: Sequence[str]) -> Predicate | None:
    kept = [value for value in values if value]
    if any(is_universal(value) for value in kept):
        return None
    plain = tuple(value for value in kept if not _has_wildcard(value))
    found: list[Predicate] = [OneOf(column, plain)] if plain else []
    found += [Like(column, value) for value in kept if _has_wildcard(value)]
    return _any(found)


def _has_wildcard(value: str) -> bool:
    return "*" in value or "?" in value


def _named(column: str, value: str) -> Predicate:
    """Match any component group; the key holds them joined by "="."""
    pattern = name_key(value)
    if "=" in pattern:
        return Like(column, "=".join(group or "*" for group in pattern.split("=")))
    if pattern.startswith("*") and pattern.endswith("*"):
        return Like(column, pattern)
    ends = [""] if pattern.endswith("*") else ["", "=*"]
    starts = [""] if pattern.startswith("*") else ["", "*="]
    found: list[Predicate] = []
    for start in starts:
        for end in ends:
            whole = start + pattern + end
            found.append(
                Like(column, whole) if _has_wildcard(whole) else OneOf(column, (whole,))
            )
    return found[0] if len(found) == 1 else AnyOf(tuple(found))


# -- dates and times ---------------------------------------------------------------------------


def _bounds(value: str) -> tuple[str, str] | None:
    """Split a range; None when it is a single value (PS3.4 §C.2.2.2.5)."""
    low, dash, high = value.partition("-")
    return (low.strip(), high.strip()) if dash else None


def _dates(key: SearchKey, column: str) -> Predicate:
    bounds = _bounds(key.value.strip())
    if bounds is None:
        return OneOf(column, tuple(_date(key, value) for value in _listed(key.value)))
    low, high = bounds
    if not low and not high:
        raise InvalidRequestError(f"{_name(key)}={key.value!r} is no range: {_DATE_FORM}")
    return Between(column, _date(key, low) if low else None, _date(key, high) if high else None)


def _date(key: SearchKey, value: str) -> str:
    date = normalise_date(value)
    if not date or len(value.strip()) not in (8, 10):
        raise InvalidRequestError(f"{_name(key)}={value!r} is not a date: {_DATE_FORM}")
    return date


def _times(key: SearchKey, column: str) -> Predicate:
    bounds = _bounds(key.value.strip())
    low, high = (key.value, key.value) if bounds is None else bounds
    if not low and not high:
        raise InvalidRequestError(f"{_name(key)}={key.value!r} is no range: {_TIME_FORM}")
    return Between(
        column,
        _time(key, low, "00") if low else None,
        _time(key, high, "59") if high else None,
    )


def _time(key: SearchKey, value: str, filling: str) -> str:
    """Return a bound: what is missing becomes the least, or the greatest, it can be."""
    digits = value.strip().replace(":", "")
    whole, _, fraction = digits.partition(".")
    padded = whole + filling * ((6 - len(whole)) // 2)
    fraction = fraction.ljust(6, "0" if filling == "00" else "9")
    time = normalise_time(f"{padded}.{fraction}")
    if not time or len(whole) not in (2, 4, 6) or not (whole + fraction).isdigit():
        raise InvalidRequestError(f"{_name(key)}={value!r} is not a time: {_TIME_FORM}")
    return time


def _combined(predicates: Sequence[Predicate]) -> tuple[Predicate, ...]:
    """Join the range of a date and that of its time into one of moments."""
    joined = list(predicates)
    ranges = {p.column: p for p in predicates if isinstance(p, Between)}
    for date_column, time_column in DATE_TIME_PAIRS:
        date, time = ranges.get(date_column), ranges.get(time_column)
        if date is not None and time is not None:
            joined.remove(time)
            joined.append(_moments(date, time))
    return tuple(joined)


def _moments(date: Between, time: Between) -> BetweenMoments:
    low = None if date.low is None else (date.low, time.low or "")
    high = None if date.high is None else (date.high, time.high or "~")
    return BetweenMoments(date.column, time.column, low, high)


def _names(key: SearchKey, column: str) -> Predicate | None:
    return _any([_named(column, value) for value in key.value.split("\\") if value])


def _codes(key: SearchKey, column: str) -> Predicate | None:
    return _texts(column, _listed(key.value.strip()))


def _exact(key: SearchKey, column: str) -> Predicate | None:
    return _texts(column, [value.strip() for value in key.value.split("\\")])


def _folded(key: SearchKey, column: str) -> Predicate | None:
    return _texts(column, [normalise_text(value) for value in key.value.split("\\")])


_MATCHERS: Final[dict[Matching, Callable[[SearchKey, str], Predicate | None]]] = {
    Matching.UID: _uids,
    Matching.DATE: _dates,
    Matching.TIME: _times,
    Matching.NUMBER: _numbers,
    Matching.NAME: _names,
    Matching.CODE: _codes,
    Matching.EXACT: _exact,
    Matching.TEXT: _folded,
}
