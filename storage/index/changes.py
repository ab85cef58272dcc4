"""The change feed: every act is one row, numbered without gaps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    TableClause,
    bindparam,
    insert,
    select,
    true,
    update,
)

from storage.index import clock
from storage.index.prepared import Prepared
from storage.index.rows import ChangeRow
from storage.index.scope import Scope
from storage.index.tables import change, counter

# Built once: building a statement costs SQLAlchemy more than running it costs SQLite.
_RESERVE: Final = Prepared(
    update(counter)
    .where(counter.c.name == "change")
    .values(value=counter.c.value + bindparam("count"))
    .returning(counter.c.value)
)
_APPEND: Final = Prepared(insert(change))
_COUNT: Final = select(counter.c.value).where(counter.c.name == "change")


@dataclass(frozen=True, slots=True)
class Change:
    """One act, before it has a number."""

    kind: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    version: int
    digest: bytes
    site: str
    collection: str
    partition: str
    principal: str
    reason: str = ""


def reserve(connection: Connection, count: int) -> int:
    """Return the first of ``count`` numbers, and hold every other writer until commit.

    This is the lock that makes look-then-insert safe on PostgreSQL; SQLite has one writer
    anyway. It comes first in every transaction that changes instances.
    """
    last: int = _RESERVE.value(connection, {"count": count})
    return last - count + 1


def append(connection: Connection, first: int, changes: Sequence[Change], at_us: int) -> None:
    """Write ``changes`` under the numbers from ``first``, which `reserve` gave."""
    if changes:
        rows = [
            {
                "sequence": first + position,
                "at": at_us,
                **{name: getattr(row, name) for name in Change.__slots__},
            }
            for position, row in enumerate(changes)
        ]
        _APPEND.run(connection, rows)


def in_scope(table: Table | TableClause, scope: Scope) -> ColumnElement[bool]:
    """Return the condition that a row of ``table`` may be seen."""
    condition: ColumnElement[bool] = true()
    if scope.collections is not None:
        condition &= table.c.collection.in_(sorted(scope.collections))
    if scope.partitions is not None:
        condition &= table.c.partition.in_(sorted(scope.partitions))
    return condition


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Which changes are asked for.

    Parameters
    ----------
    after
        Those with a higher number.
    limit
        At most so many.
    study_instance_uid
        Of this study only; "" for all.
    kinds
        Of these kinds only; empty for all.
    """

    after: int
    limit: int
    study_instance_uid: str = ""
    kinds: frozenset[str] = frozenset()


def count(connection: Connection) -> int:
    """Return the number of the last change of all."""
    last: int = connection.execute(_COUNT).scalar_one()
    return last


def latest(connection: Connection, scope: Scope) -> int:
    """Return the number of the last change that ``scope`` may see; 0 for none."""
    statement = (
        select(change.c.sequence)
        .where(in_scope(change, scope))
        .order_by(change.c.sequence.desc())
        .limit(1)
    )
    return connection.execute(statement).scalar() or 0


def read(connection: Connection, scope: Scope, asked: ChangeFilter) -> list[ChangeRow]:
    """Return the changes that are asked for, in order."""
    statement = (
        select(change)
        .where(change.c.sequence > asked.after, in_scope(change, scope))
        .order_by(change.c.sequence)
        .limit(asked.limit)
    )
    if asked.study_instance_uid:
        statement = statement.where(change.c.study_instance_uid == asked.study_instance_uid)
    if asked.kinds:
        statement = statement.where(change.c.kind.in_(sorted(asked.kinds)))
    return [
        ChangeRow(
            sequence=row.sequence,
            at=clock.from_us(row.at),
            kind=row.kind,
            study_instance_uid=row.study_instance_uid,
            series_instance_uid=row.series_instance_uid,
            sop_instance_uid=row.sop_instance_uid,
            version=row.version,
            digest=row.digest,
            site=row.site,
            collection=row.collection,
            principal=row.principal,
            reason=row.reason,
        )
        for row in connection.execute(statement)
    ]
