"""Where `benchmarks.filling` writes its rows: a database of SQLite, or one of PostgreSQL.

Both take rows in bulk, without the indexes that can be made at the end; nothing here is safe
from a crash while it runs.
"""

import sqlite3
from pathlib import Path
from typing import Any, Final, Protocol

from storage.index.engine import IndexEngine
from storage.index.gaps import TRIGRAM_COLUMNS
from storage.index.migrate import migrate

_INDEXED: Final = (
    "patient", "study", "study_modality", "series", "series_term", "instance", "change",
)  # fmt: skip
_PAIRED: Final = (
    "INSERT INTO series_term (term_fk, series_fk)"
    " SELECT term_fk, series_fk FROM pair ORDER BY 1, 2"
)


class Sink(Protocol):
    """A database that is being filled, in one transaction."""

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return what a statement selects."""

    def write(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Add rows, all with the same columns."""

    def set_indexes_aside(self) -> None:
        """Drop the indexes that can be made at the end."""

    def close(self, *, first_study: int, change: int) -> None:
        """Write the terms of series, make indexes again, set the counter, and commit."""


def open_sink(place: Path | str) -> Sink:
    """Return the sink for a file of SQLite, or for the URL of a database of PostgreSQL."""
    if isinstance(place, Path):
        return SqliteSink(place)
    return PostgresSink(place)


def _migrate(url: str) -> None:
    engine = IndexEngine(url)
    migrate(engine)
    engine.close()


class SqliteSink:
    """A file of SQLite, made if it is not there."""

    def __init__(self, path: Path) -> None:
        _migrate(f"sqlite:///{path}")
        self._database = sqlite3.connect(path, isolation_level=None)
        self._dropped: list[str] = []
        for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "cache_size = -1500000"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("BEGIN")
        self._database.execute("CREATE TEMP TABLE pair (term_fk, series_fk)")

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return what a statement selects."""
        return self._database.execute(statement).fetchall()

    def write(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Add rows, all with the same columns."""
        names = ", ".join(f'"{name}"' for name in rows[0])
        marks = ", ".join("?" * len(rows[0]))
        self._database.executemany(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",
            [tuple(row.values()) for row in rows],
        )

    def set_indexes_aside(self) -> None:
        """Drop the indexes that can be made at the end."""
        tables = ", ".join(f"'{name}'" for name in _INDEXED)
        found = self._database.execute(
            "SELECT name, sql FROM sqlite_master"
            f" WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ({tables})"
        ).fetchall()
        for name, statement in found:
            self._database.execute(f"DROP INDEX {name}")
            self._dropped.append(statement)

    def close(self, *, first_study: int, change: int) -> None:
        """Write the terms of series, make indexes again, set the counter, and commit."""
        run = self._database.execute
        run(_PAIRED)
        run("DROP TABLE pair")
        for statement in self._dropped:
            run(statement)
        names = ", ".join(TRIGRAM_COLUMNS)
        run(
            f"INSERT INTO study_text (rowid, {names})"
            f" SELECT id, {names} FROM study WHERE id >= ?",
            (first_study,),
        )
        run("UPDATE counter SET value = ? WHERE name = 'change'", (change,))
        run("COMMIT")
        run("PRAGMA journal_mode = WAL")
        self._database.close()


class PostgresSink:
    """A database of PostgreSQL; whoever connects is its superuser."""

    def __init__(self, url: str) -> None:
        import psycopg

        _migrate(url.replace("postgresql://", "postgresql+psycopg://"))
        self._database = psycopg.connect(url)
        self._made_again: list[str] = []
        # Foreign keys are triggers, and each row would be looked up.
        for setting in (
            "session_replication_role = replica",
            "synchronous_commit = off",
            "maintenance_work_mem = '1GB'",
            "work_mem = '256MB'",
        ):
            self._run(f"SET {setting}")
        self._run("CREATE TEMP TABLE pair (term_fk bigint, series_fk bigint)")

    def _run(self, statement: str) -> Any:
        return self._database.execute(statement)  # type: ignore[arg-type] - no user's text

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return what a statement selects."""
        rows: list[tuple[Any, ...]] = self._run(statement).fetchall()
        return rows

    def write(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Add rows, all with the same columns."""
        names = ", ".join(f'"{name}"' for name in rows[0])
        statement = f"COPY {table} ({names}) FROM STDIN"
        with self._database.cursor().copy(statement) as copy:  # type: ignore[arg-type]
            for row in rows:
                copy.write_row(tuple(row.values()))

    def set_indexes_aside(self) -> None:
        """Drop the indexes that can be made at the end, but for those of primary keys."""
        tables = ", ".join(f"'{name}'" for name in _INDEXED)
        unique = self.rows(
            "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            f" WHERE contype = 'u' AND conrelid::regclass::text IN ({tables})"
        )
        for table, name, definition in unique:
            self._run(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
            self._made_again.append(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
        others = self.rows(
            "SELECT indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index"
            f" WHERE NOT indisprimary AND indrelid::regclass::text IN ({tables})"
        )
        for name, definition in others:
            self._run(f"DROP INDEX {name}")
            self._made_again.append(definition)

    def close(self, *, first_study: int, change: int) -> None:  # noqa: ARG002 - for SQLite
        """Write the terms of series, make indexes again, set the counter, and commit."""
        self._run(_PAIRED)
        self._run("DROP TABLE pair")
        for statement in self._made_again:
            self._run(statement)
        self._run(f"UPDATE counter SET value = {change} WHERE name = 'change'")
        # Triggers were off.
        self._run("DELETE FROM study_day")
        self._run(
            "INSERT INTO study_day SELECT study_date, collection, partition, count(*)"
            " FROM study WHERE number_of_instances > 0 GROUP BY 1, 2, 3"
        )
        for table in ("patient", "study", "series", "instance", "source", "term"):
            self._run(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
            )
        self._database.commit()
        # What autovacuum would have done by itself, a few minutes later.
        self._database.autocommit = True
        self._run("VACUUM ANALYZE")
        self._database.close()
