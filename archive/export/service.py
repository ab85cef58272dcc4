"""Writes the index as tables: one row a series and one row an instance."""

import contextlib
import errno
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import quote

import orjson

from archive.auth.principal import Principal, Right
from archive.errors import (
    ForbiddenError,
    InvalidRequestError,
    StorageFullError,
    UnavailableError,
    storage_translated,
)
from archive.export.destination import Destination
from archive.export.schema import INSTANCES, SERIES, VERSION, About
from archive.export.tables import Tables
from storage.index.engine import IndexEngine
from storage.index.tabulation import StudyKey, Tabulation

# Hive's word for a value that is not there, which engines read as null.
_NOTHING: Final = "__HIVE_DEFAULT_PARTITION__"
_PARTING: Final[Mapping[str, Callable[[StudyKey], str]]] = {
    "collection": lambda study: quote(study.collection, safe=""),
    "study_year": lambda study: study.study_date[:4],
}
# By what tables can be parted, as the folders are called.
PARTED_BY: Final = tuple(_PARTING)


@dataclass(slots=True)
class TableReport:
    """What was written.

    Parameters
    ----------
    place
        Where the export is.
    change
        Number of the last change of the index that is in it.
    is_new
        False: it was there already, nothing has changed since.
    unconverted
        By column, instances whose value was none of its type: `other_attributes` has it.
    """

    place: str
    change: int
    is_new: bool
    series: int
    instances: int
    files: int
    size_bytes: int
    unconverted: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class TableExport:
    """Writes exports.

    Parameters
    ----------
    engine
        The index.
    public_url
        How the outside reaches the archive; without one rows have no URL.
    """

    def __init__(self, engine: IndexEngine, public_url: str) -> None:
        self._engine = engine
        self._base_url = f"{public_url.rstrip('/')}/dicom-web" if public_url else ""

    def run(
        self,
        principal: Principal,
        destination: Destination,
        *,
        studies: frozenset[str] | None = None,
        selection: Sequence[str] = (),
        parted_by: Sequence[str] = PARTED_BY,
    ) -> TableReport:
        """Write everything that ``principal`` may see, as it is at this moment.

        Parameters
        ----------
        studies
            Only these; None for all.
        selection
            How they were chosen: kept in the manifest.
        parted_by
            Of `PARTED_BY`, outermost first.

        Raises
        ------
        InvalidRequestError
            If there is an export of the same state of the index, but of another selection.
        """
        if Right.READ not in principal.rights:
            raise ForbiddenError(f"{principal.name} may not read here")
        chosen = {"where": list(selection), "parted_by": list(parted_by)}
        started = time.monotonic()
        with (
            storage_translated(),
            _written(),
            Tabulation.at_one_moment(self._engine, principal.scope) as index,
        ):
            change = index.change()
            name = f"change-{change:012d}"
            there = destination.manifest(name)
            if there is not None:
                _check_same(there, chosen, destination.place(name))
                return _report(there, destination.place(name), is_new=False)
            destination.begin(name)
            about = About(change, f"fileroom {version('fileroom')}")
            tables = Tables(index, destination, self._base_url, about)
            for partition, keys in _partitions(index, studies, parted_by):
                tables.write(partition, keys)
            manifest = {"version": VERSION, "change": change} | chosen | tables.manifest()
            destination.finish(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        report = _report(manifest, destination.place(name), is_new=True)
        report.seconds = time.monotonic() - started
        return report


def _partitions(
    index: Tabulation, studies: frozenset[str] | None, parted_by: Sequence[str]
) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield the folders of each partition, and its studies: eight bytes each."""
    keys: dict[str, array[int]] = defaultdict(lambda: array("q"))
    for study in index.studies():
        if studies is None or study.study_instance_uid in studies:
            values = ((name, _PARTING[name](study)) for name in parted_by)
            keys["/".join(f"{name}={value or _NOTHING}" for name, value in values)].append(
                study.id
            )
    for partition in sorted(keys):
        yield partition, keys.pop(partition)


def _check_same(there: Mapping[str, Any], chosen: Mapping[str, Any], place: str) -> None:
    if any(there[name] != value for name, value in chosen.items()):
        raise InvalidRequestError(
            f"{place} is an export of the same state of the archive, with other options "
            f"({there['where']}, {there['parted_by']}): write this one somewhere else"
        )


def _report(manifest: Mapping[str, Any], place: str, *, is_new: bool) -> TableReport:
    files = [one for of in manifest["datasets"].values() for one in of["files"]]
    return TableReport(
        place=place,
        change=manifest["change"],
        is_new=is_new,
        series=manifest["datasets"][SERIES]["rows"],
        instances=manifest["datasets"][INSTANCES]["rows"],
        files=len(files),
        size_bytes=sum(file["size_bytes"] for file in files),
        unconverted=manifest["unconverted"],
    )


@contextlib.contextmanager
def _written() -> Iterator[None]:
    """Say what is wrong with the destination as the archive says such things."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = StorageFullError if full else UnavailableError
        raise kind(f"the tables could not be written: {error}") from error
