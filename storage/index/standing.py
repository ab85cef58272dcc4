"""Which instances stand for a study or series: the first, and the middle one of each series."""

from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, func, or_, select

from storage.index.engine import IndexEngine
from storage.index.prepared import Prepared
from storage.index.scope import Scope
from storage.index.selection import Target, scope_values, visible
from storage.index.tables import instance, series, study


@lru_cache(maxsize=64)
def _standing(scope: Scope, *, of_series: bool) -> tuple[Prepared, dict[str, Any]]:
    order = instance.c.instance_number.nulls_first(), instance.c.id
    place = func.row_number().over(partition_by=series.c.id, order_by=order)
    count = func.count().over(partition_by=series.c.id)
    numbered = (
        select(
            study.c.study_instance_uid,
            series.c.series_instance_uid,
            instance.c.sop_instance_uid,
            series.c.series_number,
            series.c.id,
            place.label("place"),
            (count // 2 + 1).label("middle"),
        )
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == instance.c.study_fk)
        .where(study.c.study_instance_uid == bindparam("study"), visible(scope))
    )
    if of_series:
        numbered = numbered.where(series.c.series_instance_uid == bindparam("series"))
    rows = numbered.subquery()
    statement = (
        select(
            rows.c.study_instance_uid, rows.c.series_instance_uid, rows.c.sop_instance_uid,
            rows.c.place == rows.c.middle,
        )
        .where(or_(rows.c.place == 1, rows.c.place == rows.c.middle))
        .order_by(rows.c.series_number.nulls_first(), rows.c.id, rows.c.place)
    )  # fmt: skip
    return Prepared(statement), scope_values(statement)


class StandingReader:
    """Reads which instances stand for others.

    Parameters
    ----------
    engine
        The index.
    """

    def __init__(self, engine: IndexEngine) -> None:
        self._engine = engine

    def standing(self, scope: Scope, target: Target) -> list[tuple[tuple[str, str, str], bool]]:
        """Return the first visible instance of each series of ``target``, and the middle one.

        Returns
        -------
        list of tuple
            Study, Series and SOP Instance UID, and whether it is the middle one, by series;
            one that is both comes once. Empty when there is nothing to see.
        """
        of_series = target.series_instance_uid is not None
        statement, visible_to = _standing(scope, of_series=of_series)
        values = {"study": target.study_instance_uid} | visible_to
        if of_series:
            values["series"] = target.series_instance_uid
        with self._engine.read() as connection:
            rows = statement.rows(connection, values)
        return [((of, series_uid, sop), bool(middle)) for of, series_uid, sop, middle in rows]
