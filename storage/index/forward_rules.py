"""Forwarding rules in the index, so that every node has those that were made at run time."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from storage.index import changes, clock
from storage.index.engine import IndexEngine
from storage.index.tables import forward_rule


@dataclass(frozen=True, slots=True)
class ForwardRuleRow:
    """A rule as the index has it.

    Parameters
    ----------
    definition
        "" for one that stands in the settings.
    since
        Number of the last change it says nothing of.
    """

    definition: str
    since: int


class ForwardRuleRows:
    """The table of rules; what a definition holds is the archive's affair.

    Parameters
    ----------
    engine
        The index.
    """

    def __init__(self, engine: IndexEngine) -> None:
        self._engine = engine

    def all(self) -> dict[str, ForwardRuleRow]:
        """Return each rule by name, in the order of names."""
        with self._engine.read() as connection:
            return _all(connection)

    def put(self, name: str, definition: str, *, principal: str) -> bool:
        """Write a rule that holds from now on; return whether one of that name was replaced."""
        gone = delete(forward_rule).where(forward_rule.c.name == name)
        with self._engine.write() as connection:
            replaced = connection.execute(gone).rowcount > 0
            _insert(connection, name, definition, principal)
        return replaced

    def remove(self, name: str) -> bool:
        """Delete a rule; return whether there was one."""
        with self._engine.write() as connection:
            gone = delete(forward_rule).where(
                forward_rule.c.name == name, forward_rule.c.definition != ""
            )
            return connection.execute(gone).rowcount > 0

    def register(self, names: Collection[str]) -> None:
        """Note which rules stand in the settings: new ones hold from now on."""
        new, gone = _differing(self.all(), names)
        if not (new or gone):
            return
        with self._engine.write() as connection:
            # Alone: several nodes may note the same at once.
            changes.reserve(connection, 0)
            new, gone = _differing(_all(connection), names)
            connection.execute(
                delete(forward_rule).where(
                    forward_rule.c.name.in_(gone), forward_rule.c.definition == ""
                )
            )
            for name in sorted(new):
                _insert(connection, name, "", "")


def _all(connection: Connection) -> dict[str, ForwardRuleRow]:
    columns = (forward_rule.c.name, forward_rule.c.definition, forward_rule.c.since)
    rows = connection.execute(select(*columns).order_by(forward_rule.c.name))
    return {row.name: ForwardRuleRow(row.definition, row.since) for row in rows}


def _differing(
    known: dict[str, ForwardRuleRow], names: Collection[str]
) -> tuple[set[str], set[str]]:
    """Return which of ``names`` are not known, and which known ones are no more."""
    gone = {name for name, row in known.items() if not row.definition} - set(names)
    return set(names) - set(known), gone


def _insert(connection: Connection, name: str, definition: str, principal: str) -> None:
    connection.execute(
        insert(forward_rule).values(
            name=name,
            definition=definition,
            since=changes.count(connection),
            principal=principal,
            created_at=clock.now_us(),
        )
    )
