"""Rows of SQLite for those who ask a thousand times a second, past SQLAlchemy's connections.

To borrow one, to set its deadline and to give it back costs more than to find a row by its key.
"""

import sqlite3
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Engine

# SQLite asks whether to go on after this many instructions of its machine, about 1 ms.
PROGRESS_STEPS: Final = 100_000


class _Reader:
    """A connection of the pool, and until when its statement may run."""

    def __init__(self, engine: Engine) -> None:
        self._pooled = engine.raw_connection()
        self.driver: sqlite3.Connection = self._pooled.driver_connection  # type: ignore[assignment]
        self.end = 0.0
        self.driver.set_progress_handler(self._is_late, PROGRESS_STEPS)

    def _is_late(self) -> bool:
        return time.monotonic() > self.end

    def close(self) -> None:
        """Give it back."""
        self.driver.set_progress_handler(None, 0)
        self._pooled.close()


class Lookups:
    """Connections that are kept for statements which read little.

    Parameters
    ----------
    engine
        Whose pool they are from.
    kept
        How many are kept.
    timeout_s
        How long a statement may take.
    """

    def __init__(self, engine: Engine, *, kept: int, timeout_s: float) -> None:
        self._engine = engine
        self._kept = kept
        self._timeout_s = timeout_s
        self._idle: deque[_Reader] = deque()

    def rows(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows.

        Raises
        ------
        sqlite3.Error
            As the driver raises it.
        """
        try:
            reader = self._idle.pop()
        except IndexError:
            reader = _Reader(self._engine)
        reader.end = time.monotonic() + self._timeout_s
        try:
            found = reader.driver.execute(sql, parameters).fetchall()
        except BaseException:
            reader.close()
            raise
        if len(self._idle) < self._kept:
            self._idle.append(reader)
        else:
            reader.close()
        return found

    def close(self) -> None:
        """Give back those that are kept."""
        while self._idle:
            self._idle.pop().close()
