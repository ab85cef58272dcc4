"""The rows that matches are made of, by their keys: one statement a level and scope."""

from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Select, bindparam, func, select

from storage.index.levels import SearchLevel, visible_instance, visible_series, visible_study
from storage.index.prepared import Prepared
from storage.index.scope import Scope
from storage.index.tables import instance, instance_detail, patient, series, study

_PAGE: Final = 200


def rows_of(
    connection: Connection,
    scope: Scope,
    level: SearchLevel,
    keys: Sequence[int],
    *,
    brief: bool = False,
) -> Iterator[Any]:
    """Yield the rows under ``keys``, in their order, but for what is not there.

    Parameters
    ----------
    brief
        Of instances, their columns only: without what is to be decompressed and parsed.
    """
    what = _BRIEF if brief else level
    for first in range(0, len(keys), _PAGE):
        page = list(keys[first : first + _PAGE])
        # Lists of few lengths make few statements; a key that is there twice is found once.
        more = [page[-1]] * ((1 << (len(page) - 1).bit_length()) - len(page))
        rows = _details(what, scope).rows(connection, {"keys": page + more})
        found = {row[0]: row for row in rows}
        yield from (_FOUND[what]._make(found[key]) for key in page if key in found)


_THESE: Final[BindParameter[Any]] = bindparam("keys", expanding=True)


def _patient_rows(scope: Scope) -> Select[Any]:
    return (
        select(
            patient,
            func.count(study.c.id).label("number_of_studies"),
            func.sum(study.c.number_of_series).label("number_of_series"),
            func.sum(study.c.number_of_instances).label("number_of_instances"),
            func.max(study.c.id).label("latest_study"),
        )
        .join(study, study.c.patient_fk == patient.c.id)
        .where(patient.c.id.in_(_THESE), visible_study(scope))
        .group_by(patient.c.id)
    )


def _study_rows(scope: Scope) -> Select[Any]:
    return select(
        study.c.id,
        study.c.study_instance_uid,
        study.c.modalities,
        study.c.sop_classes,
        study.c.number_of_series,
        study.c.number_of_instances,
        study.c.attributes,
    ).where(study.c.id.in_(_THESE), visible_study(scope))


def _series_rows(scope: Scope) -> Select[Any]:
    return (
        select(
            series.c.id,
            study.c.study_instance_uid,
            study.c.modalities,
            study.c.sop_classes,
            study.c.number_of_series.label("number_of_study_series"),
            study.c.number_of_instances.label("number_of_study_instances"),
            study.c.attributes.label("study_attributes"),
            series.c.series_instance_uid,
            series.c.number_of_instances,
            series.c.attributes,
        )
        .join(study, study.c.id == series.c.study_fk)
        .where(series.c.id.in_(_THESE), visible_study(scope), visible_series(scope))
    )


def _instance_rows(scope: Scope) -> Select[Any]:
    return (
        select(
            instance.c.id,
            study.c.study_instance_uid,
            study.c.modalities,
            study.c.sop_classes,
            study.c.number_of_series.label("number_of_study_series"),
            study.c.number_of_instances.label("number_of_study_instances"),
            series.c.series_instance_uid,
            series.c.number_of_instances.label("number_of_series_instances"),
            instance.c.sop_instance_uid,
            instance.c.transfer_syntax_uid,
            study.c.attributes.label("study_attributes"),
            series.c.attributes.label("series_attributes"),
            instance_detail.c.metadata,
        )
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == instance.c.study_fk)
        .join(instance_detail, instance_detail.c.instance_fk == instance.c.id)
        .where(
            instance.c.id.in_(_THESE),
            visible_study(scope),
            visible_series(scope),
            visible_instance(scope),
        )
    )


def _brief_rows(scope: Scope) -> Select[Any]:
    return (
        select(
            instance.c.id,
            study.c.study_instance_uid,
            series.c.series_instance_uid,
            instance.c.sop_instance_uid,
            instance.c.sop_class_uid,
            instance.c.transfer_syntax_uid,
            instance.c.instance_number,
            series.c.modality,
        )
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == instance.c.study_fk)
        .where(
            instance.c.id.in_(_THESE),
            visible_study(scope),
            visible_series(scope),
            visible_instance(scope),
        )
    )


_BRIEF: Final = "brief"
_DETAILS: Final[dict[str, Callable[[Scope], Select[Any]]]] = {
    SearchLevel.PATIENT: _patient_rows,
    SearchLevel.STUDY: _study_rows,
    SearchLevel.SERIES: _series_rows,
    SearchLevel.INSTANCE: _instance_rows,
    _BRIEF: _brief_rows,
}


@lru_cache(maxsize=256)
def _details(what: str, scope: Scope) -> Prepared:
    """Select rows; built once a scope, which costs more than running it."""
    return Prepared(_DETAILS[what](scope))


# A row of each level, by the names of its columns.
_EVERYTHING: Final = Scope(None, None)
_FOUND: Final[dict[str, Any]] = {
    level: namedtuple("Found", select_(_EVERYTHING).selected_columns.keys())
    for level, select_ in _DETAILS.items()
}
