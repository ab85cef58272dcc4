"""One search: predicates and scope become one SELECT of keys, then pages of rows.

Keys are selected first and rows fetched by them: a deep offset reads no row it does not
return, no transaction stays open while a slow peer takes its answers, and memory is bounded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    Text,
    bindparam,
    exists,
    func,
    literal_column,
    select,
)

from storage.index.conditions import Conditions
from storage.index.engine import IndexEngine, Stop
from storage.index.found import rows_of
from storage.index.levels import SearchLevel, visible_instance, visible_series, visible_study
from storage.index.planning import planned
from storage.index.predicates import Nothing, Predicate
from storage.index.prepared import PreparedCache
from storage.index.scope import Scope
from storage.index.skipping import skipped
from storage.index.slots import Values, taken_apart
from storage.index.tables import (
    instance,
    metadata,
    patient,
    series,
    study,
    study_modality,
)

_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """What to find.

    Parameters
    ----------
    level
        What one match is.
    predicates
        All must hold, on columns of any of the levels: those of levels below must hold for
        one series, or one instance, of the match.
    limit, offset
        The window of matches; ``limit`` None for all.
    order
        Columns of the level or above it to sort by first, and whether descending.
    """

    level: SearchLevel
    predicates: tuple[Predicate, ...] = ()
    limit: int | None = None
    offset: int = 0
    order: tuple[tuple[str, bool], ...] = ()


class IndexSearch:
    """Finds patients, studies, series and instances.

    Parameters
    ----------
    engine
        The index.
    """

    def __init__(self, engine: IndexEngine) -> None:
        self._engine = engine

    def stoppable(self, stop: Stop) -> "IndexSearch":
        """Return the same, whose reads end when ``stop`` is set."""
        return IndexSearch(self._engine.stoppable(stop))

    def keys(
        self, scope: Scope, query: IndexQuery, *, among: Sequence[int] | None = None
    ) -> list[int]:
        """Return the primary keys of the window of matches, in order.

        Parameters
        ----------
        among
            Only these may match.
        """
        with self._engine.read() as connection:
            if among is None:
                return _keys(connection, scope, query)
            statement, values = _statement(connection, scope, query)
            # Written out: SQLite takes 32,766 parameters, and this may be more.
            these: BindParameter[Any] = bindparam(
                "among", list(among), expanding=True, literal_execute=True
            )
            statement = statement.where(_TABLES[query.level].c.id.in_(these))
            statement = statement.offset(query.offset or None).limit(query.limit)
            return list(connection.execute(statement, values).scalars())

    def page(self, scope: Scope, query: IndexQuery, *, beyond: int) -> tuple[list[Any], int]:
        """Return the rows of the window, and how many matches lie behind it.

        Parameters
        ----------
        beyond
            Behind it no more than these are counted.
        """
        limit = query.limit
        wider = query if limit is None else replace(query, limit=limit + beyond)
        with self._engine.read() as connection:
            keys = _keys(connection, scope, wider)
            rows = list(rows_of(connection, scope, query.level, keys[:limit]))
        return rows, 0 if limit is None else max(len(keys) - limit, 0)

    def count(self, scope: Scope, query: IndexQuery, *, most: int | None = None) -> int:
        """Return how many matches there are, window or not; no more than ``most``."""
        with self._engine.read() as connection:
            statement, values = _statement(connection, scope, replace(query, limit=most))
            unordered = statement.order_by(None).limit(most)
            counted = select(func.count()).select_from(unordered.subquery())
            count: int = connection.execute(counted, values).scalar_one()
            return count

    def rows(self, scope: Scope, level: SearchLevel, keys: Sequence[int]) -> Iterator[Any]:
        """Yield the rows under ``keys``, in their order, but for what vanished meanwhile."""
        for first in range(0, len(keys), _PAGE):
            page = keys[first : first + _PAGE]
            with self._engine.read() as connection:
                found = list(rows_of(connection, scope, level, page))
            yield from found

    def brief_rows(self, scope: Scope, keys: Sequence[int]) -> Iterator[Any]:
        """Yield the columns of instances, as `rows` does their rows."""
        for first in range(0, len(keys), _PAGE):
            page = keys[first : first + _PAGE]
            with self._engine.read() as connection:
                found = list(rows_of(connection, scope, SearchLevel.INSTANCE, page, brief=True))
            yield from found


_statements = PreparedCache()


def _keys(connection: Connection, scope: Scope, query: IndexQuery) -> list[int]:
    if Nothing() in query.predicates:
        return []
    is_sqlite = connection.dialect.name == "sqlite"
    predicates, offset = planned(connection, query.predicates, _wanted(query)), query.offset
    if query.level is SearchLevel.STUDY and not query.order:
        predicates, offset = skipped(connection, scope, predicates, offset)
    shapes, values = taken_apart(predicates, is_sqlite=is_sqlite)
    shape = (is_sqlite, query.level, scope, query.order, shapes)
    statement = _statements.of(
        shape,
        lambda: (
            _built(scope, query, Conditions(predicates, is_sqlite=is_sqlite))
            .limit(bindparam("limit", type_=BigInteger))
            .offset(bindparam("offset", type_=BigInteger))
        ),
    )
    every = -1 if is_sqlite else None
    values["limit"] = every if query.limit is None else query.limit
    values["offset"] = offset
    return [row[0] for row in statement.rows(connection, values)]


def _wanted(query: IndexQuery) -> int | None:
    return None if query.limit is None else query.offset + query.limit


def _statement(
    connection: Connection, scope: Scope, query: IndexQuery
) -> tuple[Select[Any], Values]:
    is_sqlite = connection.dialect.name == "sqlite"
    predicates = planned(connection, query.predicates, _wanted(query))
    _, values = taken_apart(predicates, is_sqlite=is_sqlite)
    return _built(scope, query, Conditions(predicates, is_sqlite=is_sqlite)), values


def _built(scope: Scope, query: IndexQuery, conditions: Conditions) -> Select[Any]:
    statement = _KEYS[query.level](scope, conditions)
    if not query.order:
        return statement
    own = statement._order_by_clauses  # noqa: SLF001 - there is no public way to prepend
    asked = (_ordered(*one, is_sqlite=conditions.is_sqlite) for one in query.order)
    return statement.order_by(None).order_by(*asked, *own)


def _ordered(column_name: str, descending: bool, *, is_sqlite: bool) -> ColumnElement[Any]:
    table_name, _, name = column_name.partition(".")
    column = metadata.tables[table_name].c[name]
    if column.nullable:
        return column.desc().nulls_last() if descending else column.asc().nulls_first()
    # Most columns have this collation, but for few: see migration 0008.
    has_another = not is_sqlite and isinstance(column.type, Text)
    sorted_by = column.collate("C") if has_another else column
    return sorted_by.desc() if descending else sorted_by.asc()


# -- keys of each level ------------------------------------------------------------------------


def _patient_keys(scope: Scope, conditions: Conditions) -> Select[Any]:
    of_study = exists().where(
        study.c.patient_fk == patient.c.id,
        visible_study(scope),
        *conditions.of("study"),
        *conditions.modalities(),
        *_below_study(scope, conditions),
    )
    return (
        select(patient.c.id)
        .where(*conditions.of("patient"), of_study)
        .order_by(patient.c.patient_id, patient.c.id)
    )


def _study_keys(scope: Scope, conditions: Conditions) -> Select[Any]:
    statement = select(study.c.id).where(
        visible_study(scope),
        *conditions.of("study"),
        *_patient_of_study(conditions),
        *_below_study(scope, conditions),
    )
    modality = conditions.single_modality()
    if modality is None:
        return statement.where(*conditions.modalities()).order_by(*_newest(conditions))
    # One modality is an index in the order of the answer, dates included.
    return (
        statement.join(study_modality, study_modality.c.study_fk == study.c.id)
        .where(modality, *conditions.dates_of_modality())
        .order_by(study_modality.c.study_date.desc(), study_modality.c.study_fk.desc())
    )


# Another one than that of the modalities that a study is asked to have.
_OF_MODALITY: Final = study_modality.alias("of_modality")


def _series_keys(scope: Scope, conditions: Conditions) -> Select[Any]:
    return series_statement(scope, conditions, series.c.id)


def series_statement(
    scope: Scope, conditions: Conditions, *columns: ColumnElement[Any]
) -> Select[Any]:
    """Select ``columns`` of the series that may be seen and meet every condition, in order."""
    statement = (
        select(*columns)
        .join(study, study.c.id == series.c.study_fk)
        .where(
            visible_study(scope),
            visible_series(scope),
            *conditions.of("study"),
            *conditions.of("series"),
            *conditions.modalities(),
            *_patient_of_study(conditions),
            *_instance_of_series(scope, conditions),
        )
    )
    newest = _newest(conditions)
    modality = None if conditions.sorts else conditions.modality_of_series(_OF_MODALITY)
    if modality is not None:
        # Studies that have some, in the order of answers: the others are not looked at.
        statement = statement.join(_OF_MODALITY, _OF_MODALITY.c.study_fk == study.c.id).where(
            modality
        )
        newest = [_OF_MODALITY.c.study_date.desc(), _OF_MODALITY.c.study_fk.desc()]
    return statement.order_by(*newest, series.c.series_number.nulls_first(), series.c.id)


def _instance_keys(scope: Scope, conditions: Conditions) -> Select[Any]:
    return instance_statement(scope, conditions, instance.c.id)


def instance_statement(
    scope: Scope, conditions: Conditions, *columns: ColumnElement[Any]
) -> Select[Any]:
    """Select ``columns`` of the instances that may be seen and meet every condition."""
    return (
        select(*columns)
        .join(series, series.c.id == instance.c.series_fk)
        # By way of the series: of a study's instances only those of the series are looked at.
        .join(study, study.c.id == series.c.study_fk)
        .where(
            visible_study(scope),
            visible_series(scope),
            visible_instance(scope),
            *conditions.of("study"),
            *conditions.of("series"),
            *conditions.of("instance"),
            *conditions.modalities(),
            *_patient_of_study(conditions),
        )
        .order_by(
            *_newest(conditions),
            series.c.series_number.nulls_first(),
            series.c.id,
            instance.c.instance_number.nulls_first(),
            instance.c.id,
        )
    )


def _newest(conditions: Conditions) -> list[ColumnElement[Any]]:
    """Return the order of studies; as it is written, an index in this order may be taken."""
    if conditions.sorts:
        return [literal_column("+study.study_date").desc(), literal_column("+study.id").desc()]
    return [study.c.study_date.desc(), study.c.id.desc()]


def _patient_of_study(conditions: Conditions) -> list[ColumnElement[bool]]:
    of_patient = conditions.of("patient")
    if not of_patient:
        return []
    return [exists().where(patient.c.id == study.c.patient_fk, *of_patient)]


def _below_study(scope: Scope, conditions: Conditions) -> list[ColumnElement[bool]]:
    of_series = conditions.of("series")
    of_instance = _instance_of_series(scope, conditions)
    if not of_series and not of_instance:
        return []
    return [
        exists().where(
            series.c.study_fk == study.c.id, visible_series(scope), *of_series, *of_instance
        )
    ]


def _instance_of_series(scope: Scope, conditions: Conditions) -> list[ColumnElement[bool]]:
    of_instance = conditions.of("instance")
    if not of_instance:
        return []
    return [
        exists().where(
            instance.c.series_fk == series.c.id, visible_instance(scope), *of_instance
        )
    ]


_KEYS: Final = {
    SearchLevel.PATIENT: _patient_keys,
    SearchLevel.STUDY: _study_keys,
    SearchLevel.SERIES: _series_keys,
    SearchLevel.INSTANCE: _instance_keys,
}

_TABLES: Final = {
    SearchLevel.PATIENT: patient,
    SearchLevel.STUDY: study,
    SearchLevel.SERIES: series,
    SearchLevel.INSTANCE: instance,
}
