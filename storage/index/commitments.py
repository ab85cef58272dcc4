"""Requests for storage commitment: who asked for what, and whose turn it is to answer.

Several processes, of several nodes, work on the same requests. Each works on a request only
under a lease that it took with one conditional UPDATE and renews; what a process that died was
at is free for others when its lease runs out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Connection, Row, and_, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage.index import clock
from storage.index.changes import in_scope
from storage.index.engine import IndexEngine
from storage.index.insertion import HELD
from storage.index.rows import IndexedObject
from storage.index.scope import Scope
from storage.index.tables import commitment, instance, series, source, study
from storage.index.totals import RELEASED

ACCEPTED: Final = "accepted"
CHECKED: Final = "checked"
UNADDRESSED: Final = "unaddressed"
REPORTED: Final = "reported"
FAILED: Final = "failed"
# What is still to be done.
OPEN: Final = (ACCEPTED, CHECKED, UNADDRESSED)


@dataclass(frozen=True, slots=True)
class NewCommitment:
    """A request as it arrived.

    Parameters
    ----------
    digest
        Tells the same request from another one under the same Transaction UID.
    requested
        The references, as the caller encodes them.
    """

    transaction_uid: str
    ae_title: str
    principal: str
    site: str
    scope: Scope
    digest: bytes
    requested: bytes
    number_of_instances: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a request: whose, and until when (microseconds since 1970)."""

    owner: str
    until_us: int


@dataclass(frozen=True, slots=True)
class CommitmentRow:
    """A request and what became of it so far; moments in microseconds, 0 for never."""

    id: int
    transaction_uid: str
    ae_title: str
    principal: str
    site: str
    scope: Scope
    duplicate: bool
    requested: bytes
    failed: bytes
    number_of_instances: int
    number_failed: int
    state: str
    status: int | None
    reason: str
    attempts: int
    accepted_at: int
    checked_at: int
    state_at: int
    due_at: int


@dataclass(frozen=True, slots=True)
class KeptInstance:
    """A version of an instance under a SOP Instance UID that was asked for.

    Parameters
    ----------
    place
        Of its study and series: versions of the same place follow each other.
    visible
        False for a version that is held aside.
    sender
        AE title it came from; "" when it did not come by association.
    """

    sop_instance_uid: str
    sop_class_uid: str
    place: int
    version: int
    visible: bool
    sender: str
    stored: IndexedObject


class CommitmentTable:
    """The requests of one index.

    Parameters
    ----------
    engine
        The index.
    """

    def __init__(self, engine: IndexEngine) -> None:
        self._engine = engine

    def add(self, new: NewCommitment, lease: Lease) -> CommitmentRow | None:
        """Keep a request and take it under ``lease``; durable when this returns.

        The same request again begins anew, unless somebody is at it. Another request under a
        Transaction UID that the same peer has used is kept as a duplicate.

        Returns
        -------
        CommitmentRow or None
            None when the same request is being worked on already.
        """
        now = clock.now_us()
        with self._engine.write() as connection:
            for duplicate in (False, True):
                key = _insert(connection, new, lease, duplicate=duplicate)
                if key is None:
                    key = _begin_again(connection, new, lease, now)
                if key is not None:
                    return _one(connection, key) if key else None
        return None

    def is_due(self) -> bool:
        """Tell whether a request is due and free."""
        with self._engine.read() as connection:
            found = connection.execute(select(commitment.c.id).where(_is_free()).limit(1))
            return found.first() is not None

    def claim_due(
        self, lease: Lease, limit: int, *, without: Iterable[str] = ()
    ) -> list[CommitmentRow]:
        """Take up to ``limit`` requests that are due and free; the longest due come first.

        Parameters
        ----------
        without
            AE titles whose requests are left.
        """
        free = and_(_is_free(), commitment.c.ae_title.not_in(sorted(without)))
        due = (
            select(commitment.c.id)
            .where(free)
            .order_by(commitment.c.due_at, commitment.c.id)
            .limit(limit)
        )
        with self._engine.read() as connection:
            keys = list(connection.execute(due).scalars())
        if not keys:
            return []
        with self._engine.write() as connection:
            # Whoever comes second finds the lease taken, and the condition false.
            taken = connection.execute(
                update(commitment)
                .where(commitment.c.id.in_(keys), free)
                .values(lease_owner=lease.owner, lease_until=lease.until_us)
                .returning(commitment.c.id)
            ).scalars()
            return [_one(connection, key) for key in sorted(taken, key=keys.index)]

    def change(self, key: int, owner: str, **values: Any) -> bool:  # noqa: ANN401 - columns
        """Set columns of a request, if ``owner`` holds its lease; tell whether it does."""
        with self._engine.write() as connection:
            changed = connection.execute(
                update(commitment)
                .where(commitment.c.id == key, commitment.c.lease_owner == owner)
                .values(**values)
            )
            return bool(changed.rowcount)

    def free_all(self) -> None:
        """End every lease: only where no other node can hold one."""
        with self._engine.write() as connection:
            connection.execute(
                update(commitment)
                .where(commitment.c.lease_owner != "")
                .values(lease_owner="", lease_until=0)
            )

    def rows(self, *, transaction_uid: str = "", limit: int = 1000) -> list[CommitmentRow]:
        """Return requests, the newest first; all, or those of one Transaction UID."""
        statement = select(commitment).order_by(commitment.c.id.desc()).limit(limit)
        if transaction_uid:
            statement = statement.where(commitment.c.transaction_uid == transaction_uid)
        with self._engine.read() as connection:
            return [_row(row) for row in connection.execute(statement)]

    def begin_again(self, keys: Sequence[int], *, now_us: int) -> int:
        """Let requests be checked and reported anew, now; return how many."""
        with self._engine.write() as connection:
            return connection.execute(
                update(commitment)
                .where(commitment.c.id.in_(keys), commitment.c.lease_until <= now_us)
                .values(**_anew(now_us))
            ).rowcount

    def remove(self, keys: Sequence[int]) -> int:
        """Forget requests, whatever their state; return how many."""
        with self._engine.write() as connection:
            return connection.execute(
                delete(commitment).where(commitment.c.id.in_(keys))
            ).rowcount

    def remove_finished(self, before_us: int) -> int:
        """Forget requests that were answered or given up before a moment; return how many."""
        with self._engine.write() as connection:
            return connection.execute(
                delete(commitment).where(
                    commitment.c.state.in_((REPORTED, FAILED)),
                    commitment.c.state_at < before_us,
                )
            ).rowcount

    def kept(self, scope: Scope, uids: Sequence[str]) -> list[KeptInstance]:
        """Return what ``scope`` may see under SOP Instance UIDs, and versions held aside.

        Parameters
        ----------
        uids
            Some hundreds at most.
        """
        with self._engine.read() as connection:
            rows = connection.execute(_kept(scope, uids)).all()
        return [_kept_instance(row) for row in rows]


def _kept(scope: Scope, uids: Sequence[str]) -> Any:  # noqa: ANN401 - a select
    return (
        select(
            instance.c.sop_instance_uid,
            instance.c.sop_class_uid,
            instance.c.series_fk,
            instance.c.version,
            instance.c.state,
            instance.c.object_key,
            instance.c.size_bytes,
            instance.c.dataset_offset,
            instance.c.digest,
            source.c.calling_ae_title,
        )
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == instance.c.study_fk)
        .join(source, source.c.id == instance.c.source_fk)
        .where(
            instance.c.sop_instance_uid.in_(uids),
            or_(instance.c.state == RELEASED, instance.c.state == HELD),
            in_scope(study, scope),
            in_scope(series, scope),
            in_scope(instance, scope),
        )
    )


def _kept_instance(row: Row[Any]) -> KeptInstance:
    return KeptInstance(
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        place=row.series_fk,
        version=row.version,
        visible=row.state == RELEASED,
        sender=row.calling_ae_title,
        stored=IndexedObject(
            row.object_key, row.size_bytes, row.dataset_offset, bytes(row.digest)
        ),
    )


def _insert(
    connection: Connection, new: NewCommitment, lease: Lease, *, duplicate: bool
) -> int | None:
    """Return the new row's key; None when there is one already."""
    now = clock.now_us()
    values = {
        "transaction_uid": new.transaction_uid,
        "ae_title": new.ae_title,
        "principal": new.principal,
        "site": new.site,
        "collections": _names(new.scope.collections),
        "partitions": _names(new.scope.partitions),
        "digest": new.digest,
        "duplicate": duplicate,
        "requested": new.requested,
        "failed": b"",
        "number_of_instances": new.number_of_instances,
        "state": ACCEPTED,
        "accepted_at": now,
        "state_at": now,
        "due_at": now,
        "lease_owner": lease.owner,
        "lease_until": lease.until_us,
    }
    statement = _insert_or_nothing(connection).values(**values).returning(commitment.c.id)
    key: int | None = connection.execute(statement).scalar()
    return key


def _insert_or_nothing(connection: Connection) -> Any:  # noqa: ANN401 - one of two dialects'
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(commitment).on_conflict_do_nothing()


def _begin_again(
    connection: Connection, new: NewCommitment, lease: Lease, now: int
) -> int | None:
    """Return the key of the same request, now under ``lease``; 0 when somebody is at it."""
    same = and_(
        commitment.c.ae_title == new.ae_title,
        commitment.c.transaction_uid == new.transaction_uid,
        commitment.c.digest == new.digest,
    )
    if connection.execute(select(commitment.c.id).where(same)).first() is None:
        return None
    key: int | None = connection.execute(
        update(commitment)
        .where(same, commitment.c.lease_until <= now)
        .values(
            **_anew(now) | {"lease_owner": lease.owner, "lease_until": lease.until_us},
            collections=_names(new.scope.collections),
            partitions=_names(new.scope.partitions),
            principal=new.principal,
        )
        .returning(commitment.c.id)
    ).scalar()
    return key or 0


def _anew(now_us: int) -> dict[str, Any]:
    return {
        "state": ACCEPTED,
        "failed": b"",
        "number_failed": 0,
        "status": None,
        "reason": "",
        "attempts": 0,
        "accepted_at": now_us,
        "checked_at": 0,
        "state_at": now_us,
        "due_at": now_us,
        "lease_owner": "",
        "lease_until": 0,
    }


def _is_free() -> ColumnElement[bool]:
    now = clock.now_us()
    return and_(
        commitment.c.state.in_(OPEN),
        commitment.c.due_at <= now,
        commitment.c.lease_until <= now,
    )


def _one(connection: Connection, key: int) -> CommitmentRow:
    return _row(connection.execute(select(commitment).where(commitment.c.id == key)).one())


def _row(row: Row[Any]) -> CommitmentRow:
    values = {
        name: getattr(row, name)
        for name in CommitmentRow.__dataclass_fields__
        if name not in ("scope", "requested", "failed")
    }
    return CommitmentRow(
        scope=Scope(_set(row.collections), _set(row.partitions)),
        requested=bytes(row.requested),
        failed=bytes(row.failed),
        **values,
    )


def _names(names: frozenset[str] | None) -> str:
    return orjson.dumps(None if names is None else sorted(names)).decode()


def _set(text: str) -> frozenset[str] | None:
    names = orjson.loads(text)
    return None if names is None else frozenset(names)
