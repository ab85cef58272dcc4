"""Keys to predicates: all attribute matching of PS3.4 §C.2.2.2 is decided here.

A key whose attribute has a column becomes a predicate on it. Any other becomes two things: a
predicate on the terms of series, which narrows the candidates, and a test of the stored JSON,
which decides (`archive/query/residual.py`).

Decisions where the standard leaves room: names and descriptions are compared without regard
to case and accents; a name matches by any of its component groups; identifiers and codes are
compared as they are. A time of lower precision means all of that minute, or hour.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from archive.dicom.moments import days_apart
from archive.dicom.normalise import name_key, normalise_text, number_text
from archive.dicom.phonetic import is_prefix, name_words, sounds
from archive.errors import InvalidRequestError
from archive.identity import require_uid
from archive.query.columns import (
    COLUMNS,
    COMPUTED,
    DATE_TIME_PAIRS,
    NEVER_MATCHED,
    PATIENT_COLUMNS,
    UNMATCHED,
    IndexColumn,
    Matching,
)
from archive.query.comparing import NUMBER_VRS, UNMATCHABLE_VRS, pattern
from archive.query.forms import (
    EMPTY,
    Bounds,
    are_alike,
    asks_for_all,
    date_bounds,
    has_wildcard,
    is_range,
    is_universal,
    listed,
    time_bounds,
)
from archive.query.request import Level, SearchKey, SearchRequest
from archive.query.residual import DATE_TIME_TAGS, Residual, residual_of, vr_of
from storage.index.predicates import (
    AnyOf,
    Between,
    BetweenMoments,
    Empty,
    Like,
    Nothing,
    OneOf,
    Predicate,
    SeriesHas,
    SeriesLacks,
    table_of,
)

_LONGEST_VALUE: Final = 4096
_OF_MOMENTS: Final = frozenset("0123456789.:+- ")
_SOUND_PREFIX: Final = "~"
# Zones lie at most 26 hours apart: a day in one touches two days on each side in another.
_ZONE_DAYS: Final = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search is carried out.

    Parameters
    ----------
    predicates
        What the index can decide, or narrow.
    residual
        What the stored JSON decides; None when the index decides everything.
    ignored
        Keys that take no part in matching, dotted, in the order asked.
    paths
        Where the residual looks, as far as terms tell whether instances differ there.
    is_constant
        Whether one instance can speak for its series, where those paths do not vary.
    """

    predicates: tuple[Predicate, ...]
    residual: Residual | None
    ignored: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...] = ()
    is_constant: bool = True


def plan_of(request: SearchRequest) -> Plan:
    """Return how ``request`` is carried out.

    Raises
    ------
    InvalidRequestError
        If a value is not of its attribute's form; the text names both.
    """
    predicates: list[Predicate] = []
    left: list[SearchKey] = []
    ignored: list[str] = []
    together = _decided_together(request)
    for key in request.keys:
        if asks_for_all(key) or key.path[0] in NEVER_MATCHED:
            continue
        with _blamed(key):
            _require_length(key)
            column = column_of(key, request.level)
            if key.path in together:
                left.append(key)
                predicates += _narrowing_of_pair(key, column, request)
            elif column is not None and _decided_by_column(key, column, request):
                predicates += _by_column(key, column, request)
            elif key.path[0] in COMPUTED and len(key.path) == 1:
                predicates += _by_computed(key)
            elif _is_matchable(key, request):
                left.append(key)
                predicates += _narrowing(key, column, request)
            else:
                ignored.append(key.name)
    if request.combined_date_time:
        predicates = _combined(predicates)
    of_columns = {key.path: column_of(key, request.level) for key in left}
    return Plan(
        tuple(predicates),
        residual_of(left, request),
        tuple(ignored),
        # What has a column of the study or series is decided by its first instance, as there.
        paths=tuple(path for path, column in of_columns.items() if column is None),
        is_constant=not _speaks_of_instances(predicates, of_columns.values()),
    )


@contextlib.contextmanager
def _blamed(key: SearchKey) -> Iterator[None]:
    """Have an error inside the block name the element of the request that is at fault."""
    try:
        yield
    except InvalidRequestError as error:
        error.tag = error.tag or key.path[0]
        raise


def _speaks_of_instances(
    predicates: Iterable[Predicate], columns: Iterable[IndexColumn | None]
) -> bool:
    names = [column.name for column in columns if column is not None]
    return any(name.startswith("instance.") for name in names) or any(
        table_of(predicate) == "instance" for predicate in predicates
    )


def column_of(key: SearchKey, level: Level) -> IndexColumn | None:
    """Return the column a key is matched with; None when the index has none."""
    if level is Level.PATIENT and key.path in PATIENT_COLUMNS:
        return PATIENT_COLUMNS[key.path]
    return COLUMNS.get(key.path)


def _require_length(key: SearchKey) -> None:
    column = COLUMNS.get(key.path)
    is_uid_list = column is not None and column.matching is Matching.UID
    if not is_uid_list and any(len(value) > _LONGEST_VALUE for value in key.values):
        raise InvalidRequestError(
            f"the value of {key.name} is longer than {_LONGEST_VALUE} characters"
        )


def _decided_by_column(key: SearchKey, column: IndexColumn, request: SearchRequest) -> bool:
    if _asks_empty(key, request):
        return True
    if column.matching is Matching.NAME:
        return not request.fuzzy
    return request.zone is None or column.matching not in (Matching.DATE, Matching.TIME)


def _asks_empty(key: SearchKey, request: SearchRequest) -> bool:
    return request.empty_values and key.value.strip() == EMPTY


def _is_matchable(key: SearchKey, request: SearchRequest) -> bool:
    if key.path[-1].startswith(("0000", "0002")) or key.path[0] in UNMATCHED:
        return False
    return _asks_empty(key, request) or vr_of(key.path[-1]) not in UNMATCHABLE_VRS


# -- attributes with a column ------------------------------------------------------------------


def _by_column(
    key: SearchKey, column: IndexColumn, request: SearchRequest
) -> Iterable[Predicate]:
    if _asks_empty(key, request):
        return [Empty(column.name)]
    if request.multiple_values and column.name == "study_modality.modality":
        return [OneOf(column.name, (value,)) for value in listed(key.value) if value]
    predicate = _MATCHERS[column.matching](key, column.name)
    return [] if predicate is None else [predicate]


def _by_computed(key: SearchKey) -> Iterable[Predicate]:
    value = COMPUTED[key.path[0]]
    matches = any(pattern(asked.strip()).fullmatch(value) for asked in key.values)
    return [] if matches else [Nothing()]


def _any(predicates: Sequence[Predicate]) -> Predicate | None:
    if len(predicates) <= 1:
        return predicates[0] if predicates else None
    return AnyOf(tuple(predicates))


def _uids(key: SearchKey, column: str) -> Predicate | None:
    values = [uid for value in key.values for uid in listed(value) if uid]
    if "*" in values:
        return None
    return OneOf(column, tuple(require_uid(value, key.name) for value in values))


def _numbers(key: SearchKey, column: str) -> Predicate:
    asked = [part for value in key.values for part in listed(value) if part]
    try:
        values = tuple(int(value) for value in asked)
    except ValueError as error:
        raise InvalidRequestError(
            f"{key.name}={key.value!r} is not an integer (VR IS, PS3.5 §6.2)"
        ) from error
    if any(not -(2**63) <= value < 2**63 for value in values):
        raise InvalidRequestError(f"{key.name}={key.value!r} is too large")
    return OneOf(column, values)


def _texts(column: str, values: Sequence[str]) -> Predicate | None:
    kept = [value for value in values if value]
    if any(is_universal(value) for value in kept):
        return None
    plain = tuple(value for value in kept if not has_wildcard(value))
    found: list[Predicate] = [OneOf(column, plain)] if plain else []
    found += [Like(column, value) for value in kept if has_wildcard(value)]
    return _any(found)


def _named(column: str, value: str) -> Predicate:
    """Match any component group; the key holds them joined by "="."""
    key = name_key(value)
    if "=" in key:
        # Groups behind those that were asked for may hold anything.
        whole = "=".join(group or "*" for group in key.split("="))
        return AnyOf((Like(column, whole), Like(column, f"{whole}=*")))
    if key.startswith("*") and key.endswith("*"):
        return Like(column, key)
    ends = [""] if key.endswith("*") else ["", "=*"]
    starts = [""] if key.startswith("*") else ["", "*="]
    found: list[Predicate] = []
    for start in starts:
        for end in ends:
            whole = start + key + end
            found.append(
                Like(column, whole) if has_wildcard(whole) else OneOf(column, (whole,))
            )
    return found[0] if len(found) == 1 else AnyOf(tuple(found))


def _dates(key: SearchKey, column: str) -> Predicate | None:
    return _any(_betweens(column, [b for v in key.values for b in date_bounds(key.name, v)]))


def _times(key: SearchKey, column: str) -> Predicate | None:
    return _any(_betweens(column, [b for v in key.values for b in time_bounds(key.name, v)]))


def _betweens(column: str, bounds: Sequence[tuple[str | None, str | None]]) -> list[Predicate]:
    days = tuple(low for low, high in bounds if low is not None and low == high)
    found: list[Predicate] = [OneOf(column, days)] if days else []
    found += [Between(column, low, high) for low, high in bounds if low is None or low != high]
    return found


def _names(key: SearchKey, column: str) -> Predicate | None:
    return _any([_named(column, value) for value in key.values if value])


def _codes(key: SearchKey, column: str) -> Predicate | None:
    return _texts(column, [part for value in key.values for part in listed(value)])


def _exact(key: SearchKey, column: str) -> Predicate | None:
    return _texts(column, [value.strip() for value in key.values])


def _folded(key: SearchKey, column: str) -> Predicate | None:
    return _texts(column, [normalise_text(value) for value in key.values])


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


# -- attributes without, or that a column cannot decide ----------------------------------------


def _narrowing(
    key: SearchKey, column: IndexColumn | None, request: SearchRequest
) -> Iterable[Predicate]:
    """Return a condition that every match meets, and few others."""
    if _asks_empty(key, request):
        return [SeriesLacks(key.path)]
    if column is None and vr_of(key.path[-1]) != "PN":
        return [_terms(key, request)]
    if column is None or column.matching is Matching.NAME:
        return [_name_terms(key, column, request)]
    if column.matching is Matching.DATE:
        found: list[Predicate] = [
            Between(column.name, *bounds) for bounds in _date_bounds(key, request)
        ]
        return found if len(found) == 1 else [AnyOf(tuple(found))]
    return []


def _date_bounds(key: SearchKey, request: SearchRequest) -> list[Bounds]:
    """Return the days a key covers, those of every other zone with them if one was asked."""
    bounds = [b for value in key.values for b in date_bounds(key.name, value)]
    if request.zone is None:
        return bounds
    return [
        (
            None if low is None else days_apart(low, -_ZONE_DAYS),
            None if high is None else days_apart(high, _ZONE_DAYS),
        )
        for low, high in bounds
    ]


def _terms(key: SearchKey, request: SearchRequest) -> SeriesHas:
    vr = vr_of(key.path[-1])
    if vr == "DA":
        return SeriesHas(key.path, ranges=tuple(_date_bounds(key, request)))
    if vr == "TM" and request.zone is None:
        ranges = tuple(b for value in key.values for b in time_bounds(key.name, value))
        return SeriesHas(key.path, ranges=ranges)
    if vr in ("DT", "TM"):
        return SeriesHas(key.path, ranges=((None, None),))
    asked = [form for value in key.values for form in _term_forms(value, vr)]
    return SeriesHas(
        key.path,
        values=tuple(dict.fromkeys(form for form in asked if not has_wildcard(form))),
        patterns=tuple(dict.fromkeys(form for form in asked if has_wildcard(form))),
        ranges=() if vr else tuple(b for value in key.values for b in _any_bounds(key, value)),
    )


def _any_bounds(key: SearchKey, value: str) -> Iterable[Bounds]:
    """Yield what a value covers if the attribute, which only its sender knows, is a moment."""
    is_long = is_range(value) or "+" in value or value[:10].isdigit()
    if is_long and set(value) <= _OF_MOMENTS:
        yield None, None
        return
    for bounds in (date_bounds, time_bounds):
        with contextlib.suppress(InvalidRequestError):
            yield from bounds(key.name, value)


def _term_forms(value: str, vr: str) -> Iterable[str]:
    """Yield the terms that may stand for a value that was asked for."""
    if vr == "AT":
        yield from (re.sub(r"[(),\s]", "", part).lower() for part in value.split("\\"))
        return
    yield normalise_text(value)
    yield from (normalise_text(part) for part in listed(value))
    if vr in NUMBER_VRS or not vr:
        yield from _number_forms(listed(value))
    if not vr:
        yield name_key(value)


def _number_forms(parts: Iterable[str]) -> Iterable[str]:
    for part in parts:
        try:
            yield number_text(float(part))
        except (ValueError, OverflowError):
            continue


def _name_terms(
    key: SearchKey, column: IndexColumn | None, request: SearchRequest
) -> Predicate:
    literal: list[Predicate] = []
    if column is not None:
        literal += [_named(column.name, value) for value in key.values if value]
    else:
        asked = [name_key(value) for value in key.values]
        literal.append(SeriesHas(key.path, patterns=tuple(f"*{value}*" for value in asked)))
    if request.fuzzy:
        literal += [_sounding(key, value) for value in key.values]
    return literal[0] if len(literal) == 1 else AnyOf(tuple(literal))


def _sounding(key: SearchKey, value: str) -> Predicate:
    """Return that some word of the name sounds like the longest that was asked for."""
    words = name_words(name_key(value))
    if not words:
        return Nothing()
    word = max(words, key=len)
    begins = (f"w:{word}*",) if is_prefix(word) else ()
    return SeriesHas(key.path, (f"w:{word}", *sounds(word)), begins, prefix=_SOUND_PREFIX)


# -- dates with their times --------------------------------------------------------------------


def _decided_together(request: SearchRequest) -> frozenset[tuple[str, ...]]:
    """Return the ranges of dates and times that are one range of moments, not both columns."""
    keys = {key.path: key for key in request.keys if is_range(key.value)}
    found: set[tuple[str, ...]] = set()
    for path in keys if request.combined_date_time else ():
        time_tag = DATE_TIME_TAGS.get(path[-1])
        time_path = (*path[:-1], time_tag) if time_tag else ()
        columns = [COLUMNS.get(path), COLUMNS.get(time_path)]
        if (
            time_path in keys
            and are_alike(keys[path].value, keys[time_path].value)
            and (request.zone is not None or None in columns)
        ):
            found |= {path, time_path}
    return frozenset(found)


def _narrowing_of_pair(
    key: SearchKey, column: IndexColumn | None, request: SearchRequest
) -> Iterable[Predicate]:
    # The time alone says nothing: on the first day it may be later than the last one's.
    if key.path[-1] not in DATE_TIME_TAGS:
        return []
    return _narrowing(key, column, request)


def _combined(predicates: list[Predicate]) -> list[Predicate]:
    """Join the range of a date and that of its time into one of moments."""
    joined = list(predicates)
    ranges = {p.column: p for p in predicates if isinstance(p, Between)}
    for date_column, time_column in DATE_TIME_PAIRS:
        date, time = ranges.get(date_column), ranges.get(time_column)
        if date is not None and time is not None and _are_alike(date, time):
            # The date stays: its index narrows.
            joined.remove(time)
            joined.append(_moments(date, time))
    return joined


def _are_alike(date: Between, time: Between) -> bool:
    # Ranges open on different sides are two conditions (PS3.4 §C.2.2.2.5.4).
    return (date.low is None, date.high is None) == (time.low is None, time.high is None)


def _moments(date: Between, time: Between) -> BetweenMoments:
    low = None if date.low is None else (date.low, time.low or "")
    high = None if date.high is None else (date.high, time.high or "~")
    return BetweenMoments(date.column, time.column, low, high)
