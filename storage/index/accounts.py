"""People who may prove who they are: rows of the index, so that every node has them."""

from dataclasses import dataclass

from sqlalchemy import delete, select, update

from storage.index import clock
from storage.index.engine import IndexEngine
from storage.index.tables import account


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account; what rights are called is the archive's affair.

    Parameters
    ----------
    rights
        Their names, separated by spaces.
    created_at
        Microseconds since 1970, UTC.
    """

    name: str
    password_hash: str
    rights: str
    site: str
    created_at: int


class AccountRows:
    """The table of accounts.

    Parameters
    ----------
    engine
        The index.
    """

    def __init__(self, engine: IndexEngine) -> None:
        self._engine = engine

    def all(self) -> list[AccountRow]:
        """Return every account, by name."""
        with self._engine.read() as connection:
            return [_row(found) for found in connection.execute(_SELECT)]

    def find(self, name: str) -> AccountRow | None:
        """Return an account; None when there is none of that name."""
        if "\0" in name:  # PostgreSQL takes no such text, so there is none
            return None
        with self._engine.read() as connection:
            found = connection.execute(_SELECT.where(account.c.name == name)).first()
        return None if found is None else _row(found)

    def put(self, name: str, *, password_hash: str, rights: str, site: str) -> bool:
        """Write an account; return whether one of that name was replaced."""
        with self._engine.write() as connection:
            gone = connection.execute(delete(account).where(account.c.name == name))
            connection.execute(
                account.insert().values(
                    name=name,
                    password_hash=password_hash,
                    rights=rights,
                    site=site,
                    created_at=clock.now_us(),
                )
            )
        return gone.rowcount > 0

    def set_password(self, name: str, password_hash: str) -> bool:
        """Change a password; return whether there is such an account."""
        changed = (
            update(account).where(account.c.name == name).values(password_hash=password_hash)
        )
        with self._engine.write() as connection:
            return connection.execute(changed).rowcount > 0

    def remove(self, name: str) -> bool:
        """Delete an account; return whether there was one."""
        with self._engine.write() as connection:
            return (
                connection.execute(delete(account).where(account.c.name == name)).rowcount > 0
            )


_SELECT = select(account).order_by(account.c.name)


def _row(found: object) -> AccountRow:
    return AccountRow(**found._asdict())  # type: ignore[attr-defined] # SQLAlchemy's Row
