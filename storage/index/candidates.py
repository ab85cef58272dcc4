"""Series that may match, and the instances in them: for searches the stored JSON decides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from sqlalchemy import Connection, func, select

from storage.index.conditions import Conditions
from storage.index.engine import IndexEngine, Stop
from storage.index.planning import planned
from storage.index.predicates import Nothing, Predicate
from storage.index.scope import Scope
from storage.index.search import instance_statement, series_statement
from storage.index.selection import visible
from storage.index.slots import Values, taken_apart
from storage.index.tables import instance, instance_detail, series, study
from storage.index.term_conditions import varying

_PAGE: Final = 200
# Most searches find enough in the first page; those that do not take ever larger ones.
_FIRST_PAGE: Final = 256
_GROWTH: Final = 8


_CANDIDATE: Final = (
    series.c.id,
    study.c.id,
    study.c.patient_fk,
    series.c.number_of_instances,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A series that meets what the index can tell, the keys of its parents, and its size."""

    series: int
    study: int
    patient: int
    instances: int


class CandidateSearch:
    """Finds what a search must look at.

    Parameters
    ----------
    engine
        The index.
    """

    def __init__(self, engine: IndexEngine) -> None:
        self._engine = engine

    def stoppable(self, stop: Stop) -> "CandidateSearch":
        """Return the same, whose reads end when ``stop`` is set."""
        return CandidateSearch(self._engine.stoppable(stop))

    def series(
        self, scope: Scope, predicates: Sequence[Predicate]
    ) -> Iterator[list[Candidate]]:
        """Yield the candidates page by page, in the order of answers."""
        if Nothing() in predicates:
            return
        offset, size = 0, _FIRST_PAGE
        while True:
            with self._engine.read() as connection:
                conditions, values = self._conditions(connection, predicates, offset + size)
                statement = series_statement(scope, conditions, *_CANDIDATE)
                rows = connection.execute(statement.offset(offset).limit(size), values).all()
            yield [Candidate(*row) for row in rows]
            if len(rows) < size:
                return
            offset += size
            size *= _GROWTH

    def _conditions(
        self, connection: Connection, predicates: Sequence[Predicate], wanted: int | None
    ) -> tuple[Conditions, Values]:
        is_sqlite = self._engine.is_sqlite
        found = planned(connection, predicates, wanted)
        _, values = taken_apart(found, is_sqlite=is_sqlite)
        return Conditions(found, is_sqlite=is_sqlite), values

    def varying(self, keys: Sequence[int], paths: Sequence[tuple[str, ...]]) -> set[int]:
        """Return the series of ``keys`` whose instances may differ at one of ``paths``."""
        found: set[int] = set()
        with self._engine.read() as connection:
            for page in _pages(keys):
                if paths:
                    statement = varying(page, list(paths))
                    found.update(connection.execute(statement).scalars())
                unknown = select(series.c.id).where(
                    series.c.id.in_(page), series.c.terms_missing
                )
                found.update(connection.execute(unknown).scalars())
        return found

    def first_instances(
        self, scope: Scope, keys: Sequence[int], *, of_studies: bool = False
    ) -> dict[int, bytes]:
        """Return for each series, or study, its first visible instance's zstd DICOM JSON."""
        parent = instance.c.study_fk if of_studies else instance.c.series_fk
        found: dict[int, bytes] = {}
        for page in _pages(keys):
            first = (
                select(func.min(instance.c.id).label("id"))
                .join(series, series.c.id == instance.c.series_fk)
                .join(study, study.c.id == instance.c.study_fk)
                .where(parent.in_(page), visible(scope))
                .group_by(parent)
                .subquery()
            )
            statement = (
                select(parent.label("parent"), instance_detail.c.metadata)
                .join(instance_detail, instance_detail.c.instance_fk == instance.c.id)
                .join(first, first.c.id == instance.c.id)
            )
            with self._engine.read() as connection:
                found.update(
                    {row.parent: row.metadata for row in connection.execute(statement)}
                )
        return found

    def instances(
        self, scope: Scope, predicates: Sequence[Predicate], series_keys: Sequence[int]
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield the instances of some series that may match, in the order of answers.

        Yields
        ------
        tuple
            Key of the series, key of the instance, zstd DICOM JSON.
        """
        with self._engine.read() as connection:
            conditions, values = self._conditions(connection, predicates, None)
            statement = instance_statement(scope, conditions, series.c.id, instance.c.id)
            statement = statement.where(series.c.id.in_(series_keys))
            rows = connection.execute(statement, values).all()
        for page in _pages(rows):
            details = select(instance_detail.c.instance_fk, instance_detail.c.metadata).where(
                instance_detail.c.instance_fk.in_([key for _, key in page])
            )
            with self._engine.read() as connection:
                found = {row[0]: row[1] for row in connection.execute(details)}
            yield from ((of, key, found[key]) for of, key in page if key in found)


_Item = TypeVar("_Item")


def _pages(items: Sequence[_Item]) -> Iterator[list[_Item]]:
    for first in range(0, len(items), _PAGE):
        yield list(items[first : first + _PAGE])
