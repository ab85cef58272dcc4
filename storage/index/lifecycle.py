"""Taking instances out of sight, bringing them back, and forgetting them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from storage.index import changes
from storage.index.changes import Change, in_scope
from storage.index.description import Describe, describe_again
from storage.index.engine import IndexEngine
from storage.index.insertion import DELETED
from storage.index.rows import IndexedObject
from storage.index.scope import Scope
from storage.index.selection import Target, existing_keys
from storage.index.tables import instance, instance_detail, series, study
from storage.index.totals import RELEASED, recount

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Act:
    """Who changes the state of instances, why, and when (microseconds since 1970)."""

    principal: str
    reason: str
    at_us: int


class InstanceLifecycle:
    """Changes the state of instances of the index.

    Parameters
    ----------
    engine
        The index.
    describe
        Reads what an instance says of its study and series; without it, these stay described
        by instances that are gone.
    """

    def __init__(self, engine: IndexEngine, describe: Describe | None = None) -> None:
        self._engine = engine
        self._describe = describe

    def delete(self, scope: Scope, target: Target, act: Act) -> int:
        """Take the visible instances of ``target`` out of sight; return how many."""
        with self._engine.write() as connection:
            rows = _affected(connection, scope, target, RELEASED)
            change = _change_state(connection, rows, act, kind="deleted", state=DELETED)
            self._describe_again(connection, rows)
            _recount(connection, rows, act, change)
        return len(rows)

    def restore(self, scope: Scope, target: Target, act: Act) -> int:
        """Bring deleted instances of ``target`` back; return how many.

        An instance that was stored again since stays as it is; of several deleted versions
        the last comes back.
        """
        with self._engine.write() as connection:
            visible = {
                (row.series_fk, row.sop_instance_uid)
                for row in _affected(connection, scope, target, RELEASED)
            }
            latest = {
                (row.series_fk, row.sop_instance_uid): row
                for row in _affected(connection, scope, target, DELETED)
            }
            rows = [row for key, row in latest.items() if key not in visible]
            change = _change_state(connection, rows, act, kind="restored", state=RELEASED)
            self._describe_again(connection, rows)
            _recount(connection, rows, act, change)
        return len(rows)

    def _describe_again(self, connection: Connection, rows: Sequence[Row[Any]]) -> None:
        if self._describe is not None:
            describe_again(
                connection,
                self._describe,
                studies={row.study_fk for row in rows},
                series={row.series_fk for row in rows},
            )

    def deleted_before(self, moment_us: int, limit: int) -> list[tuple[int, str, int]]:
        """Return (key, object key, bytes) of instances deleted before ``moment_us``."""
        statement = (
            select(instance.c.id, instance.c.object_key, instance.c.size_bytes)
            .where(instance.c.state == DELETED, instance.c.state_at < moment_us)
            .order_by(instance.c.state_at, instance.c.id)
            .limit(limit)
        )
        with self._engine.read() as connection:
            return [
                (row.id, row.object_key, row.size_bytes)
                for row in connection.execute(statement)
            ]

    def forget(self, keys: Sequence[int], act: Act) -> None:
        """Remove deleted instances from the index, their objects being gone."""
        with self._engine.write() as connection:
            rows = connection.execute(
                with_parents().where(instance.c.id.in_(keys), instance.c.state == DELETED)
            ).all()
            first = changes.reserve(connection, len(rows))
            feed = [_feed_line(row, "purged", act) for row in rows]
            changes.append(connection, first, feed, act.at_us)
            gone = [row.id for row in rows]
            connection.execute(
                delete(instance_detail).where(instance_detail.c.instance_fk.in_(gone))
            )
            connection.execute(delete(instance).where(instance.c.id.in_(gone)))

    def unindexed(self, keys: Sequence[str]) -> list[str]:
        """Return those object keys that no instance refers to.

        Waits for writers in mid-transaction, so that none of them is about to refer to one.
        """
        with self._engine.write() as connection:
            changes.reserve(connection, 0)
            known = existing_keys(connection, keys)
        return [key for key in keys if key not in known]

    def iter_objects(self) -> Iterator[IndexedObject]:
        """Yield every object the index refers to, in whatever state, by primary key."""
        last = 0
        while True:
            statement = (
                select(
                    instance.c.id,
                    instance.c.object_key,
                    instance.c.size_bytes,
                    instance.c.dataset_offset,
                    instance.c.digest,
                )
                .where(instance.c.id > last)
                .order_by(instance.c.id)
                .limit(_PAGE)
            )
            with self._engine.read() as connection:
                rows = connection.execute(statement).all()
            if not rows:
                return
            yield from (
                IndexedObject(row.object_key, row.size_bytes, row.dataset_offset, row.digest)
                for row in rows
            )
            last = rows[-1].id


def with_parents(*more: Any) -> Any:  # noqa: ANN401 - columns and a select of any type
    """Select instances with the UIDs of their parents, and ``more`` columns."""
    return (
        select(
            instance.c.id,
            instance.c.series_fk,
            instance.c.study_fk,
            study.c.study_instance_uid,
            series.c.series_instance_uid,
            instance.c.sop_instance_uid,
            instance.c.version,
            instance.c.digest,
            instance.c.state,
            instance.c.site,
            instance.c.collection,
            instance.c.partition,
            *more,
        )
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == instance.c.study_fk)
    )


def _affected(
    connection: Connection, scope: Scope, target: Target, state: str
) -> Sequence[Row[Any]]:
    statement = (
        with_parents()
        .where(target.condition(), instance.c.state == state, in_scope(instance, scope))
        .order_by(instance.c.id)
    )
    rows: Sequence[Row[Any]] = connection.execute(statement).all()
    return rows


def _feed_line(row: Row[Any], kind: str, act: Act) -> Change:
    return Change(
        kind=kind,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        version=row.version,
        digest=row.digest,
        site=row.site,
        collection=row.collection,
        partition=row.partition,
        principal=act.principal,
        reason=act.reason,
    )


def _change_state(
    connection: Connection, rows: Sequence[Row[Any]], act: Act, *, kind: str, state: str
) -> int:
    """Change it for all of ``rows``; return the last change."""
    if not rows:
        return 0
    first = changes.reserve(connection, len(rows))
    connection.execute(
        update(instance)
        .where(instance.c.id == bindparam("key"))
        .values(
            state=state,
            reason=act.reason if state == DELETED else "",
            state_at=act.at_us,
            change=bindparam("number"),
        ),
        [{"key": row.id, "number": first + n} for n, row in enumerate(rows)],
    )
    feed = [_feed_line(row, kind, act) for row in rows]
    changes.append(connection, first, feed, act.at_us)
    return first + len(rows) - 1


def _recount(connection: Connection, rows: Sequence[Row[Any]], act: Act, change: int) -> None:
    """Count again, when series are described anew: their modalities are the study's."""
    if rows:
        recount(connection, {row.study_fk for row in rows}, act.at_us, change)
