"""New instances into the index: one transaction a batch, identity decided inside it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from storage.index import changes, clock
from storage.index.changes import Change
from storage.index.engine import IndexEngine
from storage.index.parents import ParentCache, Parents
from storage.index.prepared import Prepared
from storage.index.rows import Insertion, InstanceRow, NewInstance
from storage.index.tables import instance, instance_detail, series, study
from storage.index.terms import TermWriter
from storage.index.totals import RELEASED, Growth, recount

HELD = "held"
_VISIBLE = frozenset({"stored", "replaced"})
DELETED = "deleted"
_PLAIN_COLUMNS: Final = tuple(
    name for name in InstanceRow.__slots__ if name in instance.c and name != "received_at"
)
_plain_values: Final = attrgetter(*_PLAIN_COLUMNS)


# Built once: building a statement costs SQLAlchemy more than running it costs SQLite.
_VERSIONS: Final = Prepared(
    select(
        instance.c.sop_instance_uid,
        study.c.study_instance_uid,
        series.c.series_instance_uid,
        instance.c.version,
        instance.c.digest,
        instance.c.transfer_syntax_uid,
        instance.c.state,
        instance.c.id,
    )
    .join(series, series.c.id == instance.c.series_fk)
    .join(study, study.c.id == instance.c.study_fk)
    .where(instance.c.sop_instance_uid.in_(bindparam("uids", expanding=True)))
    .order_by(instance.c.id)
)
_INSERT_INSTANCES: Final = Prepared(insert(instance).returning(instance.c.id))
_INSERT_DETAILS: Final = Prepared(insert(instance_detail))


@dataclass(frozen=True, slots=True)
class _Version:
    """One stored content of an instance."""

    place: tuple[str, str]
    version: int
    digest: bytes
    transfer_syntax_uid: str
    state: str
    instance_id: int


@dataclass(slots=True)
class _Decisions:
    """What a batch amounts to, before it is written."""

    insertions: list[Insertion] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    details: list[InstanceRow] = field(default_factory=list)
    duplicated: list[int] = field(default_factory=list)
    displaced: list[int] = field(default_factory=list)
    recount: dict[int, int] = field(default_factory=dict)
    growth: Growth = field(default_factory=Growth)


class InstanceInserter:
    """Takes batches of new instances into the index.

    Parameters
    ----------
    engine
        The index.
    replace
        What a second content under the same UIDs becomes: the visible version (True), or one
        held aside while the first stays visible (False).
    """

    def __init__(self, engine: IndexEngine, *, replace: bool = False) -> None:
        self._engine = engine
        self._replace = replace
        self._cache = ParentCache()
        self._terms = TermWriter()

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the turn to insert; what comes meanwhile can be inserted with the rest."""
        return self._engine.turn()

    def insert(self, batch: Sequence[NewInstance]) -> list[Insertion]:
        """Insert ``batch``; return what became of each, in order.

        Raises
        ------
        IndexBusyError, IndexUnavailableError
            Then the last transaction changed nothing.
        """
        # Whoever comes second under the same UIDs must find the first in the index.
        waiting = list(enumerate(batch))
        became: dict[int, Insertion] = {}
        while waiting:
            chosen: dict[str, tuple[int, NewInstance]] = {}
            later = []
            for position, new in waiting:
                if (
                    chosen.setdefault(new.instance.sop_instance_uid, (position, new))[0]
                    != position
                ):
                    later.append((position, new))
            done = self._insert_distinct([new for _, new in chosen.values()])
            became.update(zip((position for position, _ in chosen.values()), done, strict=True))
            waiting = later
        return [became[position] for position in range(len(batch))]

    def _insert_distinct(self, batch: Sequence[NewInstance]) -> list[Insertion]:
        try:
            return self._insert_in_one(batch)
        except BaseException:
            self._terms.forget()
            raise

    def _insert_in_one(self, batch: Sequence[NewInstance]) -> list[Insertion]:
        at_us = clock.now_us()
        with self._engine.write() as connection:
            first = changes.reserve(connection, len(batch))
            parents = Parents(connection, self._cache, at_us)
            parents.resolve(batch)
            versions = _find_versions(connection, batch)
            decisions = _Decisions()
            for position, new in enumerate(batch):
                arrival = _Arrival(new, parents, versions[new.instance.sop_instance_uid])
                self._decide(arrival, decisions, change=first + position)
            visible = [
                new
                for new, became in zip(batch, decisions.insertions, strict=True)
                if became.kind in _VISIBLE
            ]
            studies, appeared = _write(connection, decisions, at_us)
            parents.renew(visible, studies, appeared)
            parents.hear_again(
                new
                for new in visible
                if any(
                    known.state == DELETED for known in versions[new.instance.sop_instance_uid]
                )
            )
            parents.fill_gaps(visible)
            self._terms.write(
                connection,
                [(parents.series_of(new).id, new.terms) for new in batch],
                parents.made_series,
            )
            changes.append(connection, first, decisions.changes, at_us)
        self._cache.learn(parents)
        return decisions.insertions

    def _decide(self, arrival: "_Arrival", decisions: _Decisions, *, change: int) -> None:
        kind, same = _judge(arrival, replace=self._replace)
        elsewhere = arrival.elsewhere()
        version = same.version if same else arrival.next_version()
        reason = f"SOP Instance UID also in {elsewhere}" if elsewhere and not same else ""
        decisions.insertions.append(Insertion(kind, keep=same is None, elsewhere=elsewhere))
        decisions.changes.append(arrival.change(kind, version, reason))
        decisions.growth.touch(arrival.study.id, arrival.series.id, change)
        if same is not None:
            decisions.duplicated.append(same.instance_id)
            return
        state = HELD if kind == "held" else RELEASED
        decisions.rows.append(arrival.row(state, version, change))
        decisions.details.append(arrival.new.instance)
        if kind == "replaced":
            decisions.displaced.extend(
                known.instance_id for known in arrival.here() if known.state == RELEASED
            )
            decisions.recount[arrival.study.id] = change
        elif kind == "stored":
            decisions.growth.add(
                arrival.study.id,
                arrival.series.id,
                size_bytes=arrival.new.instance.size_bytes,
                sop_class_uid=arrival.new.instance.sop_class_uid,
                modality=arrival.new.series.modality,
            )


class _Arrival:
    """A new instance, its parents, and what is stored under its SOP Instance UID."""

    def __init__(self, new: NewInstance, parents: Parents, known: Sequence[_Version]) -> None:
        self.new = new
        self.study = parents.study_of(new)
        self.series = parents.series_of(new)
        self._source_fk = parents.sources[new.source_key]
        self._known = known
        self._place = (new.study.study_instance_uid, new.series.series_instance_uid)

    def here(self) -> list[_Version]:
        """Return the versions under the same three UIDs, the visible one first."""
        found = [known for known in self._known if known.place == self._place]
        return sorted(found, key=lambda known: known.state != RELEASED)

    def elsewhere(self) -> str:
        """Return another "study/series" that holds the same SOP Instance UID."""
        places = (
            known.place
            for known in self._known
            if known.place != self._place and known.state != DELETED
        )
        return "/".join(next(places, ()))

    def next_version(self) -> int:
        """Return the number of the next content under these UIDs."""
        return max((known.version for known in self.here()), default=0) + 1

    def change(self, kind: str, version: int, reason: str) -> Change:
        """Return the line of the change feed."""
        return Change(
            kind=kind,
            study_instance_uid=self.new.study.study_instance_uid,
            series_instance_uid=self.new.series.series_instance_uid,
            sop_instance_uid=self.new.instance.sop_instance_uid,
            version=version,
            digest=self.new.instance.digest,
            site=self.new.source.site,
            collection=self.series.collection,
            partition=self.series.partition,
            principal=self.new.source.principal,
            reason=reason,
        )

    def row(self, state: str, version: int, change: int) -> dict[str, Any]:
        """Return the row of `instance`."""
        row = self.new.instance
        received = clock.to_us(row.received_at)
        values = dict(zip(_PLAIN_COLUMNS, _plain_values(row), strict=True))
        values |= {
            "series_fk": self.series.id,
            "study_fk": self.study.id,
            "source_fk": self._source_fk,
            "collection": self.series.collection,
            "site": self.new.source.site,
            "partition": self.series.partition,
            "received_at": received,
            "state": state,
            "state_at": received,
            "version": version,
            "change": change,
            "uid_elsewhere": bool(self.elsewhere()),
        }
        return values


def _judge(arrival: _Arrival, *, replace: bool) -> tuple[str, _Version | None]:
    """Return what an arrival is, and the version that holds the same content already.

    Deleted versions do not count: what was deleted and is sent again is stored anew. Nor do
    versions held aside for the sake of one that is gone since.
    """
    alive = [known for known in arrival.here() if known.state != DELETED]
    if all(known.state == HELD for known in alive):
        return "stored", None
    row = arrival.new.instance
    for known in alive:
        if (known.digest, known.transfer_syntax_uid) == (row.digest, row.transfer_syntax_uid):
            return (HELD if known.state == HELD else "duplicate"), known
    return ("replaced" if replace else HELD), None


def _was_deleted(known: Sequence[_Version]) -> bool:
    return any(version.state == DELETED for version in known)


def _find_versions(
    connection: Connection, batch: Sequence[NewInstance]
) -> dict[str, list[_Version]]:
    uids = [new.instance.sop_instance_uid for new in batch]
    found: dict[str, list[_Version]] = {uid: [] for uid in uids}
    for uid, of_study, of_series, *rest in _VERSIONS.rows(connection, {"uids": uids}):
        found[uid].append(_Version((of_study, of_series), *rest))
    return found


def _write(
    connection: Connection, decisions: _Decisions, at_us: int
) -> tuple[set[int], set[int]]:
    """Write everything; return the studies and series that had nothing visible before."""
    if decisions.displaced:
        connection.execute(
            update(instance)
            .where(instance.c.id.in_(decisions.displaced))
            .values(state=HELD, reason="replaced", state_at=at_us)
        )
    if decisions.duplicated:
        connection.execute(
            update(instance)
            .where(instance.c.id == bindparam("key"))
            .values(duplicates=instance.c.duplicates + 1),
            [{"key": key} for key in decisions.duplicated],
        )
    if decisions.rows:
        keys = _INSERT_INSTANCES.keys(connection, decisions.rows)
        _INSERT_DETAILS.run(
            connection,
            [
                {
                    "instance_fk": key,
                    "metadata": row.metadata,
                    "bulk": row.bulk,
                    "frames": row.frames,
                }
                for key, row in zip(keys, decisions.details, strict=True)
            ],
        )
    appeared = decisions.growth.apply(connection, at_us)
    for study_fk, change in decisions.recount.items():
        recount(connection, [study_fk], at_us, change)
    return appeared
