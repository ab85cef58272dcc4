"""The application entities this archive knows: those of the settings, and those added since."""

import threading
import time
from typing import Final

from archive.auth.principal import Principal, Right
from archive.config import Config, Peer
from archive.errors import ForbiddenError, InvalidRequestError, storage_translated
from storage.index.peers import PeerRows

__all__ = ["Peer", "PeerService"]

# How old what a process knows of added peers may be: a change is live everywhere after this.
_FRESH_S: Final = 1.0


class PeerService:
    """Finds peers by AE title, and changes who is known while the archive runs.

    Titles are compared trimmed, and with regard to case (PS3.5 §6.2, VR AE). A peer of the
    settings hides one of the same title that was added.

    Parameters
    ----------
    config
        The settings.
    rows
        The table of those that were added.
    """

    def __init__(self, config: Config, rows: PeerRows) -> None:
        self._configured = {peer.ae_title: peer for peer in config.dimse.peers}
        self._rows = rows
        self._lock = threading.Lock()
        self._known: dict[str, Peer] = {}
        self._known_since = float("-inf")

    def find(self, ae_title: str) -> Peer | None:
        """Return a peer; None when nobody is known by that title.

        Raises
        ------
        UnavailableError
            If the index does not answer.
        """
        title = ae_title.strip()
        return self._configured.get(title) or self._added().get(title)

    def is_at_hand(self, ae_title: str) -> bool:
        """Tell whether `find` answers without asking the index."""
        if ae_title.strip() in self._configured:
            return True
        return time.monotonic() - self._known_since <= _FRESH_S

    def all(self) -> list[Peer]:
        """Return every peer, by AE title."""
        known = self._added() | self._configured
        return [known[title] for title in sorted(known)]

    def is_configured(self, ae_title: str) -> bool:
        """Tell whether a peer stands in the settings, and cannot be changed here."""
        return ae_title.strip() in self._configured

    def add(self, principal: Principal, peer: Peer) -> bool:
        """Make a peer known; return whether it replaced one of the same title.

        Raises
        ------
        ForbiddenError
            If the principal may not administer.
        InvalidRequestError
            If the settings have a peer of that title.
        """
        self._require(principal, peer.ae_title)
        with storage_translated():
            replaced = self._rows.put(
                peer.ae_title, peer.model_dump_json(), principal=principal.name
            )
        self._forget()
        return replaced

    def remove(self, principal: Principal, ae_title: str) -> bool:
        """Forget a peer; return whether it was known.

        Raises
        ------
        ForbiddenError
            If the principal may not administer.
        InvalidRequestError
            If it stands in the settings.
        """
        self._require(principal, ae_title.strip())
        with storage_translated():
            removed = self._rows.remove(ae_title.strip())
        self._forget()
        return removed

    def _require(self, principal: Principal, title: str) -> None:
        if Right.ADMIN not in principal.rights:
            raise ForbiddenError(f"{principal.name} may not change peers")
        if title in self._configured:
            raise InvalidRequestError(
                f"peer {title} stands in the settings ([[dimse.peers]]): change it there"
            )

    def _added(self) -> dict[str, Peer]:
        with self._lock:
            if time.monotonic() - self._known_since > _FRESH_S:
                with storage_translated():
                    rows = self._rows.all()
                self._known = {
                    title: Peer.model_validate_json(definition)
                    for title, definition in rows.items()
                }
                self._known_since = time.monotonic()
            return self._known

    def _forget(self) -> None:
        with self._lock:
            self._known_since = float("-inf")
