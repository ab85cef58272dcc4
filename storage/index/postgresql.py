"""Connections to PostgreSQL: what each session is told, and which have been lost meanwhile."""

import importlib
import select
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event

# How long a writer waits for others: as long as one of SQLite does.
_LOCK_TIMEOUT_S: Final = 30
# A node that vanished in the middle of a transaction keeps every other from writing: its
# session is ended after so long. Between two statements of one pass milliseconds.
_IDLE_IN_TRANSACTION_S: Final = 60
# A statement that a connection has run so often is prepared, and as many are kept.
_PREPARE_THRESHOLD: Final = 5
_MOST_PREPARED: Final = 300
_KEPT_TEXTS: Final = 2000
# What libpq is told where the URL does not say otherwise: a server that does not answer is
# given up soon, and one that vanished without a word is noticed.
_NETWORK: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "fileroom",
}

# SQLSTATEs (PostgreSQL, appendix A). Cancelled, locked for too long, deadlock, could not be
# serialised, too many connections: trying again helps.
_BUSY: Final = frozenset({"57014", "55P03", "40P01", "40001", "53300"})
# A standby, or a primary that became one: it may read but not write.
_READ_ONLY: Final = "25006"
_NOT_SUPPORTED: Final = "0A000"


def open_postgresql(url: URL, *, pool_size: int) -> Engine:
    """Return an engine that opens no more than ``pool_size`` connections to be lent."""
    arguments = {name: value for name, value in _NETWORK.items() if name not in url.query}
    engine = create_engine(
        url,
        pool_size=pool_size,
        # A snapshot, or a migration and its lock, beside those that are lent.
        max_overflow=2,
        connect_args=arguments | {"prepare_threshold": _PREPARE_THRESHOLD},
        query_cache_size=_KEPT_TEXTS,
    )
    event.listen(engine, "connect", _prepare_session)
    return engine


def limit(connection: Connection, timeout_s: float) -> None:
    """Let no statement of a connection run for longer."""
    driver: Any = connection.connection.driver_connection
    was, driver.autocommit = driver.autocommit, True
    driver.execute(f"SET statement_timeout = {int(timeout_s * 1000)}")
    driver.autocommit = was


def _prepare_session(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
    # Small numbers would go as smaller types, and a statement be prepared once more for each
    # mixture of them.
    numeric = importlib.import_module("psycopg.types.numeric")
    connection.adapters.register_dumper(int, numeric.Int8Dumper)
    connection.prepared_max = _MOST_PREPARED
    chosen = {
        "lock_timeout": f"{_LOCK_TIMEOUT_S}s",
        "idle_in_transaction_session_timeout": f"{_IDLE_IN_TRANSACTION_S}s",
        # Compiling a statement takes longer than all but a few run.
        "jit": "off",
        # Starting processes that help takes longer, too, and they are needed for others.
        "max_parallel_workers_per_gather": "0",
    }
    calls = ", ".join(
        f"set_config('{name}', '{value}', false)" for name, value in chosen.items()
    )
    connection.autocommit = True
    connection.execute(f"SELECT {calls}")
    # Success is answered after the commit: it must survive a crash of the server. Whoever set
    # more than "on" (remote_apply) keeps it.
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.autocommit = False


def is_lost(connection: Connection) -> bool:
    """Tell whether the server has ended a connection that rests.

    Nothing is sent: a server that stops says so and closes, and what it said waits to be read.
    Asking it would cost every transaction one more way there and back.
    """
    driver: Any = connection.connection.driver_connection
    if driver is None or driver.closed:
        return True
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def is_busy(cause: BaseException) -> bool:
    """Tell whether an error of the driver means that trying again helps."""
    return getattr(cause, "sqlstate", None) in _BUSY


def is_read_only(cause: BaseException) -> bool:
    """Tell whether an error of the driver means that this server takes no writes."""
    return getattr(cause, "sqlstate", None) == _READ_ONLY


def is_stale(cause: BaseException) -> bool:
    """Tell whether a statement was prepared for a table as it was before a migration.

    The session would refuse it for as long as it lasts.
    """
    cause = getattr(cause, "orig", None) or cause
    return getattr(cause, "sqlstate", None) == _NOT_SUPPORTED and "cached plan" in str(cause)
