"""Which series may have a value, by their terms: too many are named, never too few."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, or_, select, true, union_all

from storage.index.predicates import SeriesHas, SeriesLacks
from storage.index.rows import UNLISTED, VARIES
from storage.index.tables import series, series_term, term

_MARKS = (VARIES, UNLISTED)
MatchesPattern = Callable[[ColumnElement[Any], str], ColumnElement[bool]]


def series_has(predicate: SeriesHas, matches: MatchesPattern) -> ColumnElement[bool]:
    """Return the condition that a row of ``series`` may have what ``predicate`` says."""
    path = predicate.prefix + ".".join(predicate.path)
    found: list[ColumnElement[bool]] = []
    if predicate.values:
        found.append(term.c.value.in_(predicate.values))
    found += [matches(term.c.value, pattern) for pattern in predicate.patterns]
    found += [_between(low, high) for low, high in predicate.ranges]
    selects = [_series_with(and_(term.c.path == path, condition)) for condition in found]
    selects.append(_series_with(_may_be_anything(predicate.path)))
    selects.append(select(series.c.id).where(series.c.terms_missing))
    return series.c.id.in_(union_all(*selects))


def series_lacks(predicate: SeriesLacks) -> ColumnElement[bool]:
    """Return the condition that a row of ``series`` may lack a value."""
    path = ".".join(predicate.path)
    has = _of_this_series(and_(term.c.path == path, term.c.value.not_in(_MARKS)))
    return or_(~has, _of_this_series(_differ(predicate.path)), series.c.terms_missing)


def varying(keys: list[int], paths: list[tuple[str, ...]]) -> Select[Any]:
    """Select those of ``keys`` whose instances may differ in the value at one of ``paths``."""
    marked = or_(*(_differ(path) for path in paths)) if paths else true()
    return _series_with(marked).where(series_term.c.series_fk.in_(keys)).distinct()


def _may_be_anything(path: tuple[str, ...]) -> ColumnElement[bool]:
    """Return that the values at a path, or of a sequence it lies in, are not all listed."""
    return and_(term.c.path.in_(_outwards(path)), term.c.value == UNLISTED)


def _differ(path: tuple[str, ...]) -> ColumnElement[bool]:
    """Return that instances may differ at a path."""
    return and_(term.c.path.in_(_outwards(path)), term.c.value.in_(_MARKS))


def _outwards(path: tuple[str, ...]) -> list[str]:
    return [".".join(path[:depth]) for depth in range(1, len(path) + 1)]


def _series_with(condition: ColumnElement[bool]) -> Select[Any]:
    return (
        select(series_term.c.series_fk)
        .join(term, term.c.id == series_term.c.term_fk)
        .where(condition)
    )


def _of_this_series(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(
        series_term.c.series_fk == series.c.id, series_term.c.term_fk == term.c.id, condition
    )


def _between(low: str | None, high: str | None) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = term.c.value.not_in(_MARKS)
    if low is not None:
        condition = and_(condition, term.c.value >= low)
    if high is not None:
        condition = and_(condition, term.c.value <= high)
    return condition
