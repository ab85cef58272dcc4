"""Where a deep page of a study list begins: by the number of studies of each day, on SQLite.

An offset of a million passes a million studies by. How many each day has is known, so that
only those of the page's first day are passed by.
"""

from typing import Any, Final

from sqlalchemy import Connection, Integer, Select, Text, column, func, select, table

from storage.index.changes import in_scope
from storage.index.predicates import NotAfter, Predicate
from storage.index.prepared import PreparedCache
from storage.index.scope import Scope

# Passing fewer by costs less than looking at the days.
_DEEP: Final = 20_000
_DAY: Final = table(
    "study_day",
    column("study_date", Text),
    column("collection", Text),
    column("partition", Text),
    column("studies", Integer),
)
_statements = PreparedCache(limit=64)


def skipped(
    connection: Connection, scope: Scope, predicates: tuple[Predicate, ...], offset: int
) -> tuple[tuple[Predicate, ...], int]:
    """Return predicates that leave out most of what an offset passes by, and the rest of it."""
    if predicates or offset < _DEEP or connection.dialect.name != "sqlite":
        return predicates, offset
    days = _statements.of(scope, lambda: _days(scope)).rows(connection, {})
    for day, studies in days:
        if studies > offset:
            return (NotAfter("study.study_date", day),), offset
        offset -= studies
    # Behind the last of them.
    return (NotAfter("study.study_date", ""),), offset + sum(n for day, n in days if not day)


def _days(scope: Scope) -> Select[Any]:
    return (
        select(_DAY.c.study_date, func.sum(_DAY.c.studies))
        .where(in_scope(_DAY, scope))
        .group_by(_DAY.c.study_date)
        .order_by(_DAY.c.study_date.desc())
    )
