"""What the instances of one series are as rows of tables, and what the series is."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import orjson

from archive.export.columns import Column

Attributes = Mapping[str, Mapping[str, Any]]

OTHER: Final = "other_attributes"
_UNLIKE_ITS_TYPE: Final = (ValueError, TypeError, AttributeError, OverflowError)
# Of one instance in any case, even where it is the only one of its series.
_NEVER_OF_A_SERIES: Final = frozenset({"00080018"})


class SeriesRows:
    """Turns the metadata of a series' instances, one after the other, into values of columns.

    From slice to slice nearly all attributes stay what they were: only what differs from the
    instance before is converted.

    Parameters
    ----------
    columns
        By tag.
    unconverted
        Counts, by name of the column, instances whose value was none of its type.
    """

    def __init__(self, columns: Mapping[str, Column], unconverted: Counter[str]) -> None:
        self._columns = columns
        self._unconverted = unconverted
        self._last: Attributes = {}
        self._values: dict[str, object] = {}
        self._bad: set[str] = set()
        self._other: dict[str, Any] = {}
        self._written: str | None = None
        self._varying: set[str] = set()
        self._is_first = True

    def take(self, attributes: Attributes) -> dict[str, object]:
        """Return the values of the next instance by name of column; empty ones are left out."""
        last = self._last
        changed = [tag for tag, one in attributes.items() if last.get(tag) != one]
        gone = [tag for tag in last if tag not in attributes]
        for tag in gone:
            self._forget(tag)
        for tag in changed:
            self._forget(tag)
            self._learn(tag, attributes[tag])
        if not self._is_first:
            self._varying.update(gone, changed)
        self._is_first = False
        self._last = attributes
        self._unconverted.update(self._bad)
        if self._other and self._written is None:
            self._written = orjson.dumps(self._other).decode()
        return self._values if not self._other else self._values | {OTHER: self._written}

    def constant(self) -> dict[str, object]:
        """Return the values that all instances so far share, and the names of what varies."""
        apart = self._varying | _NEVER_OF_A_SERIES
        names = {column.name for tag in apart if (column := self._columns.get(tag))}
        shared = {name: one for name, one in self._values.items() if name not in names}
        other = {tag: one for tag, one in self._other.items() if tag not in apart}
        if other:
            shared[OTHER] = orjson.dumps(other).decode()
        shared["varying_attributes"] = sorted(
            column.name if (column := self._columns.get(tag)) else tag for tag in self._varying
        )
        return shared

    def _forget(self, tag: str) -> None:
        column = self._columns.get(tag)
        if column is not None:
            self._values.pop(column.name, None)
            self._bad.discard(column.name)
        if self._other.pop(tag, None) is not None:
            self._written = None

    def _learn(self, tag: str, element: Mapping[str, Any]) -> None:
        column = self._columns.get(tag)
        if column is not None:
            try:
                value = column.convert(element)
            except _UNLIKE_ITS_TYPE:
                self._bad.add(column.name)
            else:
                if value is not None:
                    self._values[column.name] = value
                if "InlineBinary" not in element:
                    return
        # What has no value says nothing; what lies elsewhere is not searched.
        if "Value" in element or "InlineBinary" in element:
            self._other[tag] = element
            self._written = None
