"""Which values the attributes of each series have: an inverted table, written with the rows.

A value that all instances of a series share is kept once a series; where they differ, a mark
says so, and whoever searches looks at the instances themselves. Beyond a few values the rest is
not listed, which another mark says. The table only ever names too many series, never too few,
so nothing needs to be taken out when instances go.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, Self

from sqlalchemy import Connection, bindparam, select, tuple_

from storage.index.prepared import InsertNew, Prepared
from storage.index.rows import UNLISTED, VARIES, Terms
from storage.index.tables import series, series_term, term

# Some 60 KB a series and 200 bytes a value, in each process that stores.
_MOST_SERIES: Final = 200
_MOST_IDS: Final = 50_000
_PAGE: Final = 256
# What varies from slice to slice is seldom searched for, and would be most of the rows.
_MOST_VALUES: Final = 16
_MARKS: Final = frozenset({VARIES, UNLISTED})
_Pair = tuple[str, str]

# Built once: building a statement costs SQLAlchemy more than running it costs SQLite.
_IS_MISSING: Final = Prepared(
    select(series.c.terms_missing).where(series.c.id == bindparam("key"))
)
_WRITTEN: Final = Prepared(
    select(term.c.path, term.c.value)
    .join(series_term, series_term.c.term_fk == term.c.id)
    .where(series_term.c.series_fk == bindparam("key"))
)
_IDS: Final = Prepared(
    select(term.c.id, term.c.path, term.c.value).where(
        tuple_(term.c.path, term.c.value).in_(bindparam("pairs", expanding=True))
    )
)
_ID: Final = Prepared(
    select(term.c.id).where(
        term.c.path == bindparam("path"), term.c.value == bindparam("value")
    )
)
_ADD_TERMS: Final = InsertNew(term)
_ADD_TO_SERIES: Final = InsertNew(series_term)


def _by_path(pairs: Iterable[_Pair]) -> dict[str, set[str]]:
    grouped: dict[str, set[str]] = defaultdict(set)
    for path, value in pairs:
        grouped[path].add(value)
    return grouped


@dataclass(slots=True)
class _Known:
    """What is written of one series, and what its last instance had.

    Parameters
    ----------
    values
        By path, every value that is written.
    varying, unlisted
        Paths that have those marks.
    """

    values: dict[str, set[str]] = field(default_factory=dict)
    varying: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)
    last: Terms | None = None
    is_new: bool = True

    @classmethod
    def of(cls, pairs: Iterable[_Pair]) -> Self:
        """Return what is known when these pairs are written."""
        written = _by_path(pairs)
        return cls(
            {path: found - _MARKS for path, found in written.items()},
            {path for path, found in written.items() if not found.isdisjoint(_MARKS)},
            {path for path, found in written.items() if UNLISTED in found},
            is_new=not written,
        )

    def take(self, terms: Terms) -> list[_Pair]:
        """Return what must be written for one more instance."""
        if self.is_new:
            pairs = [pair for of_tag in terms.values() for pair in of_tag]
            first = _Known.of(pairs)
            self.values, self.varying, self.unlisted = (
                first.values,
                first.varying,
                first.unlisted,
            )
        else:
            pairs = [
                pair
                for path, found in self._suspects(terms)
                if path not in self.unlisted
                for pair in self._differing(path, found)
            ]
        self.is_new = False
        self.last = terms
        return pairs

    def _differing(self, path: str, found: set[str]) -> Iterator[_Pair]:
        held = self.values.setdefault(path, set())
        if path not in self.varying:
            if found == held:
                return
            self.varying.add(path)
            yield path, VARIES
        fresh = found - held
        if UNLISTED in found or len(held) + len(fresh) > _MOST_VALUES:
            self.unlisted.add(path)
            yield path, UNLISTED
            return
        held |= fresh
        yield from ((path, value) for value in fresh)

    def _suspects(self, terms: Terms) -> Iterator[tuple[str, set[str]]]:
        """Yield the paths whose values may not be those that are written, and the values."""
        if self.last is None:
            found = _by_path(pair for of_tag in terms.values() for pair in of_tag)
            yield from ((path, found.get(path, set())) for path in self.values | found)
            return
        last = self.last
        for tag, mine in terms.items():
            before = last.get(tag, ())
            if mine is not before and mine != before:
                yield from _of_either(mine, before)
        for tag in last.keys() - terms.keys():
            yield from _of_either((), last[tag])


def _of_either(
    mine: Sequence[_Pair], before: Sequence[_Pair]
) -> Iterator[tuple[str, set[str]]]:
    found = _by_path(mine)
    for path in found.keys() | {path for path, _ in before}:
        yield path, found.get(path, set())


class TermWriter:
    """Writes the terms of new instances, within the transaction that inserts them.

    What it remembers is true of committed transactions only: `forget` after one that failed.
    """

    def __init__(self) -> None:
        self._series: dict[int, _Known | None] = {}
        self._ids: dict[_Pair, int] = {}

    def write(
        self, connection: Connection, arrivals: Sequence[tuple[int, Terms]], made: Set[int]
    ) -> None:
        """Write what ``arrivals``, the key of a series and terms each, bring that is new.

        Parameters
        ----------
        made
            The series that this transaction has made: nothing is written of them.
        """
        while len(self._series) + len(made) > _MOST_SERIES and self._series:
            del self._series[next(iter(self._series))]
        self._series.update((key, _Known()) for key in made)
        rows: dict[tuple[_Pair, int], None] = {}
        for series_fk, terms in arrivals:
            known = self._known(connection, series_fk)
            if known is not None:
                rows.update(dict.fromkeys((pair, series_fk) for pair in known.take(terms)))
        if rows:
            self._insert(connection, list(rows))

    def forget(self) -> None:
        """Forget everything: a transaction failed."""
        self._series = {}
        self._ids = {}

    def _known(self, connection: Connection, series_fk: int) -> _Known | None:
        if series_fk in self._series:
            return self._series[series_fk]
        if len(self._series) >= _MOST_SERIES:
            del self._series[next(iter(self._series))]
        known: _Known | None = None
        if not _IS_MISSING.value(connection, {"key": series_fk}):
            written = _WRITTEN.rows(connection, {"key": series_fk})
            known = _Known.of((path, value) for path, value in written)
        self._series[series_fk] = known
        return known

    def _insert(self, connection: Connection, rows: Sequence[tuple[_Pair, int]]) -> None:
        self._find_ids(connection, list({pair for pair, _ in rows}))
        _ADD_TO_SERIES.run(
            connection,
            [{"term_fk": self._ids[pair], "series_fk": key} for pair, key in rows],
        )

    def _find_ids(self, connection: Connection, pairs: list[_Pair]) -> None:
        if len(self._ids) > _MOST_IDS:
            self._ids = {}
        missing = [pair for pair in pairs if pair not in self._ids]
        for first in range(0, len(missing), _PAGE):
            page = missing[first : first + _PAGE]
            self._learn(connection, page)
            new = [pair for pair in page if pair not in self._ids]
            if new:
                _ADD_TERMS.run(
                    connection, [{"path": path, "value": value} for path, value in new]
                )
                self._learn(connection, new)

    def _learn(self, connection: Connection, pairs: list[_Pair]) -> None:
        if connection.dialect.name == "sqlite":
            # One at a time: for a list of pairs SQLite looks through all terms there are.
            for pair in pairs:
                for (key,) in _ID.rows(connection, {"path": pair[0], "value": pair[1]}):
                    self._ids[pair] = key
            return
        for key, path, value in _IDS.rows(connection, {"pairs": pairs}):
            self._ids[path, value] = key
