"""Matches of instances whose every attribute has a column: nothing is unpacked for them."""

from typing import Final

from archive.query.request import Level, SearchRequest
from archive.query.returned import Match, Row

# What the index keeps as the instance says it; the column, and the VR.
_COLUMNS: Final = {
    "00080016": ("sop_class_uid", "UI"),
    "00080018": ("sop_instance_uid", "UI"),
    "00080060": ("modality", "CS"),
    "00083002": ("transfer_syntax_uid", "UI"),
    "0020000D": ("study_instance_uid", "UI"),
    "0020000E": ("series_instance_uid", "UI"),
    "00200013": ("instance_number", "IS"),
}


def is_brief(request: SearchRequest) -> bool:
    """Tell whether columns are enough for the matches of a search."""
    return (
        request.level is Level.INSTANCE
        and request.only_fields
        and request.zone is None
        and request.fields <= _COLUMNS.keys()
    )


class BriefProjection:
    """Makes matches of columns alone.

    Parameters
    ----------
    fields
        What to return.
    """

    def __init__(self, fields: frozenset[str]) -> None:
        self._columns = [(tag, *_COLUMNS[tag]) for tag in sorted(fields)]

    def suffices(self, row: Row) -> bool:
        """Tell whether every column says something: what is empty it may be unable to hold."""
        return all(getattr(row, column) not in (None, "") for _, column, _ in self._columns)

    def of(self, row: Row) -> Match:
        """Return one match."""
        return {
            tag: {"vr": vr, "Value": [getattr(row, column)]}
            for tag, column, vr in self._columns
        }
