"""What each destination has, what it would not take, and what is still to be sent to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select, update

from storage.index.engine import IndexEngine
from storage.index.forward_jobs import enqueue, revive
from storage.index.forward_rows import ForwardJob, JobFilter
from storage.index.rows import StoredInstance
from storage.index.scope import Scope
from storage.index.selection import Target, select_instances, stored_instance, visible
from storage.index.tables import forward_delivery, forward_job, instance, series, source, study

SENT = "sent"
REFUSED = "refused"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one instance.

    Parameters
    ----------
    outcome
        sent; refused: for good; failed: to be tried again.
    status
        What the destination answered; None when nothing was sent.
    """

    instance_id: int
    outcome: str
    status: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An instance that a destination has not, though it was tried."""

    series_instance_uid: str
    sop_instance_uid: str
    outcome: str
    status: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Which instances are meant, by where they came from; what is empty does not narrow.

    Parameters
    ----------
    site, calling_ae_title
        Only of this site, only from this AE title.
    never_from
        None that came from this AE title.
    """

    site: str = ""
    calling_ae_title: str = ""
    never_from: str = ""


class ForwardDeliveryRows:
    """The table of deliveries.

    Parameters
    ----------
    engine
        The index.
    """

    def __init__(self, engine: IndexEngine) -> None:
        self._engine = engine

    def pending(
        self, scope: Scope, job: ForwardJob, origin: Origin, *, after: int, limit: int
    ) -> list[StoredInstance]:
        """Return what the destination of ``job`` has not, in the order it was stored.

        Parameters
        ----------
        after
            Only instances with a higher `instance_id`.
        """
        delivered = and_(
            forward_delivery.c.instance_fk == instance.c.id,
            forward_delivery.c.destination == job.destination,
        )
        statement = (
            select_instances()
            .join(source, source.c.id == instance.c.source_fk)
            .outerjoin(forward_delivery, delivered)
            .where(
                _target(job).condition(),
                visible(scope),
                instance.c.id > after,
                or_(forward_delivery.c.outcome.is_(None), forward_delivery.c.outcome == FAILED),
                *_of_origin(origin),
            )
            .order_by(instance.c.id)
            .limit(limit)
        )
        with self._engine.read() as connection:
            return [stored_instance(row) for row in connection.execute(statement)]

    def record(self, job: ForwardJob, deliveries: Sequence[Delivery], now_us: int) -> bool:
        """Write what became of instances; return whether the job's claim still holds.

        Written whether it does or not: what has been sent has been sent.
        """
        keys = [one.instance_id for one in deliveries]
        with self._engine.write() as connection:
            known = set(
                connection.execute(select(instance.c.id).where(instance.c.id.in_(keys)))
                .scalars()
                .all()
            )
            _forget(connection, job.destination, forward_delivery.c.instance_fk.in_(keys))
            rows = [_row(one, job, now_us) for one in deliveries if one.instance_id in known]
            if rows:  # what was purged meanwhile is nobody's any more
                connection.execute(insert(forward_delivery), rows)
            counted = (
                update(forward_job)
                .where(forward_job.c.id == job.id, forward_job.c.claim == job.claim)
                .values(
                    sent=forward_job.c.sent + _count(deliveries, SENT),
                    refused=forward_job.c.refused + _count(deliveries, REFUSED),
                    updated_at=now_us,
                )
            )
            return connection.execute(counted).rowcount > 0

    def undelivered(self, job: ForwardJob, limit: int) -> list[Undelivered]:
        """Return instances that were refused or failed."""
        statement = (
            select(
                series.c.series_instance_uid,
                instance.c.sop_instance_uid,
                forward_delivery.c.outcome,
                forward_delivery.c.status,
                forward_delivery.c.reason,
            )
            .join(instance, instance.c.id == forward_delivery.c.instance_fk)
            .join(series, series.c.id == instance.c.series_fk)
            .join(study, study.c.id == instance.c.study_fk)
            .where(
                _target(job).condition(),
                forward_delivery.c.destination == job.destination,
                forward_delivery.c.outcome != SENT,
            )
            .order_by(instance.c.id)
            .limit(limit)
        )
        with self._engine.read() as connection:
            return [Undelivered(*row) for row in connection.execute(statement)]

    def enqueue(self, target: Target, destination: str, principal: str, now_us: int) -> None:
        """Queue what an operator asks for, whether the destination has it or not."""
        job = {
            "rule": "",
            "destination": destination,
            "study_instance_uid": target.study_instance_uid,
            "series_instance_uid": target.series_instance_uid or "",
            "sop_instance_uid": target.sop_instance_uid or "",
            "principal": principal,
        }
        with self._engine.write() as connection:
            _forget(connection, destination, forward_delivery.c.instance_fk.in_(_keys(target)))
            enqueue(connection, job, now_us)

    def retry(self, asked: JobFilter, now_us: int) -> int:
        """Try again what waits, was given up or refused; return how many jobs.

        What was cancelled is tried again only when its study is named.
        """
        states = ["waiting", "dead"] + (["cancelled"] if asked.study_instance_uid else [])
        wanted = or_(
            forward_job.c.state.in_(states),
            and_(forward_job.c.state == "done", forward_job.c.refused > 0),
        )
        with self._engine.write() as connection:
            rows = connection.execute(select(forward_job).where(asked.condition(), wanted))
            jobs = rows.all()
            for row in jobs:
                _forget(
                    connection,
                    row.destination,
                    forward_delivery.c.outcome != SENT,
                    forward_delivery.c.instance_fk.in_(_keys(_target(row))),
                )
            revive(connection, [row.id for row in jobs], now_us)
        return len(jobs)


def _of_origin(origin: Origin) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if origin.never_from:
        conditions.append(source.c.calling_ae_title != origin.never_from)
    if origin.calling_ae_title:
        conditions.append(source.c.calling_ae_title == origin.calling_ae_title)
    if origin.site:
        conditions.append(source.c.site == origin.site)
    return conditions


def _target(job: Any) -> Target:  # noqa: ANN401 - a `ForwardJob`, or its row
    return Target(
        job.study_instance_uid, job.series_instance_uid or None, job.sop_instance_uid or None
    )


def _keys(target: Target) -> Any:  # noqa: ANN401 - a select of keys
    return (
        select(instance.c.id)
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == instance.c.study_fk)
        .where(target.condition())
    )


def _forget(connection: Connection, destination: str, *which: ColumnElement[bool]) -> None:
    connection.execute(
        delete(forward_delivery).where(forward_delivery.c.destination == destination, *which)
    )


def _row(one: Delivery, job: ForwardJob, now_us: int) -> dict[str, Any]:
    return {
        "instance_fk": one.instance_id,
        "destination": job.destination,
        "outcome": one.outcome,
        "status": one.status,
        "reason": one.reason,
        "at": now_us,
    }


def _count(deliveries: Sequence[Delivery], outcome: str) -> int:
    return sum(one.outcome == outcome for one in deliveries)
