"""Peers that were made known at run time: rows of the index, so that every node has them."""

from sqlalchemy import delete, select

from storage.index import clock
from storage.index.engine import IndexEngine
from storage.index.tables import peer


class PeerRows:
    """The table of peers; what a definition holds is the archive's affair.

    Parameters
    ----------
    engine
        The index.
    """

    def __init__(self, engine: IndexEngine) -> None:
        self._engine = engine

    def all(self) -> dict[str, str]:
        """Return the definition of each peer by AE title, in the order of titles."""
        rows = select(peer.c.ae_title, peer.c.definition).order_by(peer.c.ae_title)
        with self._engine.read() as connection:
            return {row.ae_title: row.definition for row in connection.execute(rows)}

    def put(self, ae_title: str, definition: str, *, principal: str) -> bool:
        """Write a peer; return whether one of that title was replaced."""
        gone = delete(peer).where(peer.c.ae_title == ae_title)
        with self._engine.write() as connection:
            replaced = connection.execute(gone).rowcount > 0
            connection.execute(
                peer.insert().values(
                    ae_title=ae_title,
                    definition=definition,
                    principal=principal,
                    created_at=clock.now_us(),
                )
            )
        return replaced

    def remove(self, ae_title: str) -> bool:
        """Delete a peer; return whether there was one."""
        with self._engine.write() as connection:
            gone = delete(peer).where(peer.c.ae_title == ae_title)
            return connection.execute(gone).rowcount > 0
