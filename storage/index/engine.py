"""Connections to the index: SQLite or PostgreSQL, drivers' errors translated."""

import contextlib
import copy
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from storage.errors import IndexBusyError, IndexUnavailableError
from storage.index.turns import Turns

# How long a writer waits for another process's short transaction.
_BUSY_TIMEOUT_MS: Final = 30_000
_STATEMENT_TIMEOUT_S: Final = 30.0
# SQLite asks whether to go on after this many instructions of its machine, about 1 ms.
_PROGRESS_STEPS: Final = 100_000
_WRITING: Final = "fileroom_writing"
_LOCK_POLL_S: Final = 0.0005
_KEPT_READERS: Final = 4
# What drivers say of a statement that was not let finish.
_TOOK_TOO_LONG: Final = ("locked", "interrupted", "statement timeout", "user request")


class Stop:
    """Tells what reads the index to end: the statement that runs is interrupted, none begins.

    Whoever waits sets it, on any thread; the reader sees an `IndexBusyError`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._interrupts: list[Callable[[], object]] = []

    @property
    def is_set(self) -> bool:
        """Whether it is time to end."""
        return self._stopped

    def set(self) -> None:
        """End."""
        with self._lock:
            self._stopped = True
            for interrupt in self._interrupts:
                # What has just ended by itself cannot be interrupted any more.
                with contextlib.suppress(Exception):
                    interrupt()

    @contextlib.contextmanager
    def interrupting(self, interrupt: Callable[[], object]) -> Iterator[None]:
        """Have ``interrupt`` called when it is set inside the block."""
        with self._lock:
            if self._stopped:
                raise IndexBusyError("the search was stopped")
            self._interrupts.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)


class IndexEngine:
    """The index database of one process.

    Parameters
    ----------
    url
        ``sqlite:///path/to/index.db`` or ``postgresql+psycopg://...``.
    pool_size
        Connections kept open.
    """

    def __init__(self, url: str, *, pool_size: int = 16) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        open_engine = self._sqlite if self.is_sqlite else self._postgresql
        self._engine = open_engine(pool_size)
        self._idle_readers: deque[Connection] = deque()
        self._idle_writers: deque[Connection] = deque()
        has_file = self.is_sqlite and self.url.database not in (None, "", ":memory:")
        self._turns = Turns(f"{self.url.database}-turn") if has_file else None
        self._stop: Stop | None = None

    def stoppable(self, stop: Stop) -> "IndexEngine":
        """Return the same index, for reads that end when ``stop`` is set."""
        same = copy.copy(self)
        same._stop = stop  # noqa: SLF001 - of its own class
        return same

    @property
    def sqlalchemy(self) -> Engine:
        """The engine itself, for migrations."""
        return self._engine

    @contextlib.contextmanager
    def read(self, *, timeout_s: float = _STATEMENT_TIMEOUT_S) -> Iterator[Connection]:
        """Open a transaction that only reads; each statement may take ``timeout_s``.

        Raises
        ------
        IndexBusyError
            If a statement takes longer.
        IndexUnavailableError
            If the database does not answer.
        """
        with (
            self._translated(),
            self._reader() as connection,
            self._interruptible(connection),
        ):
            if self.is_sqlite:
                with _deadline(connection, timeout_s):
                    yield connection
            else:
                connection.execute(
                    text("SELECT set_config('statement_timeout', :value, true)"),
                    {"value": str(int(timeout_s * 1000))},
                )
                yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes; committed when the block ends without an error.

        Raises
        ------
        IndexBusyError
            If another writer held the database for too long.
        IndexUnavailableError
            If the database does not answer.
        """
        with (
            self.turn(),
            self._translated(),
            self._writer() as connection,
            connection.begin(),
        ):
            yield connection

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """Wait for the turn to write, which `write` does as well: to have it before.

        Raises
        ------
        IndexBusyError
            If others take too long.
        """
        return contextlib.nullcontext() if self._turns is None else self._turns.take()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Open a transaction that reads one state of the index, for as long as it takes."""
        with self._translated(), self._engine.connect() as connection:
            if not self.is_sqlite:  # SQLite's own read transactions see one state
                connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with connection.begin():
                if not self.is_sqlite:
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                yield connection

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Connection]:
        with self._lent(self._idle_readers, _KEPT_READERS) as connection:
            yield connection
            if connection.in_transaction():
                connection.rollback()

    @contextlib.contextmanager
    def _writer(self) -> Iterator[Connection]:
        # SQLite has one writer, and so has each process.
        with self._lent(self._idle_writers, 1) as connection:
            if not connection.get_execution_options().get(_WRITING, False):
                connection.execution_options(**{_WRITING: True})
            yield connection

    @contextlib.contextmanager
    def _lent(self, idle: deque[Connection], kept: int) -> Iterator[Connection]:
        """Lend one of the ``idle`` connections, of which so many are kept.

        To take one from the pool and give it back costs as much as a short transaction. A
        server's may have been closed meanwhile, and only the pool asks: those are not kept.
        """
        try:
            connection = idle.popleft()
        except IndexError:
            connection = self._engine.connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if self.is_sqlite and len(idle) < kept:
            idle.append(connection)
        else:
            connection.close()

    def checkpoint(self) -> None:
        """Fold SQLite's write-ahead log into the database; nothing on PostgreSQL."""
        if self.is_sqlite:
            with self._translated(), self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close every connection."""
        for idle in (self._idle_readers, self._idle_writers):
            while idle:
                idle.popleft().close()
        self._engine.dispose()

    def _interruptible(self, connection: Connection) -> contextlib.AbstractContextManager[None]:
        if self._stop is None:
            return contextlib.nullcontext()
        driver: Any = connection.connection.driver_connection
        return self._stop.interrupting(driver.interrupt if self.is_sqlite else driver.cancel)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate what SQLAlchemy raises, and the driver itself (see `prepared`)."""
        driver: Any = self._engine.dialect.dbapi
        try:
            yield
        except PoolTimeoutError as error:
            raise IndexBusyError("every connection to the index is in use") from error
        except (DBAPIError, driver.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            said = str(cause)
            if any(word in said for word in _TOOK_TOO_LONG):
                raise IndexBusyError(f"the index took too long: {said}") from error
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            if isinstance(cause, driver.OperationalError) or lost:
                raise IndexUnavailableError(f"the index does not answer: {said}") from error
            raise

    def _sqlite(self, pool_size: int) -> Engine:
        if self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            self.url, pool_size=pool_size, max_overflow=48, connect_args={"timeout": 30}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _postgresql(self, pool_size: int) -> Engine:
        return create_engine(self.url, pool_size=pool_size, max_overflow=16, pool_pre_ping=True)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction handling begins too late for BEGIN IMMEDIATE.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        # Success is answered after the commit: it must survive a power cut.
        "synchronous = FULL",
        "foreign_keys = ON",
        "cache_size = -16000",
        "mmap_size = 268435456",
        "temp_store = MEMORY",
        "wal_autocheckpoint = 4000",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: upgrading a read transaction can fail half way.
    driver: Any = connection.connection.driver_connection
    if connection.get_execution_options().get(_WRITING, False):
        _begin_immediate(driver)
    else:
        driver.execute("BEGIN")


def _begin_immediate(driver: sqlite3.Connection) -> None:
    """Take the writer's lock; raise OperationalError when it is not free in time.

    SQLite itself would sleep up to 100 ms at a time while others' transactions last 1 ms.
    """
    end = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(_LOCK_POLL_S)
            else:
                return
    finally:
        driver.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")


@contextlib.contextmanager
def _deadline(connection: Connection, timeout_s: float) -> Iterator[None]:
    driver: Any = connection.connection.driver_connection
    end = time.monotonic() + timeout_s
    driver.set_progress_handler(lambda: time.monotonic() > end, _PROGRESS_STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
