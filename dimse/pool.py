"""Associations with C-MOVE destinations, kept for the next C-MOVE (PS3.4 §C.4.2.3.1)."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from archive.assembly import Archive
from archive.config import Peer
from archive.errors import PeerError
from archive.log import get_logger
from dimse.outgoing import NewLinks, Outgoing
from dimse.proposing import Proposal

logger = get_logger(__name__)
_MOST_KEPT: Final = 16
# What the release of an association takes, with a peer that is well.
_RELEASING_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Idle:
    """An association that nobody uses."""

    outgoing: Outgoing
    until: float


class AssociationPool:
    """Gives out associations that are idle, or new ones, and takes them back.

    One association serves one user at a time. It serves another when the peer, address and
    all, is the same, and everything that is needed was proposed on it, whether it was accepted
    or not. While some are idle a thread watches them; it ends with the last.

    Parameters
    ----------
    archive
        Its settings say how long associations are kept.
    """

    def __init__(self, archive: Archive) -> None:
        self._keep_s = archive.config.dimse.keep_associations_s
        self._links = NewLinks(archive)
        self._idle: list[_Idle] = []
        self._changed = threading.Condition()
        self._watcher: threading.Thread | None = None
        self._closed = False

    def take(self, peer: Peer, proposed: Sequence[Proposal], *, fresh: bool) -> Outgoing:
        """Return an association on which at least this was proposed.

        Parameters
        ----------
        fresh
            Whether it must be a new one.

        Raises
        ------
        PeerError
            If a new one is needed, and there is none to be had.
        """
        while not fresh and (kept := self._fitting(peer, frozenset(proposed))) is not None:
            if kept.is_usable:
                kept.reused = True
                return kept
            kept.release()
        try:
            return self._links.take(peer, proposed, fresh=True)
        except PeerError as error:
            if not error.transient or self._keep_s <= 0:
                raise
        # A peer that takes few associations may have its last one with this archive, idle: in
        # this pool, or in that of another worker, which will not keep it longer than this one.
        self.give_up(lambda outgoing: outgoing.peer.address == peer.address)
        time.sleep(self._keep_s + _RELEASING_S)
        return self._links.take(peer, proposed, fresh=True)

    def give(self, outgoing: Outgoing) -> None:
        """Keep an association for a while, or release it."""
        if not outgoing.is_usable or not self._keep(outgoing):
            self._links.give(outgoing)

    def give_up(self, unwanted: Callable[[Outgoing], bool]) -> None:
        """Let the watcher release some of what is idle."""
        with self._changed:
            self._idle = [
                replace(one, until=0.0) if unwanted(one.outgoing) else one for one in self._idle
            ]
            self._changed.notify_all()

    def close(self) -> None:
        """Release what is idle, and keep nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            watcher = self._watcher
        if watcher is not None:
            watcher.join()

    def _fitting(self, peer: Peer, proposed: frozenset[Proposal]) -> Outgoing | None:
        with self._changed:
            for number, one in enumerate(self._idle):
                if one.outgoing.peer == peer and one.outgoing.proposed >= proposed:
                    del self._idle[number]
                    return one.outgoing
        return None

    def _keep(self, outgoing: Outgoing) -> bool:
        with self._changed:
            if self._closed or self._keep_s <= 0 or len(self._idle) >= _MOST_KEPT:
                return False
            self._idle.append(_Idle(outgoing, time.monotonic() + self._keep_s))
            if self._watcher is None:
                self._watcher = threading.Thread(
                    target=self._watch, name="association-pool", daemon=True
                )
                self._watcher.start()
            return True

    def _watch(self) -> None:
        """Release what nobody has wanted for long enough, until nothing is left."""
        while due := self._wait_for_due():
            for one in due:
                try:
                    one.outgoing.release()
                except Exception:
                    logger.exception("pool.not-released")

    def _wait_for_due(self) -> list[_Idle]:
        with self._changed:
            while self._idle:
                now = time.monotonic()
                due = [one for one in self._idle if self._closed or one.until <= now]
                if due:
                    self._idle = [one for one in self._idle if one not in due]
                    return due
                self._changed.wait(min(one.until for one in self._idle) - now)
            self._watcher = None
            return []


class Share:
    """The pool as one requestor uses it: what it leaves idle is released when it leaves.

    A destination that serves one association at a time would be deaf to the next requestor,
    whom another worker may serve, for as long as associations are kept.

    Parameters
    ----------
    pool
        Where associations come from and go to.
    """

    def __init__(self, pool: AssociationPool) -> None:
        self._pool = pool

    def take(self, peer: Peer, proposed: Sequence[Proposal], *, fresh: bool) -> Outgoing:
        """Return an association on which at least this was proposed; raises PeerError."""
        return self._pool.take(peer, proposed, fresh=fresh)

    def give(self, outgoing: Outgoing) -> None:
        """Keep an association for a while, or release it."""
        outgoing.user = self
        self._pool.give(outgoing)

    def close(self) -> None:
        """Let what was left idle be released."""
        self._pool.give_up(lambda outgoing: outgoing.user is self)
