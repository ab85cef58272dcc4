"""From one index to another, whatever their databases: every row under its key, compared."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, delete, func, insert, select, text

from storage.errors import IndexUnavailableError
from storage.index.engine import IndexEngine
from storage.index.tables import counter, metadata

_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """What became of one table.

    Parameters
    ----------
    name
        Of the table.
    rows, digest
        How many rows the source has, and what tells them from others, in any order.
    target_rows, target_digest
        The same of the target, read again after the commit.
    """

    name: str
    rows: int
    digest: str
    target_rows: int
    target_digest: str

    @property
    def is_equal(self) -> bool:
        """Whether both hold the same."""
        return (self.rows, self.digest) == (self.target_rows, self.target_digest)


def transfer(
    source: IndexEngine, target: IndexEngine, note: Callable[[str, int], None]
) -> list[CopiedTable]:
    """Copy every table in one transaction, and compare; keys and change numbers stay.

    Parameters
    ----------
    source, target
        Of the same schema. The target holds nothing.
    note
        Is told the name of a table and how many more of its rows were written.

    Raises
    ------
    IndexUnavailableError
        If the target holds something, or one of them does not answer; nothing is written then.
    """
    with source.snapshot() as reading:
        with target.write() as writing:
            _require_empty(writing)
            writing.execute(delete(counter))
            for table in metadata.sorted_tables:
                for rows in _batches(reading, table):
                    writing.execute(insert(table), [row._asdict() for row in rows])
                    note(table.name, len(rows))
            if not target.is_sqlite:
                _go_on_counting(writing)
        told = [_sum(reading, table) for table in metadata.sorted_tables]
    with target.snapshot() as written:
        found = [_sum(written, table) for table in metadata.sorted_tables]
    return [
        CopiedTable(table.name, *told_of, *found_of)
        for table, told_of, found_of in zip(metadata.sorted_tables, told, found, strict=True)
    ]


def count(engine: IndexEngine) -> int:
    """Return how many rows there are to copy."""
    with engine.snapshot() as reading:
        return sum(
            reading.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        )


def _require_empty(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        if table is not counter and connection.execute(select(table).limit(1)).first():
            raise IndexUnavailableError(
                f"the index to copy to is not empty: its table {table.name} has rows; give it "
                "a new database"
            )


def _batches(connection: Connection, table: Table) -> Iterator[Sequence[Row[Any]]]:
    yield from connection.execute(
        select(table), execution_options={"yield_per": _BATCH}
    ).partitions()


def _go_on_counting(connection: Connection) -> None:
    """Let keys that the database makes follow those that were copied."""
    for table in metadata.sorted_tables:
        if "id" in table.c:
            named = {"table": table.name}
            sequence = connection.execute(
                text("SELECT pg_get_serial_sequence(:table, 'id')"), named
            ).scalar_one()
            if sequence is not None:
                last = connection.execute(select(func.max(table.c.id))).scalar_one()
                connection.execute(select(func.setval(sequence, last or 1, last is not None)))


def _sum(connection: Connection, table: Table) -> tuple[int, str]:
    # Databases sort texts in ways of their own: a sum does not ask for an order.
    rows = total = 0
    for batch in _batches(connection, table):
        rows += len(batch)
        for row in batch:
            values = [bytes(v) if isinstance(v, memoryview) else v for v in row]
            digest = hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).digest()
            total = (total + int.from_bytes(digest)) % (1 << 256)
    return rows, f"{total:064x}"
