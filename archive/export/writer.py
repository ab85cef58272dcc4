"""Rows into Parquet files of bounded size, with bounded memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from archive.export.destination import Destination

_MOST_ROWS: Final = 20_000
# Of the DICOM JSON that rows were made from: about what they take before they are written.
_MOST_BYTES: Final = 64 * 1024 * 1024
_FILE_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """One file of a dataset."""

    path: str
    rows: int
    size_bytes: int


class TableWriter:
    """Writes the rows of one dataset of one partition.

    Parameters
    ----------
    destination
        Where to.
    folder
        Of the partition.
    schema
        Of the dataset.
    file_bytes
        No row group is begun in a file that is larger.
    """

    def __init__(
        self,
        destination: Destination,
        folder: str,
        schema: Any,  # noqa: ANN401 - pyarrow has no types
        *,
        file_bytes: int = _FILE_BYTES,
    ) -> None:
        self._destination = destination
        self._folder = folder
        self._schema = schema
        self._file_bytes = file_bytes
        self._columns: dict[str, list[object]] = {name: [] for name in schema.names}
        self._rows = self._bytes = 0
        self._open: tuple[str, Any, Any] | None = None
        self._rows_in_file = 0
        self.files: list[WrittenFile] = []

    def add(self, row: Mapping[str, object], weight: int) -> None:
        """Take one row; columns that it does not name are null.

        Parameters
        ----------
        weight
            About how many bytes it takes in memory.
        """
        position = self._rows
        for name, value in row.items():
            column = self._columns[name]
            if len(column) < position:
                column.extend([None] * (position - len(column)))
            column.append(value)
        self._rows += 1
        self._bytes += weight
        if self._rows >= _MOST_ROWS or self._bytes >= _MOST_BYTES:
            self._write()

    def close(self) -> None:
        """Write what is left; the last file is whole afterwards."""
        if self._rows:
            self._write()
        self._finish()

    def _write(self) -> None:
        arrays = []
        for field in self._schema:
            values = self._columns[field.name]
            if values:
                values.extend([None] * (self._rows - len(values)))
                arrays.append(pa.array(values, field.type))
                self._columns[field.name] = []
            else:
                arrays.append(pa.nulls(self._rows, field.type))
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        _, sink, writer = self._open or self._begin()
        writer.write_table(table, row_group_size=self._rows)
        self._rows_in_file += self._rows
        self._rows = self._bytes = 0
        if sink.tell() >= self._file_bytes:
            self._finish()

    def _begin(self) -> tuple[str, Any, Any]:
        path = f"{self._folder}/part-{len(self.files) + 1:05d}.parquet"
        sink = self._destination.open(path)
        writer = pq.ParquetWriter(sink, self._schema, compression="zstd")
        self._open = path, sink, writer
        self._rows_in_file = 0
        return self._open

    def _finish(self) -> None:
        if self._open is None:
            return
        path, sink, writer = self._open
        self._open = None
        writer.close()
        size_bytes = sink.tell()
        sink.close()
        self.files.append(WrittenFile(path, self._rows_in_file, size_bytes))
