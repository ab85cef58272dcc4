"""Bring an index to the schema of this version (Alembic, forward only).

Alembic takes 10 MB and a quarter of a second to load, in every process that could migrate but
does not: it is loaded when it is asked something.
"""

import contextlib
import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, delete, select, text, update

from storage.errors import IndexBusyError, IndexUnavailableError
from storage.index.engine import IndexEngine
from storage.index.tables import KEPT, counter, metadata

_SCRIPTS: Final = Path(__file__).resolve().parent / "migrations"
# A number that nobody else uses: "fileroom", read as one.
_LOCK: Final = int.from_bytes(b"fileroom", "big")
_LOCK_POLL_S: Final = 0.2
_LOCK_TIMEOUT_MS: Final = 10_000
# Indexes of a hundred million rows take their time.
_MIGRATION_WAIT_S: Final = 6 * 3600.0


def _config() -> Any:  # noqa: ANN401 - Alembic's configuration
    config = importlib.import_module("alembic.config").Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    return config


def migrate(engine: IndexEngine) -> None:
    """Run the migrations that this index has not seen; on PostgreSQL, one node at a time.

    On SQLite all of them are one transaction, on PostgreSQL each is one: what was done of a
    migration that failed is done, and the next start goes on.

    Raises
    ------
    IndexBusyError
        If another node is at it for longer than may be waited.
    IndexUnavailableError
        If the index is of a newer version of this program.
    """
    config = _config()
    _require_known(current_revision(engine))
    with engine.write() if engine.is_sqlite else _alone(engine) as connection:
        if engine.is_sqlite:
            connection.begin()  # else Alembic takes each migration for one of its own
        config.attributes["connection"] = connection
        importlib.import_module("alembic.command").upgrade(config, "head")


def _require_known(revision: str | None) -> None:
    scripts = importlib.import_module("alembic.script").ScriptDirectory.from_config(_config())
    if revision not in {None, *(script.revision for script in scripts.walk_revisions())}:
        raise IndexUnavailableError(
            f"the index is at schema {revision}, which this version does not know: a newer one "
            "has been here; start that one"
        )


@contextlib.contextmanager
def _alone(engine: IndexEngine) -> Iterator[Connection]:
    """Lend a connection for migrations that no other node has at the same time."""
    with engine.translated(), engine.sqlalchemy.connect() as lock:
        lock.execution_options(isolation_level="AUTOCOMMIT")
        # Not that of sessions which a migration may end, if they know tables as they were.
        lock.execute(text("SET application_name = 'fileroom-migrate'"))
        _wait_for_lock(lock)
        try:
            with engine.sqlalchemy.connect() as connection:
                # A change of a table waits for whoever reads it, and others wait behind it.
                connection.execute(text(f"SET lock_timeout = {_LOCK_TIMEOUT_MS}"))
                connection.execute(text("SET statement_timeout = 0"))
                connection.commit()
                try:
                    yield connection
                finally:
                    connection.invalidate()  # the session ends, and with it what was set
        finally:
            lock.invalidate()


def _wait_for_lock(connection: Connection) -> None:
    """Take the lock of migrations.

    It is asked for again and again: a session that waits for it inside a statement would in
    turn be waited for by CREATE INDEX CONCURRENTLY.
    """
    end = time.monotonic() + _MIGRATION_WAIT_S
    while not connection.execute(text(f"SELECT pg_try_advisory_lock({_LOCK})")).scalar_one():
        if time.monotonic() > end:
            raise IndexBusyError(
                "another node is migrating the index; start this one when that is done"
            )
        time.sleep(_LOCK_POLL_S)


def empty(engine: IndexEngine) -> None:
    """Remove every row that objects can tell again, and count changes from the beginning."""
    with engine.write() as connection:
        for table in reversed(metadata.sorted_tables):
            if table is not counter and KEPT not in table.info:
                connection.execute(delete(table))
        connection.execute(update(counter).values(value=0))
        # Whoever follows the feed begins anew where the new one ends.
        connection.execute(delete(counter).where(counter.c.name != "change"))
        if engine.is_sqlite:
            connection.exec_driver_sql("INSERT INTO study_text (study_text) VALUES ('rebuild')")


def carry_over(old: IndexEngine, new: IndexEngine) -> None:
    """Copy what no object can tell from one index to another of the same schema."""
    for table in metadata.sorted_tables:
        if KEPT in table.info:
            with old.read() as connection:
                rows = [row._asdict() for row in connection.execute(select(table))]
            if rows:
                with new.write() as connection:
                    connection.execute(table.insert(), rows)


def current_revision(engine: IndexEngine) -> str | None:
    """Return the revision the index is at; None when it is empty."""
    context = importlib.import_module("alembic.runtime.migration").MigrationContext
    with engine.read() as connection:
        revision: str | None = context.configure(connection).get_current_revision()
    return revision


def latest_revision() -> str | None:
    """Return the revision that this version of the program needs."""
    scripts = importlib.import_module("alembic.script").ScriptDirectory
    revision: str | None = scripts.from_config(_config()).get_current_head()
    return revision
