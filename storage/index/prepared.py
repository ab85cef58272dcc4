"""Statements compiled once, run by the driver itself: for the few that every instance needs.

SQLAlchemy takes about 90 us of CPU to run a statement that is built already, SQLite about 8.
A statement is still written in SQLAlchemy Core, and runs on both databases; only its execution
goes past the library. Values are of types that both drivers take as they are: int, str, bytes,
bool and None.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Executable
from sqlalchemy.engine import Dialect

_EXPANDING: Final = re.compile(r"__\[POSTCOMPILE_(\w+)\]")
Values = Mapping[str, Any]


class _Compiled:
    """One statement for one database, and for lists of one length."""

    def __init__(self, statement: Any, dialect: Dialect, sample: Values) -> None:  # noqa: ANN401 - any Core statement
        compiled = statement.compile(
            dialect=dialect, column_keys=list(sample) if statement.is_insert else None
        )
        self._names: Sequence[str] | None = compiled.positiontup
        marker = "?" if self._names is not None else ""

        def placeholders(found: re.Match[str]) -> str:
            name = found[1]
            count = len(sample[name])
            if not count:
                return "NULL"
            return ", ".join(marker or f"%({name}_{n})s" for n in range(count))

        self.sql: str = _EXPANDING.sub(placeholders, compiled.string)
        self._fixed: Values = {
            name: value
            for name, value in compiled.params.items()
            if value is not None and name not in sample
        }

    def parameters(self, values: Values) -> Any:  # noqa: ANN401 - as the driver wants them
        if self._fixed:
            values = {**self._fixed, **values}
        if self._names is None:
            named: dict[str, Any] = {}
            for name, value in values.items():
                if isinstance(value, list):
                    named.update((f"{name}_{n}", one) for n, one in enumerate(value))
                else:
                    named[name] = value
            return named
        flat: list[Any] = []
        for name in self._names:
            value = values[name]
            if isinstance(value, list):
                flat.extend(value)
            else:
                flat.append(value)
        return flat


class Prepared:
    """A statement that is compiled when it first runs.

    Parameters
    ----------
    statement
        A Core statement. A list of values for ``IN`` is an expanding bind parameter, given as
        a list; inserts name their columns by the values they are run with.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._compiled: dict[tuple[Any, ...], _Compiled] = {}

    def rows(self, connection: Connection, values: Values) -> list[tuple[Any, ...]]:
        """Run it once; return its rows."""
        compiled = self._for(connection, values)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(compiled.sql, compiled.parameters(values))
            found = list(cursor.fetchall())
        finally:
            cursor.close()
        return found

    def value(self, connection: Connection, values: Values) -> Any:  # noqa: ANN401 - of any column
        """Run it once; return the first value of its only row."""
        ((found, *_),) = self.rows(connection, values)
        return found

    def run(self, connection: Connection, many: Sequence[Values]) -> None:
        """Run it for each of ``many``, which have the same keys."""
        if not many:
            return
        compiled = self._for(connection, many[0])
        cursor = connection.connection.cursor()
        try:
            if len(many) == 1:
                cursor.execute(compiled.sql, compiled.parameters(many[0]))
            else:
                cursor.executemany(compiled.sql, [compiled.parameters(one) for one in many])
        finally:
            cursor.close()

    def keys(self, connection: Connection, many: Iterable[Values]) -> list[int]:
        """Run an insert for each of ``many``; return what it returns of each, in order."""
        return [self.value(connection, values) for values in many]

    def _for(self, connection: Connection, values: Values) -> _Compiled:
        lists = tuple(
            len(value) if isinstance(value, list) else -1 for value in values.values()
        )
        key = (connection.dialect.name, *values, *lists)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = _Compiled(self._statement, connection.dialect, values)
            self._compiled[key] = compiled
        return compiled
