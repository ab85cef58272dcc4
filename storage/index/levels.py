"""What one match can be, and which rows of each level may be seen."""

from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, Integer, and_, literal_column

from storage.index.changes import in_scope
from storage.index.scope import Scope
from storage.index.tables import instance, series, study
from storage.index.totals import RELEASED


class SearchLevel(StrEnum):
    """What one match is."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    INSTANCE = "IMAGE"


# Written out, as in the condition of a partial index.
_NONE: Final[ColumnElement[int]] = literal_column("0", Integer)


def visible_study(scope: Scope) -> ColumnElement[bool]:
    """Return that a row of `study` may be seen, and has something that is there."""
    return and_(study.c.number_of_instances > _NONE, in_scope(study, scope))


def visible_series(scope: Scope) -> ColumnElement[bool]:
    """Return that a row of `series` may be seen, and has something that is there."""
    return and_(series.c.number_of_instances > 0, in_scope(series, scope))


def visible_instance(scope: Scope) -> ColumnElement[bool]:
    """Return that a row of `instance` may be seen, and is there."""
    return and_(instance.c.state == RELEASED, in_scope(instance, scope))
