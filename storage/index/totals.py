"""Counts and lists that studies and series keep of their visible instances."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select, update

from storage.index.prepared import InsertNew, Prepared
from storage.index.tables import instance, series, study, study_modality

RELEASED = "released"


class _StudyLists(NamedTuple):
    """What a study's row says before a batch."""

    id: int
    study_date: str
    modalities: str
    sop_classes: str
    number_of_instances: int


# Built once: building a statement costs SQLAlchemy more than running it costs SQLite.
_STUDY_LISTS: Final = Prepared(
    select(
        study.c.id,
        study.c.study_date,
        study.c.modalities,
        study.c.sop_classes,
        study.c.number_of_instances,
    ).where(study.c.id.in_(bindparam("keys", expanding=True)))
)
_EMPTY_SERIES: Final = Prepared(
    select(series.c.id).where(
        series.c.id.in_(bindparam("keys", expanding=True)), series.c.number_of_instances == 0
    )
)
_GROW_STUDY: Final = Prepared(
    update(study)
    .where(study.c.id == bindparam("key"))
    .values(
        number_of_series=study.c.number_of_series + bindparam("series"),
        number_of_instances=study.c.number_of_instances + bindparam("count"),
        size_bytes=study.c.size_bytes + bindparam("size"),
        modalities=bindparam("all_modalities"),
        sop_classes=bindparam("all_classes"),
        updated_at=bindparam("moment"),
        change=bindparam("last"),
    )
)
_GROW_SERIES: Final = Prepared(
    update(series)
    .where(series.c.id == bindparam("key"))
    .values(
        number_of_instances=series.c.number_of_instances + bindparam("count"),
        size_bytes=series.c.size_bytes + bindparam("size"),
        updated_at=bindparam("moment"),
        change=bindparam("last"),
    )
)
_ADD_MODALITIES: Final = InsertNew(study_modality)


@dataclass(slots=True)
class _Growth:
    """What one study gains from a batch."""

    series: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    sop_classes: set[str] = field(default_factory=set)
    modalities: set[str] = field(default_factory=set)
    change: int = 0


class Growth:
    """What the studies and series of a batch gain, added to their rows at its end."""

    def __init__(self) -> None:
        self._studies: dict[int, _Growth] = defaultdict(_Growth)

    def add(
        self,
        study_fk: int,
        series_fk: int,
        *,
        size_bytes: int,
        sop_class_uid: str,
        modality: str,
    ) -> None:
        """Count one more visible instance."""
        growth = self._studies[study_fk]
        counts = growth.series[series_fk]
        counts[0] += 1
        counts[1] += size_bytes
        growth.sop_classes.add(sop_class_uid)
        growth.modalities.add(modality)

    def touch(self, study_fk: int, series_fk: int, change: int) -> None:
        """Note the last change of a study and a series, counted or not."""
        growth = self._studies[study_fk]
        growth.change = max(growth.change, change)
        growth.series[series_fk]

    def apply(self, connection: Connection, at_us: int) -> tuple[set[int], set[int]]:
        """Add everything to the rows of the index.

        Returns
        -------
        tuple of set of int
            The studies and the series that had nothing visible before, and have now.
        """
        if not self._studies:
            return set(), set()
        rows = _STUDY_LISTS.rows(connection, {"keys": list(self._studies)})
        known = {row[0]: _StudyLists(*row) for row in rows}
        of_series = [key for growth in self._studies.values() for key in growth.series]
        was_empty = {key for (key,) in _EMPTY_SERIES.rows(connection, {"keys": of_series})}
        _GROW_STUDY.run(
            connection,
            [
                _gain(known[key], growth, was_empty, at_us=at_us)
                for key, growth in self._studies.items()
            ],
        )
        for key, growth in self._studies.items():
            new = growth.modalities - set(known[key].modalities.split("\\"))
            _add_modalities(connection, key, known[key].study_date, new)
        _GROW_SERIES.run(
            connection,
            [
                {
                    "key": key,
                    "count": count,
                    "size": size,
                    "last": growth.change,
                    "moment": at_us,
                }
                for growth in self._studies.values()
                for key, (count, size) in growth.series.items()
            ],
        )
        return self._appeared(known, was_empty)

    def _appeared(
        self, known: Mapping[int, _StudyLists], was_empty: set[int]
    ) -> tuple[set[int], set[int]]:
        grown = {
            key
            for growth in self._studies.values()
            for key, (count, _) in growth.series.items()
            if count
        }
        studies = {
            key
            for key, growth in self._studies.items()
            if not known[key].number_of_instances and growth.modalities
        }
        return studies, grown & was_empty


def _gain(
    known: _StudyLists, growth: _Growth, was_empty: set[int], *, at_us: int
) -> dict[str, object]:
    counts = growth.series.values()
    return {
        "key": known.id,
        "series": sum(1 for key, (n, _) in growth.series.items() if n and key in was_empty),
        "count": sum(count for count, _ in counts),
        "size": sum(size for _, size in counts),
        "all_modalities": _merged(known.modalities, growth.modalities),
        "all_classes": _merged(known.sop_classes, growth.sop_classes),
        "moment": at_us,
        "last": growth.change,
    }


def _merged(backslash_list: str, more: set[str]) -> str:
    known = set(backslash_list.split("\\"))
    return "\\".join(sorted((known | more) - {""}))


def _add_modalities(
    connection: Connection, study_fk: int, study_date: str, modalities: set[str]
) -> None:
    rows = [
        {"modality": modality, "study_fk": study_fk, "study_date": study_date}
        for modality in sorted(modalities - {""})
    ]
    _ADD_MODALITIES.run(connection, rows)


def recount(connection: Connection, study_fks: Iterable[int], at_us: int, change: int) -> None:
    """Count the visible instances of whole studies again: after deletion and its undoing."""
    for study_fk in study_fks:
        _recount_series(connection, study_fk, at_us, change)
        _recount_study(connection, study_fk, at_us, change)


def _recount_series(connection: Connection, study_fk: int, at_us: int, change: int) -> None:
    visible = (instance.c.series_fk == series.c.id, instance.c.state == RELEASED)
    count = select(func.count()).where(*visible).correlate(series).scalar_subquery()
    size = (
        select(func.coalesce(func.sum(instance.c.size_bytes), 0))
        .where(*visible)
        .correlate(series)
        .scalar_subquery()
    )
    connection.execute(
        update(series)
        .where(series.c.study_fk == study_fk)
        .values(
            number_of_instances=count,
            size_bytes=size,
            updated_at=at_us,
            change=change,
        )
    )


def _recount_study(connection: Connection, study_fk: int, at_us: int, change: int) -> None:
    shown = connection.execute(
        select(series.c.modality, series.c.number_of_instances, series.c.size_bytes).where(
            series.c.study_fk == study_fk, series.c.number_of_instances > 0
        )
    ).all()
    classes = connection.execute(
        select(instance.c.sop_class_uid)
        .distinct()
        .where(instance.c.study_fk == study_fk, instance.c.state == RELEASED)
    )
    modalities = {row.modality for row in shown}
    connection.execute(
        update(study)
        .where(study.c.id == study_fk)
        .values(
            number_of_series=len(shown),
            number_of_instances=sum(row.number_of_instances for row in shown),
            size_bytes=sum(row.size_bytes for row in shown),
            modalities=_merged("", modalities),
            sop_classes=_merged("", {row.sop_class_uid for row in classes}),
            updated_at=at_us,
            change=change,
        )
    )
    study_date = connection.execute(
        select(study.c.study_date).where(study.c.id == study_fk)
    ).scalar_one()
    connection.execute(delete(study_modality).where(study_modality.c.study_fk == study_fk))
    _add_modalities(connection, study_fk, study_date, modalities)
