"""Studies and series described anew by what is left visible of them.

What describes a study is its first instance. When that one is deleted, as when it was filed
under the wrong patient, nothing of it may stay behind in what is listed and searched.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from sqlalchemy import Column, Connection, select

from storage.index.gaps import fill_series, fill_study, renew_series, renew_study
from storage.index.parents import patient_key
from storage.index.rows import SeriesRow, StudyRow
from storage.index.tables import instance, instance_detail
from storage.index.totals import RELEASED

_Row = TypeVar("_Row", StudyRow, SeriesRow)
# What the zstd DICOM JSON of an instance says of its study and series.
Describe = Callable[[bytes], tuple[StudyRow, SeriesRow]]
# Beyond, an instance that says more than all before it is not looked for.
_MOST_READ: Final = 64
_STUDY: Final = instance.c.study_fk
_SERIES: Final = instance.c.series_fk


def describe_again(
    connection: Connection,
    describe: Describe,
    *,
    studies: Iterable[int],
    series: Iterable[int],
) -> None:
    """Let studies and series say what their visible instances say, the first of them first."""
    for key in sorted(set(series)):
        said = [describe(metadata)[1] for metadata, _ in _visible(connection, _SERIES, key)]
        _describe_series(connection, key, _distinct(said))
    for key in sorted(set(studies)):
        visible = _visible(connection, _STUDY, key)
        if visible:
            site = visible[0][1]
            of_study = _distinct(describe(metadata)[0] for metadata, _ in visible)
            _describe_study(connection, key, of_study, site)


def _describe_series(connection: Connection, key: int, said: Sequence[SeriesRow]) -> None:
    for row in said[:1]:
        renew_series(connection, key, row)
    for row in said[1:]:
        fill_series(connection, key, row)


def _describe_study(
    connection: Connection, key: int, said: Sequence[StudyRow], site: str
) -> None:
    renew_study(connection, key, said[0], patient_key(connection, said[0], site))
    for row in said[1:]:
        fill_study(connection, key, row)


def _distinct(rows: Iterable[_Row]) -> list[_Row]:
    """Return the rows that say something else than those before them, in their order."""
    found: dict[bytes, _Row] = {}
    for row in rows:
        found.setdefault(row.attributes, row)
    return list(found.values())


def _visible(connection: Connection, parent: Column[int], key: int) -> list[tuple[bytes, str]]:
    found = connection.execute(
        select(instance_detail.c.metadata, instance.c.site)
        .join(instance, instance.c.id == instance_detail.c.instance_fk)
        .where(parent == key, instance.c.state == RELEASED)
        .order_by(instance.c.id)
        .limit(_MOST_READ)
    )
    return [(row.metadata, row.site) for row in found]
