"""How values are found: through an index of their own, or by looking at studies in order.

SQLite keeps no statistics, and would not know of these: a pattern that few studies match is
found through an index and sorted; one that many match fills a page sooner when studies are
looked at in the order of the answer. A few hundred studies looked at tell which it is.
PostgreSQL's planner decides this by itself for text of studies; of values in the terms of
series it knows nothing: it takes each for as common as the mean of all, and would fetch and
sort half of all series for one page.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.types import Integer

from storage.index.conditions import Conditions, listing
from storage.index.gaps import TRIGRAM_COLUMNS
from storage.index.predicates import AnyOf, Like, Listed, OneOf, Predicate, SeriesHas
from storage.index.prepared import Prepared, PreparedCache
from storage.index.slots import name_of, prefix_of, taken_apart
from storage.index.tables import series, study
from storage.index.term_conditions import series_listing

# As many are sorted at once, without asking further.
_FEW: Final = 300
_SAMPLE: Final = 1000
# More series that may have a value are not sorted: a page of them is soon found in order.
_MOST_SERIES: Final = 20_000
# So many are asked for at first; whoever asks for fewer finds them sooner.
_FIRST_PAGE: Final = 256
# What finding, fetching and sorting a study costs, as against passing it by: 3 us, 170 ns.
_WEIGHT: Final = 18
# Trigrams are of three characters.
_SHORTEST: Final = 3
_MODALITY: Final = "study_modality.modality"
_LISTABLE: Final = frozenset(f"study.{name}" for name in TRIGRAM_COLUMNS)

_LAST_STUDY: Final = Prepared(select(func.coalesce(func.max(study.c.id), 0)))
_LAST_SERIES: Final = Prepared(select(func.coalesce(func.max(series.c.id), 0)))
_counts = PreparedCache()


def planned(
    connection: Connection, predicates: Sequence[Predicate], wanted: int | None
) -> tuple[Predicate, ...]:
    """Return ``predicates`` with those as `Listed` that an index should find.

    Parameters
    ----------
    wanted
        How many matches are looked for; None for all.
    """
    if connection.dialect.name != "sqlite":
        return tuple(_asked(connection, predicate) for predicate in predicates)
    return tuple(_planned(connection, predicate, wanted) for predicate in predicates)


def _asked(connection: Connection, predicate: Predicate) -> Predicate:
    if isinstance(predicate, SeriesHas):
        return replace(predicate, in_order=_are_many(connection, predicate))
    return predicate


def _planned(connection: Connection, predicate: Predicate, wanted: int | None) -> Predicate:
    if isinstance(predicate, SeriesHas):
        return _asked(connection, predicate)
    parts = predicate.predicates if isinstance(predicate, AnyOf) else (predicate,)
    found = tuple(
        part for part in parts if isinstance(part, Like | OneOf) and _is_listable(part)
    )
    if len(found) < len(parts) or all(_is_plain(part) for part in found):
        return predicate
    listed = Listed(found)
    return listed if _is_worth_it(connection, listed, wanted) else predicate


def _is_listable(part: Like | OneOf) -> bool:
    if isinstance(part, OneOf):
        return part.column in _LISTABLE or part.column == _MODALITY
    has_literal = bool(prefix_of(part.pattern)) or len(part.longest_literal) >= _SHORTEST
    return part.column in _LISTABLE and has_literal


def _is_plain(part: Predicate) -> bool:
    """Tell whether SQLite needs no help: a value, for which it takes the column's index."""
    return isinstance(part, OneOf) and (part.column != _MODALITY or len(part.values) == 1)


def _is_worth_it(connection: Connection, listed: Listed, wanted: int | None) -> bool:
    shapes, values = taken_apart((listed,), is_sqlite=True)
    (shape,) = shapes
    values |= {"few": _FEW + 1, "sample": _SAMPLE}
    few = _counts.of(("few", shape), lambda: _count_listed(listed))
    if few.value(connection, values) <= _FEW:
        return True
    seen = _counts.of(("sample", shape), lambda: _count_in_sample(listed))
    hits = seen.value(connection, values)
    if not hits:
        return True
    studies = _LAST_STUDY.value(connection, {})
    passed_by = studies if wanted is None else min(studies, wanted * _SAMPLE / hits)
    return bool(_WEIGHT * studies * hits / _SAMPLE < passed_by)


def _are_many(connection: Connection, predicate: SeriesHas) -> bool:
    is_sqlite = connection.dialect.name == "sqlite"
    (shape,), values = taken_apart((predicate,), is_sqlite=is_sqlite)
    values["few"] = _MOST_SERIES + 1
    count = _counts.of(
        ("series", is_sqlite, shape), lambda: _count_series(predicate, is_sqlite=is_sqlite)
    )
    found = count.value(connection, values)
    if is_sqlite or found > _MOST_SERIES:
        return bool(found > _MOST_SERIES)
    # PostgreSQL takes as long for a series that it fetches and sorts as for one it passes by.
    return bool(found * found > _FIRST_PAGE * _LAST_SERIES.value(connection, {}))


def _count_series(predicate: SeriesHas, *, is_sqlite: bool) -> Select[Any]:
    matches = Conditions([], is_sqlite=is_sqlite).matches_pattern
    found = union_all(*series_listing(predicate, name_of(0), matches))
    few = found.limit(bindparam("few", type_=Integer))
    return select(func.count()).select_from(few.subquery())


def _count_listed(listed: Listed) -> Select[Any]:
    found = union_all(*listing(name_of(0), listed)).limit(bindparam("few", type_=Integer))
    return select(func.count()).select_from(found.subquery())


def _count_in_sample(listed: Listed) -> Select[Any]:
    """Count the matches among the newest studies, which are the first of a list."""
    conditions = Conditions([AnyOf(listed.predicates)], is_sqlite=True)
    is_match = or_(*conditions.of("study"), *conditions.modalities())
    newest = (
        select(type_coerce(is_match, Integer).label("hit"))
        .where(study.c.number_of_instances > literal_column("0"))
        .order_by(study.c.study_date.desc(), study.c.id.desc())
        .limit(bindparam("sample", type_=Integer))
        .subquery()
    )
    return select(func.coalesce(func.sum(newest.c.hit), 0))
