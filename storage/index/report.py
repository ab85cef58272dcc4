"""What an operator wants to know of the index at a glance."""

from sqlalchemy import and_, func, or_, select

from storage.index import changes, clock
from storage.index.changes import ChangeFilter, in_scope
from storage.index.engine import IndexEngine
from storage.index.insertion import DELETED, HELD
from storage.index.lifecycle import with_parents
from storage.index.rows import ChangeRow, Totals, UnusualInstance
from storage.index.scope import Scope
from storage.index.tables import change, instance, source, study
from storage.index.totals import RELEASED


class IndexReport:
    """What an operator wants to know of the index at a glance."""

    def __init__(self, engine: IndexEngine) -> None:
        self._engine = engine

    def totals(self, scope: Scope) -> Totals:
        """Count what ``scope`` may see, and what is unusual in it."""
        shown = and_(study.c.number_of_instances > 0, in_scope(study, scope))
        counts = select(
            func.count(study.c.patient_fk.distinct()),
            func.count(),
            func.coalesce(func.sum(study.c.number_of_series), 0),
            func.coalesce(func.sum(study.c.number_of_instances), 0),
            func.coalesce(func.sum(study.c.size_bytes), 0),
        ).where(shown)
        states = (
            select(instance.c.state, func.count().label("number"))
            .where(instance.c.state != RELEASED, in_scope(instance, scope))
            .group_by(instance.c.state)
        )
        flags = select(
            func.coalesce(func.sum(instance.c.duplicates), 0),
            func.count().filter(instance.c.uid_elsewhere),
        ).where(
            or_(instance.c.duplicates > 0, instance.c.uid_elsewhere), in_scope(instance, scope)
        )
        senders = (
            select(
                source.c.protocol,
                source.c.site,
                source.c.principal,
                func.count(instance.c.id),
            )
            .join(instance, instance.c.source_fk == source.c.id)
            .where(in_scope(instance, scope))
            .group_by(source.c.protocol, source.c.site, source.c.principal)
            .order_by(func.count(instance.c.id).desc())
            .limit(50)
        )
        with self._engine.read() as connection:
            patients, studies, of_series, instances, size = connection.execute(counts).one()
            by_state = {row.state: row.number for row in connection.execute(states)}
            duplicates, elsewhere = connection.execute(flags).one()
            by_source = connection.execute(senders).all()
            last = connection.execute(select(func.max(change.c.sequence))).scalar()
        return Totals(
            patients=patients,
            studies=studies,
            series=int(of_series),
            instances=int(instances),
            bytes_=int(size),
            held=by_state.get(HELD, 0),
            deleted=by_state.get(DELETED, 0),
            duplicates=int(duplicates),
            elsewhere=elsewhere,
            last_change=last or 0,
            by_source=tuple(
                (" ".join(filter(None, (protocol, site, principal))), count)
                for protocol, site, principal, count in by_source
            ),
        )

    def unusual(self, scope: Scope, limit: int) -> list[UnusualInstance]:
        """Return held versions and instances whose SOP UID is elsewhere, newest first."""
        statement = (
            with_parents(instance.c.reason, instance.c.uid_elsewhere, instance.c.received_at)
            .where(
                or_(instance.c.state == HELD, instance.c.uid_elsewhere),
                instance.c.state != DELETED,
                in_scope(instance, scope),
            )
            .order_by(instance.c.received_at.desc())
            .limit(limit)
        )
        with self._engine.read() as connection:
            rows = connection.execute(statement).all()
        return [
            UnusualInstance(
                study_instance_uid=row.study_instance_uid,
                series_instance_uid=row.series_instance_uid,
                sop_instance_uid=row.sop_instance_uid,
                version=row.version,
                why="held version" if row.state == HELD else "SOP UID elsewhere",
                site=row.site,
                received_at=clock.from_us(row.received_at),
            )
            for row in rows
        ]

    def changes(self, scope: Scope, asked: ChangeFilter) -> tuple[list[ChangeRow], int]:
        """Return changes, and the number of the last change there was before they were read."""
        with self._engine.read() as connection:
            # In this order: what is committed in between is then left for the next time.
            last = changes.count(connection)
            return changes.read(connection, scope, asked), last

    def latest_change(self, scope: Scope) -> int:
        """Return the number of the last change that ``scope`` may see; 0 for none."""
        with self._engine.read() as connection:
            return changes.latest(connection, scope)

    def change_counter(self) -> int:
        """Return the number of the last change of all; cheap to ask again and again."""
        with self._engine.read() as connection:
            return changes.count(connection)
