"""Statements compiled once, run by the driver itself: for the few that every instance needs.

SQLAlchemy takes about 90 us of CPU to run a statement that is built already, SQLite about 8.
A statement is still written in SQLAlchemy Core, and runs on both databases; only its execution
goes past the library. Values are of types that both drivers take as they are: int, str, bytes,
bool and None.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

_EXPANDING: Final = re.compile(r"__\[POSTCOMPILE_(\w+)\]")
# Lists of that many different lengths are remembered.
_MOST_TEXTS: Final = 256
Values = Mapping[str, Any]


class _Compiled:
    """One statement for one database."""

    def __init__(self, statement: Any, dialect: Dialect, sample: Values) -> None:  # noqa: ANN401 - any Core statement
        compiled = statement.compile(
            dialect=dialect, column_keys=list(sample) if statement.is_insert else None
        )
        self._names: Sequence[str] | None = compiled.positiontup
        self._string: str = compiled.string
        self._before_tuples = "VALUES " if dialect.tuple_in_values else ""
        self._fixed: Values = {
            name: value
            for name, value in compiled.params.items()
            if value is not None and name not in sample
        }
        self._texts: dict[tuple[int, ...], str] = {}
        # Most take neither lists nor values of their own: text and order are known.
        self._in_order: Callable[[Values], tuple[Any, ...]] | None = None
        if not _EXPANDING.search(self._string) and not self._fixed and self._names:
            self._in_order = _in_order(self._names)

    def sql(self, values: Values) -> str:
        """Return its text, with a placeholder for each value of the lists among ``values``."""
        if self._in_order is not None:
            return self._string
        lengths = tuple([len(value) for value in values.values() if isinstance(value, list)])
        text = self._texts.get(lengths)
        if text is None:
            text = _EXPANDING.sub(partial(self._placeholders, values), self._string)
            if len(self._texts) >= _MOST_TEXTS:
                self._texts.clear()
            self._texts[lengths] = text
        return text

    def _placeholders(self, values: Values, found: re.Match[str]) -> str:
        name = found[1]
        listed = values[name] if name in values else self._fixed[name]
        if not listed:
            return "NULL"
        marker = "?" if self._names is not None else ""
        if not isinstance(listed[0], tuple):
            return ", ".join(marker or f"%({name}_{n})s" for n in range(len(listed)))
        groups = (
            ", ".join(marker or f"%({name}_{n}_{m})s" for m in range(len(group)))
            for n, group in enumerate(listed)
        )
        return self._before_tuples + ", ".join(f"({group})" for group in groups)

    def parameters(self, values: Values) -> Any:  # noqa: ANN401 - as the driver wants them
        if self._in_order is not None:
            return self._in_order(values)
        if self._fixed:
            values = {**self._fixed, **values}
        if self._names is None:
            named: dict[str, Any] = {}
            for name, value in values.items():
                named.update(_named(name, value))
            return named
        flat: list[Any] = []
        for name in self._names:
            value = values[name]
            if not isinstance(value, list):
                flat.append(value)
            elif value and isinstance(value[0], tuple):
                flat.extend(chain.from_iterable(value))
            else:
                flat.extend(value)
        return flat


def _in_order(names: Sequence[str]) -> Callable[[Values], tuple[Any, ...]]:
    if len(names) == 1:
        (name,) = names
        return lambda values: (values[name],)
    return itemgetter(*names)


def _named(name: str, value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - of any column
    if not isinstance(value, list):
        yield name, value
        return
    for n, one in enumerate(value):
        if isinstance(one, tuple):
            yield from ((f"{name}_{n}_{m}", part) for m, part in enumerate(one))
        else:
            yield f"{name}_{n}", one


class Prepared:
    """A statement that is compiled when it first runs.

    Parameters
    ----------
    statement
        A Core statement. A list of values for ``IN``, or of tuples of them, is an expanding
        bind parameter, given as a list; inserts name their columns by the values they are run
        with.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def rows(self, connection: Connection, values: Values) -> list[tuple[Any, ...]]:
        """Run it once; return its rows."""
        cursor = connection.connection.cursor()
        try:
            cursor.execute(*self.bound(connection.dialect, values))
            found = list(cursor.fetchall())
        finally:
            cursor.close()
        return found

    def bound(self, dialect: Dialect, values: Values) -> tuple[str, Any]:
        """Return its text and its values, as the driver of a database wants them."""
        compiled = self._for(dialect, values)
        return compiled.sql(values), compiled.parameters(values)

    def value(self, connection: Connection, values: Values) -> Any:  # noqa: ANN401 - of any column
        """Run it once; return the first value of its only row."""
        ((found, *_),) = self.rows(connection, values)
        return found

    def run(self, connection: Connection, many: Sequence[Values]) -> None:
        """Run it for each of ``many``, which have the same keys."""
        if not many:
            return
        compiled = self._for(connection.dialect, many[0])
        sql = compiled.sql(many[0])
        cursor = connection.connection.cursor()
        try:
            if len(many) == 1:
                cursor.execute(sql, compiled.parameters(many[0]))
            else:
                cursor.executemany(sql, [compiled.parameters(one) for one in many])
        finally:
            cursor.close()

    def keys(self, connection: Connection, many: Iterable[Values]) -> list[int]:
        """Run an insert for each of ``many``; return what it returns of each, in order."""
        return [self.value(connection, values) for values in many]

    def _for(self, dialect: Dialect, values: Values) -> _Compiled:
        key = (dialect.name, *values)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = _Compiled(self._statement, dialect, values)
            self._compiled[key] = compiled
        return compiled


class InsertNew:
    """An insert that leaves out rows whose keys are there already.

    Parameters
    ----------
    table
        Whose unique columns decide.
    """

    def __init__(self, table: Table) -> None:
        self._by_dialect = {
            "sqlite": Prepared(sqlite.insert(table).on_conflict_do_nothing()),
            "postgresql": Prepared(postgresql.insert(table).on_conflict_do_nothing()),
        }

    def run(self, connection: Connection, many: Sequence[Values]) -> None:
        """Insert ``many``, which have the same keys."""
        self._by_dialect[connection.dialect.name].run(connection, many)


class PreparedCache:
    """Statements that are built when something of their shape is asked for.

    Parameters
    ----------
    limit
        How many shapes are remembered.
    """

    def __init__(self, limit: int = 512) -> None:
        self._limit = limit
        self._known: dict[Hashable, Prepared] = {}

    def of(self, shape: Hashable, build: Callable[[], Executable]) -> Prepared:
        """Return the statement of ``shape``, which decides what ``build`` returns."""
        known = self._known.get(shape)
        if known is None:
            if len(self._known) >= self._limit:
                self._known = {}
            known = self._known[shape] = Prepared(build())
        return known
