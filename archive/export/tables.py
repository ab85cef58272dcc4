"""One pass over the index that fills the two tables, partition by partition."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import Any, Final

import orjson
import zstandard

from archive.export.columns import Column, column_of
from archive.export.destination import Destination
from archive.export.rows import SeriesRows
from archive.export.schema import INSTANCES, SERIES, About, described, table_schema
from archive.export.writer import TableWriter, WrittenFile
from archive.ingest.columns import COLUMN_TAGS
from storage.index import clock
from storage.index.tabulation import SeriesKey, Tabulation

_STUDIES_AT_ONCE: Final = 200
_INSTANCES_AT_ONCE: Final = 1000
_decompress: Final = zstandard.ZstdDecompressor().decompress


class Tables:
    """The tables of one export, while they are being written.

    Parameters
    ----------
    index
        The index at the moment that is exported.
    destination
        Where files go.
    base_url
        Of DICOMweb; "" when nobody knows how the outside reaches it.
    about
        What each file says of the export.
    """

    def __init__(
        self, index: Tabulation, destination: Destination, base_url: str, about: About
    ) -> None:
        self._index = index
        self._destination = destination
        self._base_url = base_url
        self.unconverted: Counter[str] = Counter()
        tags = sorted(COLUMN_TAGS.union(index.tags()))
        self._columns: dict[str, Column] = {
            tag: column for tag in tags if (column := column_of(tag)) is not None
        }
        self._schemas = {
            dataset: table_schema(dataset, self._columns.values(), about)
            for dataset in (SERIES, INSTANCES)
        }
        self._files: dict[str, list[WrittenFile]] = {SERIES: [], INSTANCES: []}

    def write(self, partition: str, studies: Sequence[int]) -> None:
        """Write the series and instances of ``studies``, by key, into one partition.

        Parameters
        ----------
        partition
            Its folders, as ``collection=chest/study_year=2024``; "" for none.
        """
        writers = {
            dataset: TableWriter(
                self._destination, f"{dataset}/{partition}".rstrip("/"), self._schemas[dataset]
            )
            for dataset in (SERIES, INSTANCES)
        }
        for first in range(0, len(studies), _STUDIES_AT_ONCE):
            for batch in _batches(
                self._index.series(studies[first : first + _STUDIES_AT_ONCE])
            ):
                self._write_batch(batch, writers[SERIES], writers[INSTANCES])
        for dataset, writer in writers.items():
            writer.close()
            self._files[dataset] += writer.files

    def manifest(self) -> dict[str, Any]:
        """Return what was written, by dataset."""
        return {
            "datasets": {
                dataset: {
                    "rows": sum(file.rows for file in files),
                    "files": [asdict(file) for file in files],
                    "columns": described(self._schemas[dataset]),
                }
                for dataset, files in self._files.items()
            },
            "unconverted": dict(self.unconverted.most_common()),
        }

    def _write_batch(
        self, batch: Sequence[SeriesKey], of_series: TableWriter, of_instances: TableWriter
    ) -> None:
        keys = {one.id: one for one in batch}
        found = self._index.instances(list(keys))
        for key, rows in groupby(found, lambda row: row.series_fk):
            row, weight = self._write_series(keys[key], rows, of_instances)
            of_series.add(row, weight)

    def _write_series(
        self, key: SeriesKey, rows: Iterable[Any], of_instances: TableWriter
    ) -> tuple[dict[str, object], int]:
        """Write the instances of a series; return its own row, and the weight of it."""
        url = self._url(key)
        series = SeriesRows(self._columns, self.unconverted)
        own: dict[str, Any] = {"number_of_instances": 0, "size_bytes": 0, "change": 0}
        syntaxes: set[str] = set()
        received_at = 0
        weight = 0
        for row in rows:
            metadata = _decompress(row.metadata)
            weight = len(metadata)
            values = series.take(orjson.loads(metadata))
            of_instances.add(values | _of_instance(row, url), weight)
            own["number_of_instances"] += 1
            own["size_bytes"] += row.size_bytes
            own["change"] = max(own["change"], row.change)
            own["site"], own["partition"] = row.site, row.partition
            received_at = max(received_at, row.received_at)
            syntaxes.add(row.transfer_syntax_uid)
        own["transfer_syntax_uids"] = sorted(syntaxes)
        own["received_at"] = clock.from_us(received_at)
        if url:
            own["retrieve_url"] = url
        return series.constant() | own, weight

    def _url(self, key: SeriesKey) -> str:
        if not self._base_url:
            return ""
        study, series = key.study_instance_uid, key.series_instance_uid
        return f"{self._base_url}/studies/{study}/series/{series}"


def _of_instance(row: Any, series_url: str) -> dict[str, object]:  # noqa: ANN401 - a row
    received_at: datetime = clock.from_us(row.received_at)
    own: dict[str, object] = {
        "site": row.site,
        "partition": row.partition,
        "transfer_syntax_uid": row.transfer_syntax_uid,
        "version": row.version,
        "size_bytes": row.size_bytes,
        "sha256": row.digest.hex(),
        "object_key": row.object_key,
        "received_at": received_at,
        "change": row.change,
    }
    if series_url:
        own["retrieve_url"] = f"{series_url}/instances/{row.sop_instance_uid}"
    return own


def _batches(series: Iterable[SeriesKey]) -> Iterator[list[SeriesKey]]:
    """Yield series together, of so many instances at most, or one alone."""
    batch: list[SeriesKey] = []
    instances = 0
    for one in series:
        if batch and instances + one.number_of_instances > _INSTANCES_AT_ONCE:
            yield batch
            batch, instances = [], 0
        batch.append(one)
        instances += one.number_of_instances
    if batch:
        yield batch
