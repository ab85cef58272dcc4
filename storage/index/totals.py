"""Counts and lists that studies and series keep of their visible instances."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select, update

from storage.index.prepared import InsertNew, Prepared
from storage.index.tables import instance, series, study, study_modality

RELEASED = "released"


class _StudyLists(NamedTuple):
    """What a study's row says once it has grown, but for its lists."""

    study_date: str
    modalities: str
    sop_classes: str
    number_of_instances: int


# Built once: building a statement costs SQLAlchemy more than running it costs SQLite.
_GROW_STUDY: Final = Prepared(
    update(study)
    .where(study.c.id == bindparam("key"))
    .values(
        number_of_series=study.c.number_of_series + bindparam("series"),
        number_of_instances=study.c.number_of_instances + bindparam("count"),
        size_bytes=study.c.size_bytes + bindparam("size"),
        updated_at=bindparam("moment"),
        change=bindparam("last"),
    )
    .returning(
        study.c.study_date,
        study.c.modalities,
        study.c.sop_classes,
        study.c.number_of_instances,
    )
)
_LIST_IN_STUDY: Final = Prepared(
    update(study)
    .where(study.c.id == bindparam("key"))
    .values(modalities=bindparam("all_modalities"), sop_classes=bindparam("all_classes"))
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
    .returning(series.c.number_of_instances)
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
        studies: set[int] = set()
        appeared: set[int] = set()
        for key, growth in self._studies.items():
            new = _grow_series(connection, growth, at_us)
            appeared |= new
            if _grow_study(connection, key, growth, len(new), at_us):
                studies.add(key)
        return studies, appeared


def _grow_series(connection: Connection, growth: _Growth, at_us: int) -> set[int]:
    """Count what the series of a study gain; return those that had nothing visible before."""
    appeared = set()
    for key, (count, size) in growth.series.items():
        values = {"key": key, "count": count, "size": size, "last": growth.change}
        has: int = _GROW_SERIES.value(connection, {**values, "moment": at_us})
        if count and has == count:
            appeared.add(key)
    return appeared


def _grow_study(
    connection: Connection, key: int, growth: _Growth, new_series: int, at_us: int
) -> bool:
    """Count what a study gains; tell whether it had nothing visible before."""
    counts = growth.series.values()
    count = sum(count for count, _ in counts)
    values = {
        "key": key,
        "series": new_series,
        "count": count,
        "size": sum(size for _, size in counts),
        "moment": at_us,
        "last": growth.change,
    }
    ((*lists,),) = _GROW_STUDY.rows(connection, values)
    has = _StudyLists(*lists)
    _list_in_study(connection, key, has, growth)
    return bool(growth.modalities) and has.number_of_instances == count


def _list_in_study(connection: Connection, key: int, has: _StudyLists, growth: _Growth) -> None:
    modalities = _merged(has.modalities, growth.modalities)
    classes = _merged(has.sop_classes, growth.sop_classes)
    if (modalities, classes) == (has.modalities, has.sop_classes):
        return
    values = {"key": key, "all_modalities": modalities, "all_classes": classes}
    _LIST_IN_STUDY.run(connection, [values])
    new = growth.modalities - set(has.modalities.split("\\"))
    _add_modalities(connection, key, has.study_date, new)


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
