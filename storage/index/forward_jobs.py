"""The queue of what is to be forwarded: rows that are armed, claimed, finished, armed again."""

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from storage.index import changes
from storage.index.engine import IndexEngine
from storage.index.forward_rows import (
    CANCELLED,
    DEAD,
    DONE,
    SENDING,
    WAITING,
    Arming,
    ForwardJob,
    JobFilter,
    Pulse,
)
from storage.index.tables import counter, forward_job, forward_rule

_ENDED: Final = (DONE, DEAD, CANCELLED)
_CURSOR: Final = "forward"


# Made once: to put it together costs more than to ask.
_PULSE: Final = select(
    select(counter.c.value).where(counter.c.name == "change").scalar_subquery(),
    select(counter.c.value).where(counter.c.name == _CURSOR).scalar_subquery(),
    select(func.min(forward_job.c.due_at))
    .where(forward_job.c.state == WAITING)
    .scalar_subquery(),
    select(func.min(forward_job.c.lease_until))
    .where(forward_job.c.state == SENDING)
    .scalar_subquery(),
)


class ForwardJobRows:
    """The table of jobs.

    Parameters
    ----------
    engine
        The index.
    """

    def __init__(self, engine: IndexEngine) -> None:
        self._engine = engine

    # -- the feed --------------------------------------------------------------------------

    def pulse(self) -> Pulse:
        """Look whether there is anything to do: one statement, cheap to ask each second."""
        with self._engine.read() as connection:
            last_change, place, due, lapse = connection.execute(_PULSE).one()
        dues = [moment for moment in (due, lapse) if moment is not None]
        return Pulse(last_change, place, min(dues, default=None))

    def begin(self) -> None:
        """Follow the feed from its end on, if it was not followed yet."""
        known = select(counter.c.value).where(counter.c.name == _CURSOR)
        with self._engine.read() as connection:
            if connection.execute(known).first() is not None:
                return
        with self._engine.write() as connection:
            # Alone: several nodes may begin at once.
            last = changes.reserve(connection, 0) - 1
            if connection.execute(known).first() is None:
                connection.execute(insert(counter).values(name=_CURSOR, value=last))
                # Numbers of an index that was rebuilt since mean nothing any more.
                connection.execute(update(forward_rule).values(since=0))

    def let_go(self) -> None:
        """Free what was being sent: for when nobody can be at it any more."""
        freed = update(forward_job).where(forward_job.c.state == SENDING)
        with self._engine.write() as connection:
            connection.execute(freed.values(lease_until=0))

    def follow(self, cursor: int, to: int, armed: Sequence[Arming], now_us: int) -> bool:
        """Go on in the feed, and arm what came of it, in one transaction.

        Returns
        -------
        bool
            Whether it was done; False when another node has gone on from ``cursor``.
        """
        moved = (
            update(counter)
            .where(counter.c.name == _CURSOR, counter.c.value == cursor)
            .values(value=to)
        )
        with self._engine.write() as connection:
            if not connection.execute(moved).rowcount:
                return False
            for one in armed:
                _arm(connection, one, now_us)
        return True

    # -- the work --------------------------------------------------------------------------

    def due_destinations(self, now_us: int) -> list[str]:
        """Return the destinations that something is due for."""
        statement = select(forward_job.c.destination).where(_claimable(now_us)).distinct()
        with self._engine.read() as connection:
            return sorted(connection.execute(statement).scalars())

    def claim(
        self, destination: str, claim: str, *, now_us: int, lease_us: int, limit: int
    ) -> ForwardJob | None:
        """Take over what is longest due for a destination, for a while.

        Parameters
        ----------
        claim
            A text nobody else uses; what is done with the job names it.
        limit
            So many may be under way to a destination, by whomever.

        Returns
        -------
        ForwardJob | None
            None when nothing is due, or ``limit`` are under way.
        """
        under_way = select(func.count()).where(
            forward_job.c.destination == destination,
            forward_job.c.state == SENDING,
            forward_job.c.lease_until > now_us,
        )
        next_one = (
            select(forward_job)
            .where(forward_job.c.destination == destination, _claimable(now_us))
            .order_by(forward_job.c.due_at, forward_job.c.id)
            .limit(1)
        )
        with self._engine.write() as connection:
            _lock(connection)
            if connection.execute(under_way).scalar_one() >= limit:
                return None
            row = connection.execute(next_one).first()
            if row is None:
                return None
            taken = (
                update(forward_job)
                .where(
                    forward_job.c.id == row.id,
                    forward_job.c.state == row.state,
                    forward_job.c.claim == row.claim,
                )
                .values(
                    state=SENDING,
                    claim=claim,
                    lease_until=now_us + lease_us,
                    # Whoever let it lapse died of it, for all we know: that counts.
                    attempts=row.attempts + int(row.state == SENDING),
                    updated_at=now_us,
                )
                .returning(*forward_job.c)
            )
            return _job(connection.execute(taken).one())

    def renew(self, claims: Collection[str], *, now_us: int, lease_us: int) -> set[str]:
        """Hold what was claimed for longer; return the claims that still hold."""
        if not claims:
            return set()
        held = (
            update(forward_job)
            .where(forward_job.c.claim.in_(sorted(claims)), forward_job.c.state == SENDING)
            .values(lease_until=now_us + lease_us)
            .returning(forward_job.c.claim)
        )
        with self._engine.write() as connection:
            return set(connection.execute(held).scalars())

    def finish(self, job: ForwardJob, *, now_us: int, **values: Any) -> bool:  # noqa: ANN401
        """Give a claimed job back with the state and whatever else it has now.

        What has arrived in the meantime makes it wait again, whatever it came to.

        Parameters
        ----------
        values
            Columns to set, ``state`` among them; ``due_at`` is never made earlier.

        Returns
        -------
        bool
            Whether the claim still held.
        """
        unchanged = forward_job.c.change == job.change
        again: dict[str, Any] = {
            "state": case((unchanged, literal(values["state"])), else_=WAITING),
            "due_at": _later(literal(values.get("due_at", 0))),
        }
        if values["state"] in _ENDED:
            again["attempts"] = case((unchanged, values.get("attempts", 0)), else_=0)
            again["since"] = case((unchanged, forward_job.c.since), else_=now_us)
        statement = (
            update(forward_job)
            .where(forward_job.c.id == job.id, forward_job.c.claim == job.claim)
            .values(**(values | again), claim="", lease_until=0, updated_at=now_us)
        )
        with self._engine.write() as connection:
            return connection.execute(statement).rowcount > 0

    def drop(self, job: ForwardJob) -> bool:
        """Forget a claimed job, unless something has arrived in the meantime."""
        statement = delete(forward_job).where(
            forward_job.c.id == job.id,
            forward_job.c.claim == job.claim,
            forward_job.c.change == job.change,
        )
        with self._engine.write() as connection:
            return connection.execute(statement).rowcount > 0

    # -- the operator ----------------------------------------------------------------------

    def jobs(self, asked: JobFilter, limit: int) -> list[ForwardJob]:
        """Return jobs: what is open first, then the last that ended."""
        statement = (
            select(forward_job)
            .where(asked.condition())
            .order_by(
                forward_job.c.state.in_((DONE, CANCELLED)),
                forward_job.c.updated_at.desc(),
                forward_job.c.id.desc(),
            )
            .limit(limit)
        )
        with self._engine.read() as connection:
            return [_job(row) for row in connection.execute(statement)]

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many jobs there are by destination and state."""
        statement = select(
            forward_job.c.destination, forward_job.c.state, func.count().label("jobs")
        ).group_by(forward_job.c.destination, forward_job.c.state)
        with self._engine.read() as connection:
            return {
                (row.destination, row.state): row.jobs for row in connection.execute(statement)
            }

    def open_jobs(self) -> dict[str, int]:
        """Return how many jobs are in each state that needs something done."""
        statement = (
            select(forward_job.c.state, func.count().label("jobs"))
            .where(forward_job.c.state.in_((WAITING, SENDING, DEAD)))
            .group_by(forward_job.c.state)
        )
        with self._engine.read() as connection:
            rows = connection.execute(statement).all()
        found = {row.state: row.jobs for row in rows}
        return {state: found.get(state, 0) for state in (WAITING, SENDING, DEAD)}

    def cancel(self, asked: JobFilter, *, reason: str, now_us: int) -> int:
        """End jobs that are not done, also those under way; return how many."""
        statement = (
            update(forward_job)
            .where(asked.condition(), forward_job.c.state.in_((WAITING, SENDING, DEAD)))
            .values(state=CANCELLED, reason=reason, claim="", lease_until=0, updated_at=now_us)
        )
        with self._engine.write() as connection:
            return connection.execute(statement).rowcount


def enqueue(connection: Connection, job: dict[str, Any], now_us: int) -> None:
    """Make a job that an operator asks for wait, anew if it was there."""
    key = (
        "rule",
        "destination",
        "study_instance_uid",
        "series_instance_uid",
        "sop_instance_uid",
    )
    again = (
        update(forward_job)
        .where(*(forward_job.c[name] == job[name] for name in key))
        .values(
            state=case((forward_job.c.state == SENDING, SENDING), else_=WAITING),
            change=forward_job.c.change + 1,
            due_at=now_us,
            since=now_us,
            attempts=0,
            refused=0,
            failed=0,
            reason="",
            principal=job["principal"],
            updated_at=now_us,
        )
    )
    if not connection.execute(again).rowcount:
        values = {"state": WAITING, "due_at": now_us, "since": now_us, "updated_at": now_us}
        connection.execute(insert(forward_job).values(**(job | values)))


def revive(connection: Connection, job_ids: Collection[int], now_us: int) -> None:
    """Let jobs be tried at once, as if they never had been."""
    connection.execute(
        update(forward_job)
        .where(forward_job.c.id.in_(sorted(job_ids)))
        .values(
            state=WAITING,
            due_at=now_us,
            since=now_us,
            attempts=0,
            refused=0,
            failed=0,
            reason="",
            updated_at=now_us,
        )
    )


def _arm(connection: Connection, one: Arming, now_us: int) -> None:
    ended = forward_job.c.state.in_(_ENDED)
    again = (
        update(forward_job)
        .where(
            forward_job.c.rule == one.rule,
            forward_job.c.destination == one.destination,
            forward_job.c.study_instance_uid == one.study_instance_uid,
            forward_job.c.series_instance_uid == "",
            forward_job.c.sop_instance_uid == "",
        )
        .values(
            state=case((ended, WAITING), else_=forward_job.c.state),
            attempts=case((ended, 0), else_=forward_job.c.attempts),
            since=case((ended, now_us), else_=forward_job.c.since),
            due_at=_later(literal(one.due_at)),
            change=one.change,
            updated_at=now_us,
        )
    )
    if not connection.execute(again).rowcount:
        connection.execute(
            insert(forward_job).values(
                rule=one.rule,
                destination=one.destination,
                study_instance_uid=one.study_instance_uid,
                state=WAITING,
                change=one.change,
                due_at=one.due_at,
                since=now_us,
                updated_at=now_us,
            )
        )


def _later(moment: ColumnElement[int]) -> ColumnElement[int]:
    return case((forward_job.c.due_at > moment, forward_job.c.due_at), else_=moment)


def _claimable(now_us: int) -> ColumnElement[bool]:
    return or_(
        and_(forward_job.c.state == WAITING, forward_job.c.due_at <= now_us),
        and_(forward_job.c.state == SENDING, forward_job.c.lease_until <= now_us),
    )


def _lock(connection: Connection) -> None:
    # Counting what is under way and taking one more must not be done by two at once.
    cursor = update(counter).where(counter.c.name == _CURSOR)
    connection.execute(cursor.values(value=counter.c.value))


_COLUMNS: Final = tuple(field.name for field in fields(ForwardJob))


def _job(row: Row[Any]) -> ForwardJob:
    return ForwardJob(**{name: getattr(row, name) for name in _COLUMNS})
