"""The index read from end to end, as it is at one moment: what analytics tables are made of.

Everything is read in one transaction, so that studies, series and instances fit together
whatever arrives meanwhile; nothing is read into memory but the keys of the studies.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from storage.index import changes
from storage.index.changes import in_scope
from storage.index.engine import IndexEngine
from storage.index.levels import visible_instance, visible_study
from storage.index.scope import Scope
from storage.index.tables import instance, instance_detail, series, study, term

_PAGE: Final = 500
_TAG_DIGITS: Final = 8
_LAST_TAG: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class StudyKey:
    """A study, and by what tables are parted."""

    id: int
    study_instance_uid: str
    study_date: str
    collection: str


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """A series, and how much of it there is."""

    id: int
    study_instance_uid: str
    series_instance_uid: str
    number_of_instances: int


class Tabulation:
    """The index at one moment; `at_one_moment` makes it.

    Parameters
    ----------
    connection
        A transaction that sees one state of the index.
    scope
        What may be seen.
    """

    def __init__(self, connection: Connection, scope: Scope) -> None:
        self._connection = connection
        self._scope = scope

    @classmethod
    @contextlib.contextmanager
    def at_one_moment(cls, engine: IndexEngine, scope: Scope) -> Iterator["Tabulation"]:
        """Open the index as it is now, until the block ends."""
        with engine.snapshot() as connection:
            yield cls(connection, scope)

    def change(self) -> int:
        """Return the number of the last change that is seen."""
        return changes.count(self._connection)

    def tags(self) -> Iterator[str]:
        """Yield, ascending, the tags of a data set that searches know by terms.

        From one to the next, by the index on paths: there may be millions of terms, but no
        more than some thousand tags.
        """
        statement = (
            select(term.c.path)
            .where(term.c.path >= bindparam("least"))
            .order_by(term.c.path)
            .limit(1)
        )
        least = 0
        while least <= _LAST_TAG:
            asked = {"least": f"{least:0{_TAG_DIGITS}X}"}
            found = self._connection.execute(statement, asked).scalar()
            if found is None or not _is_tag(found[:_TAG_DIGITS]):
                return
            yield found[:_TAG_DIGITS]
            least = int(found[:_TAG_DIGITS], 16) + 1

    def studies(self) -> Iterator[StudyKey]:
        """Yield every study that may be seen and has something."""
        statement = (
            select(
                study.c.id,
                study.c.study_instance_uid,
                study.c.study_date,
                study.c.collection,
            )
            .where(visible_study(self._scope))
            .order_by(study.c.id)
            .execution_options(yield_per=_PAGE)
        )
        for row in self._connection.execute(statement):
            yield StudyKey(*row)

    def series(self, studies: Sequence[int]) -> list[SeriesKey]:
        """Return the series of ``studies``, keys, that may be seen and have something."""
        statement = (
            select(
                series.c.id,
                study.c.study_instance_uid,
                series.c.series_instance_uid,
                series.c.number_of_instances,
            )
            .join(study, study.c.id == series.c.study_fk)
            .where(
                series.c.study_fk.in_(studies),
                series.c.number_of_instances > 0,
                in_scope(series, self._scope),
            )
            .order_by(series.c.study_fk, series.c.series_number.nulls_first(), series.c.id)
        )
        return [SeriesKey(*row) for row in self._connection.execute(statement)]

    def instances(self, series_keys: Sequence[int]) -> Iterator[Any]:
        """Yield the instances of some series that may be seen, each with its metadata.

        By series, and inside one by instance number.
        """
        statement = (
            select(
                instance.c.series_fk,
                instance.c.sop_instance_uid,
                instance.c.transfer_syntax_uid,
                instance.c.version,
                instance.c.site,
                instance.c.partition,
                instance.c.object_key,
                instance.c.size_bytes,
                instance.c.digest,
                instance.c.received_at,
                instance.c.change,
                instance_detail.c.metadata,
            )
            .join(instance_detail, instance_detail.c.instance_fk == instance.c.id)
            .where(instance.c.series_fk.in_(series_keys), visible_instance(self._scope))
            .order_by(
                instance.c.series_fk, instance.c.instance_number.nulls_first(), instance.c.id
            )
            .execution_options(yield_per=_PAGE)
        )
        yield from self._connection.execute(statement)


def _is_tag(text: str) -> bool:
    # Behind the tags come the sounds of person names.
    return len(text) == _TAG_DIGITS and all(digit in "0123456789ABCDEF" for digit in text)
