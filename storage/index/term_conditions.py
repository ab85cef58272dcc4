"""Which series may have a value, by their terms: too many are named, never too few."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    and_,
    bindparam,
    exists,
    literal_column,
    or_,
    select,
    true,
    union_all,
)

from storage.index.predicates import SeriesHas
from storage.index.rows import UNLISTED, VARIES
from storage.index.slots import below, outwards
from storage.index.tables import series, series_term, term

_MARKS = (VARIES, UNLISTED)
# As the condition of the partial index is written: SQLite would look through all series else.
_MISSING: ColumnElement[bool] = literal_column("series.terms_missing")
# Of a column, a pattern and the name it is bound under.
MatchesPattern = Callable[[ColumnElement[Any], str, str], ColumnElement[bool]]


def series_has(predicate: SeriesHas, name: str, matches: MatchesPattern) -> ColumnElement[bool]:
    """Return the condition that a row of ``series`` may have what ``predicate`` says.

    Parameters
    ----------
    name
        Below which its values are bound (`storage.index.slots`).
    """
    if predicate.in_order:
        return _each_asked(predicate, name, matches)
    return series.c.id.in_(union_all(*series_listing(predicate, name, matches)))


def series_listing(
    predicate: SeriesHas, name: str, matches: MatchesPattern
) -> list[Select[Any]]:
    """Return selects of the keys of all series that may have what ``predicate`` says."""
    of_path = term.c.path == bindparam(below(name, "path"))
    found = [*_exact(predicate, name), *_inexact(predicate, name, matches)]
    selects = [_series_with(and_(of_path, condition)) for condition in found]
    selects.append(_series_with(_may_be_anything(name)))
    selects.append(select(series.c.id).where(_MISSING))
    return selects


def _each_asked(
    predicate: SeriesHas, name: str, matches: MatchesPattern
) -> ColumnElement[bool]:
    path: BindParameter[str] = bindparam(below(name, "path"))
    # A value is one term; for a range a series has fewer terms to look at than the range.
    has = [
        _of_this_series(and_(term.c.path == path, condition))
        for condition in _exact(predicate, name)
    ]
    has += [
        _of_this_series(and_(term.c.path.concat("") == path, condition))
        for condition in _inexact(predicate, name, matches)
    ]
    return or_(*has, _of_this_series(_may_be_anything(name)), _MISSING)


def _exact(predicate: SeriesHas, name: str) -> list[ColumnElement[bool]]:
    values: BindParameter[str] = bindparam(below(name, "values"), expanding=True)
    return [term.c.value.in_(values)] if predicate.values else []


def _inexact(
    predicate: SeriesHas, name: str, matches: MatchesPattern
) -> list[ColumnElement[bool]]:
    patterns = [
        matches(term.c.value, pattern, below(name, f"pattern{position}"))
        for position, pattern in enumerate(predicate.patterns)
    ]
    ranges = [
        _between(bounds, below(name, f"range{position}"))
        for position, bounds in enumerate(predicate.ranges)
    ]
    return patterns + ranges


def _may_be_anything(name: str) -> ColumnElement[bool]:
    """Return that a term says that not all values at a path are listed."""
    return and_(_outwards(name), term.c.value == UNLISTED)


def series_lacks(name: str) -> ColumnElement[bool]:
    """Return the condition that a row of ``series`` may lack a value."""
    of_path = term.c.path == bindparam(below(name, "path"))
    has = _of_this_series(and_(of_path, term.c.value.not_in(_MARKS)))
    differ = and_(_outwards(name), term.c.value.in_(_MARKS))
    return or_(~has, _of_this_series(differ), _MISSING)


def varying(keys: list[int], paths: list[tuple[str, ...]]) -> Select[Any]:
    """Select those of ``keys`` whose instances may differ in the value at one of ``paths``."""
    marked = or_(*(_differ(path) for path in paths)) if paths else true()
    return _series_with(marked).where(series_term.c.series_fk.in_(keys)).distinct()


def _outwards(name: str) -> ColumnElement[bool]:
    """Return that a term is of the path, or of a sequence it lies in."""
    return term.c.path.in_(bindparam(below(name, "outwards"), expanding=True))


def _differ(path: tuple[str, ...]) -> ColumnElement[bool]:
    """Return that instances may differ at a path."""
    return and_(term.c.path.in_(outwards(path)), term.c.value.in_(_MARKS))


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


def _between(bounds: tuple[str | None, str | None], name: str) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = term.c.value.not_in(_MARKS)
    if bounds[0] is not None:
        condition = and_(condition, term.c.value >= bindparam(below(name, "low")))
    if bounds[1] is not None:
        condition = and_(condition, term.c.value <= bindparam(below(name, "high")))
    return condition
