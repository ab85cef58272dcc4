"""The shape of a search and the values in it: searches of one shape share a statement.

To build a statement costs SQLAlchemy more than to run it costs the database. So a predicate is
taken apart: what decides the SQL is its shape, what is compared with is bound under names that
follow from the predicate's place alone.
"""

from collections.abc import Hashable, Sequence
from typing import Any, Final

from storage.index.predicates import (
    AnyOf,
    Between,
    BetweenMoments,
    Empty,
    Like,
    Listed,
    NotAfter,
    Nothing,
    OneOf,
    Predicate,
    SeriesHas,
    SeriesLacks,
)

LAST_CHARACTER: Final = "\U0010ffff"
Values = dict[str, Any]


def name_of(position: int) -> str:
    """Return the name of the predicate at ``position``, below which its values are bound."""
    return f"p{position}"


def below(name: str, part: int | str) -> str:
    """Return the name of a part of a predicate."""
    return f"{name}_{part}"


def taken_apart(
    predicates: Sequence[Predicate], *, is_sqlite: bool
) -> tuple[tuple[Hashable, ...], Values]:
    """Return the shapes of ``predicates``, and their values by name."""
    values: Values = {}
    shapes = tuple(
        _shape(predicate, name_of(position), values, is_sqlite)
        for position, predicate in enumerate(predicates)
    )
    return shapes, values


def _shape(  # noqa: C901, PLR0911 - a table
    predicate: Predicate, name: str, values: Values, is_sqlite: bool
) -> Hashable:
    match predicate:
        case OneOf(column, of):
            values[name] = list(of)
            # That of a single modality is another statement.
            return OneOf, column, len(of) == 1
        case Like(column, pattern):
            return Like, column, _pattern(pattern, name, values, is_sqlite)
        case Between(column, low, high):
            return Between, column, _bounds((low, high), name, values)
        case BetweenMoments():
            return _moments(predicate, name, values)
        case NotAfter(column, value):
            values[name] = value
            return NotAfter, column
        case Empty(column):
            return Empty, column
        case SeriesHas():
            return _of_terms(predicate, name, values, is_sqlite)
        case SeriesLacks(path):
            values[below(name, "path")] = ".".join(path)
            values[below(name, "outwards")] = outwards(path)
            return (SeriesLacks,)
        case AnyOf(parts) | Listed(parts):
            return type(predicate), tuple(
                _shape(part, below(name, position), values, is_sqlite)
                for position, part in enumerate(parts)
            )
        case Nothing():
            return (Nothing,)


def _moments(predicate: BetweenMoments, name: str, values: Values) -> Hashable:
    for end, moment in (("low", predicate.low), ("high", predicate.high)):
        if moment is not None:
            date, time = moment
            values |= {below(name, f"{end}_date"): date, below(name, f"{end}_time"): time}
    ends = predicate.low is None, predicate.high is None
    return BetweenMoments, predicate.date_column, predicate.time_column, ends


def _of_terms(predicate: SeriesHas, name: str, values: Values, is_sqlite: bool) -> Hashable:
    values[below(name, "path")] = predicate.prefix + ".".join(predicate.path)
    values[below(name, "outwards")] = outwards(predicate.path)
    if predicate.values:
        values[below(name, "values")] = list(predicate.values)
    patterns = tuple(
        _pattern(pattern, below(name, f"pattern{position}"), values, is_sqlite)
        for position, pattern in enumerate(predicate.patterns)
    )
    ranges = tuple(
        _bounds(bounds, below(name, f"range{position}"), values)
        for position, bounds in enumerate(predicate.ranges)
    )
    return SeriesHas, predicate.in_order, bool(predicate.values), patterns, ranges


def _pattern(pattern: str, name: str, values: Values, is_sqlite: bool) -> bool:
    """Bind a pattern as its database writes it; return whether it begins with characters."""
    if not is_sqlite:
        values[name] = _like_pattern(pattern)
        return False
    values[name] = pattern.replace("[", "[[]")
    prefix = prefix_of(pattern)
    if prefix:
        values[below(name, "low")] = prefix
        values[below(name, "high")] = prefix + LAST_CHARACTER
    return bool(prefix)


def _bounds(
    bounds: tuple[str | None, str | None], name: str, values: Values
) -> tuple[bool, bool]:
    for end, value in zip(("low", "high"), bounds, strict=True):
        if value is not None:
            values[below(name, end)] = value
    return bounds[0] is None, bounds[1] is None


def prefix_of(pattern: str) -> str:
    """Return what stands before the first wildcard."""
    return pattern.replace("?", "*").partition("*")[0]


def outwards(path: Sequence[str]) -> list[str]:
    """Return a dotted path and those of the sequences it lies in, the outermost first."""
    return [".".join(path[:depth]) for depth in range(1, len(path) + 1)]


def _like_pattern(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")
