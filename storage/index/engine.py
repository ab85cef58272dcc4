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
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from storage.errors import IndexBusyError, IndexInDoubtError, IndexUnavailableError
from storage.index import postgresql, sqlite
from storage.index.lookups import PROGRESS_STEPS, Lookups
from storage.index.prepared import Prepared, Values
from storage.index.turns import Turns

# How long a writer waits for another process's short transaction.
_BUSY_TIMEOUT_MS: Final = 30_000
_STATEMENT_TIMEOUT_S: Final = 30.0
# Of one that writes: whole collections may be taken out of sight at once.
_WRITE_TIMEOUT_S: Final = 600.0
_KEPT_READERS: Final = 4
# PostgreSQL takes several writers; they wait for one another at the change counter.
_WRITERS: Final = 2
# What SQLite says of a statement that was not let finish.
_TOOK_TOO_LONG: Final = ("locked", "interrupted")


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
        Connections to PostgreSQL that are opened at most: two of them for writing.
    """

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._lookups: Lookups | None = None
        if self.is_sqlite:
            self._engine = self._sqlite()
            self._readers = _Lender(self._engine, kept=_KEPT_READERS)
            self._lookups = Lookups(
                self._engine, kept=_KEPT_READERS, timeout_s=_STATEMENT_TIMEOUT_S
            )
            # SQLite has one writer, and so has each process.
            self._writers = _Lender(self._engine, kept=1, options={sqlite.WRITING: True})
        else:
            self._engine = postgresql.open_postgresql(self.url, pool_size=pool_size)
            # Each statement sees what is committed when it begins, in a transaction or not.
            each = {"isolation_level": "AUTOCOMMIT"}
            self._readers = _Lender(
                self._engine,
                kept=pool_size - _WRITERS,
                timeout_s=_STATEMENT_TIMEOUT_S,
                options=each,
            )
            self._writers = _Lender(self._engine, kept=_WRITERS, timeout_s=_WRITE_TIMEOUT_S)
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
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads; each statement may take 30 s.

        Raises
        ------
        IndexBusyError
            If a statement takes longer.
        IndexUnavailableError
            If the database does not answer.
        """
        with (
            self.translated(),
            self._readers.lent() as connection,
            self._interruptible(connection),
        ):
            with _deadline(connection) if self.is_sqlite else contextlib.nullcontext():
                yield connection
            if connection.in_transaction():
                connection.rollback()

    def rows(self, statement: Prepared, values: Values) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that reads little, as inside of `read`."""
        if self._lookups is None or self._stop is not None:
            with self.read() as connection:
                return statement.rows(connection, values)
        try:
            return self._lookups.rows(*statement.bound(self._engine.dialect, values))
        except (sqlite3.Error, SQLAlchemyError):
            with self.translated():
                raise

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes; committed when the block ends without an error.

        Raises
        ------
        IndexBusyError
            If another writer held the database for too long.
        IndexInDoubtError
            If the connection was lost while the transaction was committed.
        IndexUnavailableError
            If the database does not answer.
        """
        with self.turn(), self.translated(), self._writers.lent() as connection:
            if self.is_sqlite:
                with sqlite.transaction(connection):
                    yield connection
                return
            transaction = connection.begin()
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(DBAPIError):  # what went wrong first is told
                    transaction.rollback()
                raise
            with self._doubted(connection):
                transaction.commit()

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
        with self.translated(), self._engine.connect() as connection:
            if not self.is_sqlite:  # SQLite's own read transactions see one state
                connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with connection.begin():
                if not self.is_sqlite:
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                    # Whoever reads it may rest between two pages.
                    unbounded = "SET LOCAL idle_in_transaction_session_timeout = 0"
                    connection.execute(text(unbounded))
                yield connection

    @contextlib.contextmanager
    def _doubted(self, connection: Connection) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if self.is_sqlite or not (connection.invalidated or error.connection_invalidated):
                raise
            raise IndexInDoubtError(f"the index was lost in a commit: {error.orig}") from error

    def probe(self) -> None:
        """Ask the database whether it answers; raise IndexUnavailableError if not."""
        with self.read() as connection:
            connection.exec_driver_sql("SELECT 1")

    def checkpoint(self) -> None:
        """Fold SQLite's write-ahead log into the database; nothing on PostgreSQL."""
        if self.is_sqlite:
            with self.translated(), self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close every connection."""
        if self._lookups is not None:
            self._lookups.close()
        self._readers.close()
        self._writers.close()
        self._engine.dispose()

    def _interruptible(self, connection: Connection) -> contextlib.AbstractContextManager[None]:
        if self._stop is None:
            return contextlib.nullcontext()
        driver: Any = connection.connection.driver_connection
        return self._stop.interrupting(driver.interrupt if self.is_sqlite else driver.cancel)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Translate what SQLAlchemy raises inside, and the driver itself (see `prepared`)."""
        driver: Any = self._engine.dialect.dbapi
        try:
            yield
        except PoolTimeoutError as error:
            raise IndexBusyError("every connection to the index is in use") from error
        except (DBAPIError, driver.Error) as error:
            cause: BaseException = error
            if isinstance(error, DBAPIError) and error.orig is not None:
                cause = error.orig
            if self._is_busy(cause):
                raise IndexBusyError(f"the index took too long: {cause}") from error
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            if self._does_not_answer(cause) or lost:
                raise IndexUnavailableError(f"the index does not answer: {cause}") from error
            raise

    def _is_busy(self, cause: BaseException) -> bool:
        if self.is_sqlite:
            return any(word in str(cause) for word in _TOOK_TOO_LONG)
        return postgresql.is_busy(cause)

    def _does_not_answer(self, cause: BaseException) -> bool:
        driver: Any = self._engine.dialect.dbapi
        if isinstance(cause, driver.OperationalError):
            return True
        if self.is_sqlite:
            return False
        return postgresql.is_read_only(cause) or postgresql.is_stale(cause)

    def _sqlite(self) -> Engine:
        if self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            self.url, pool_size=16, max_overflow=48, connect_args={"timeout": 30}
        )
        event.listen(engine, "connect", sqlite.prepare)
        event.listen(engine, "begin", sqlite.begin)
        return engine


class _Lender:
    """Lends connections of one kind and keeps those that come back.

    To take one from the pool and give it back costs as much as a short transaction.

    Parameters
    ----------
    engine
        Whose pool they are from.
    kept
        How many are kept.
    timeout_s
        How long a statement may take, on PostgreSQL: there, no more than are kept are lent.
    options
        How their statements are run.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        kept: int,
        timeout_s: float | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self._engine = engine
        self._options = options or {}
        self._kept = kept
        self._idle: deque[Connection] = deque()
        self._timeout_s = timeout_s
        self._free = threading.BoundedSemaphore(kept) if timeout_s else None

    @contextlib.contextmanager
    def lent(self) -> Iterator[Connection]:
        """Lend one; the caller leaves it outside of any transaction."""
        if self._free is None:
            with self._one() as connection:
                yield connection
            return
        if not self._free.acquire(timeout=_BUSY_TIMEOUT_MS / 1000):
            raise IndexBusyError(
                f"all {self._kept} connections to the index are in use; "
                "[index] pool_size allows for more"
            )
        try:
            with self._one() as connection:
                yield connection
        finally:
            self._free.release()

    @contextlib.contextmanager
    def _one(self) -> Iterator[Connection]:
        connection = self._taken()
        try:
            yield connection
        except BaseException as error:
            if postgresql.is_stale(error):
                connection.invalidate()
            connection.close()
            raise
        if len(self._idle) < self._kept:
            self._idle.append(connection)
        else:
            connection.close()

    def _taken(self) -> Connection:
        with contextlib.suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if not self._timeout_s or not postgresql.is_lost(connection):
                    return connection
                connection.invalidate()
                connection.close()
        connection = self._engine.connect()
        connection.execution_options(**self._options)
        if self._timeout_s:
            postgresql.limit(connection, self._timeout_s)
        return connection

    def close(self) -> None:
        """Close those that are kept."""
        while self._idle:
            self._idle.pop().close()


@contextlib.contextmanager
def _deadline(connection: Connection) -> Iterator[None]:
    driver: Any = connection.connection.driver_connection
    end = time.monotonic() + _STATEMENT_TIMEOUT_S
    driver.set_progress_handler(lambda: time.monotonic() > end, PROGRESS_STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
