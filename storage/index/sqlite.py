"""SQLite's connections and transactions."""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

# An execution option: what begins on this connection writes.
WRITING: Final = "fileroom_writing"
# How long a writer waits for another program's transaction, one that takes no turns.
BUSY_TIMEOUT_MS: Final = 30_000
_SETTINGS: Final = (
    f"busy_timeout = {BUSY_TIMEOUT_MS}",
    "journal_mode = WAL",
    # Success is answered after the commit: it must survive a power cut.
    "synchronous = FULL",
    "foreign_keys = ON",
    "cache_size = -16000",
    "mmap_size = 268435456",
    "temp_store = MEMORY",
    "wal_autocheckpoint = 4000",
)


def prepare(connection: sqlite3.Connection, _record: object) -> None:
    """Set a new connection up."""
    # The driver's own transaction handling begins too late for BEGIN IMMEDIATE.
    connection.isolation_level = None
    for setting in _SETTINGS:
        connection.execute(f"PRAGMA {setting}")


def begin(connection: Connection) -> None:
    """Begin what SQLAlchemy takes for a new transaction, unless `transaction` has."""
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        # A writer takes the lock at once: upgrading a read transaction can fail half way.
        is_writer = connection.get_execution_options().get(WRITING, False)
        driver.execute("BEGIN IMMEDIATE" if is_writer else "BEGIN")


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Write in one transaction, which ends with the block: by the driver itself.

    SQLAlchemy's own costs 60 us more. It takes part from the first statement that goes
    through it; `storage.index.prepared` runs the others.
    """
    driver: Any = connection.connection.driver_connection
    driver.execute("BEGIN IMMEDIATE")
    try:
        yield
        if connection.in_transaction():
            connection.commit()
        else:
            driver.commit()
    except BaseException:
        with contextlib.suppress(DBAPIError, sqlite3.Error):  # what went wrong first is told
            if connection.in_transaction():
                connection.rollback()
            driver.rollback()
        raise
