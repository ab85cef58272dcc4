"""Where the values lie that the stored JSON leaves out, as the index keeps it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import orjson

from archive.dicom.instance import BulkValue


@dataclass(frozen=True, slots=True)
class BulkTable:
    """The bulk values of one instance.

    Parameters
    ----------
    values
        By path: the tag, or tags and 0-based item numbers, as in its BulkDataURI.
    inflated
        Offsets count from the start of the inflated data set (PS3.5 §A.5), not of the object.
    """

    values: dict[str, BulkValue]
    inflated: bool = False

    def encode(self) -> bytes:
        """Return what `decode` reads."""
        rows = [[v.path, v.vr, v.offset, v.length] for v in self.values.values()]
        return orjson.dumps([self.inflated, rows])

    @classmethod
    def decode(cls, encoded: bytes) -> Self:
        """Read what `encode` wrote."""
        inflated, rows = orjson.loads(encoded)
        return cls.of((BulkValue(*row) for row in rows), inflated=inflated)

    @classmethod
    def of(cls, values: Iterable[BulkValue], *, inflated: bool) -> Self:
        """Make a table of ``values``."""
        return cls({value.path: value for value in values}, inflated)
