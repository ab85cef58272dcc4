"""Associations this archive asks for, and instances sent over them (PS3.4 Annex B, SCU)."""

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, Self

from pynetdicom.presentation import PresentationContext, build_context

from archive.assembly import Archive
from archive.auth.principal import Principal
from archive.config import ConfigError, Peer
from archive.errors import PeerError
from archive.retrieve.listing import ListedInstance, Listing
from archive.retrieve.values import StoredInstance
from dimse.dialing import dial, place
from dimse.proposing import Proposal, batches
from dimse.requestor import Requestor, hung_up
from dimse.send import BrokenMessageError, Purpose, Sender, outcome_of
from dimse.tls import client_context

# What became of one instance: the status it was answered with, None when it was not sent;
# and, unless it is a success, why.
OnEach = Callable[[ListedInstance, int | None, str], None]


class Outgoing:
    """An established association with a peer; leaving it releases, or aborts after an error.

    Attributes
    ----------
    association
        pynetdicom's: its ``send_c_echo``, ``send_n_event_report`` and the like may be used, by
        one thread at a time.
    peer
        Who is at the other end.
    reused
        It has served before: the peer may have had enough of it meanwhile.
    proposed
        What was proposed on it, where that was to send instances.
    user
        Who used it last, where that matters to who keeps it.
    """

    def __init__(self, association: Requestor, peer: Peer) -> None:
        self.association = association
        self.peer = peer
        self.reused = False
        self.proposed: frozenset[Proposal] = frozenset()
        self.user: object = None

    @property
    def is_usable(self) -> bool:
        """Whether the peer, as far as can be told without asking it, still listens."""
        return self.association.is_usable()

    @property
    def maximum_pdu(self) -> int:
        """The longest PDU that the peer takes; 0 for no limit (PS3.8 §D.1)."""
        return int(self.association.acceptor.maximum_length or 0)

    def send_pdus(self, data: bytes | memoryview) -> None:
        """Write framed PDUs.

        Raises
        ------
        OSError
            If the connection is gone, or the peer does not read.
        """
        if not self.association.is_usable():
            raise ConnectionAbortedError("the peer has ended the association")
        self.association.dul.send_raw(data)

    def release(self) -> None:
        """Release the association (PS3.8 §7.2), or at least end it."""
        try:
            self.association.leave()
        finally:
            self.association.close()

    def abort(self) -> None:
        """Abort the association (PS3.8 §7.3)."""
        try:
            if self.association.is_established:
                self.association.abort()
        finally:
            self.association.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()


def connect(
    archive: Archive,
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    roles: Sequence[Any] = (),
) -> Outgoing:
    """Ask a peer for an association.

    Parameters
    ----------
    contexts
        What is proposed, at most 128; they are not written to.
    roles
        Negotiation items that go along, such as pynetdicom's ``build_role``.

    Raises
    ------
    PeerError
        If there is none to be had; its text is the diagnosis.
    """
    connection = _dialled(archive, peer)
    try:
        association = Requestor(archive.config, peer, connection)
    except OSError as error:
        connection.close()
        raise hung_up(peer, connection) from error
    try:
        association.negotiate(list(contexts), list(roles))
    except OSError as error:
        association.close()
        raise hung_up(peer, connection) from error
    except BaseException:
        association.close()
        raise
    return Outgoing(association, peer)


def _dialled(archive: Archive, peer: Peer) -> socket.socket:
    try:
        tls = client_context(archive.config, peer) if peer.tls else None
    except ConfigError as error:
        raise PeerError(f"{place(peer)}: TLS cannot be spoken: {error}") from error
    return dial(peer, timeout_s=archive.config.dimse.association_timeout_s, tls=tls)


class Links(Protocol):
    """Where associations for sending come from, and go to."""

    def take(self, peer: Peer, proposed: Sequence[Proposal], *, fresh: bool) -> Outgoing:
        """Return an association on which at least this was proposed; raises PeerError."""

    def give(self, outgoing: Outgoing) -> None:
        """Take one back that is no longer needed."""


class NewLinks:
    """Makes each association, and releases it."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def take(self, peer: Peer, proposed: Sequence[Proposal], *, fresh: bool) -> Outgoing:  # noqa: ARG002
        """Ask for an association; raises PeerError."""
        contexts = [build_context(sop_class, [*syntaxes]) for sop_class, syntaxes in proposed]
        made = connect(self._archive, peer, contexts)
        made.proposed = frozenset(proposed)
        return made

    def give(self, outgoing: Outgoing) -> None:
        """Release it."""
        outgoing.release()


def deliver(  # noqa: PLR0913 - agreed with those who call it
    archive: Archive,
    principal: Principal,
    peer: Peer,
    instances: Listing | Iterable[StoredInstance],
    *,
    originator: tuple[str, int] | None = None,
    priority: int = 0,
    on_each: OnEach,
    cancelled: Callable[[], bool] = lambda: False,
    links: Links | None = None,
) -> None:
    """Send stored instances to a peer (PS3.7 §9.1.1).

    Each is sent as stored where the peer takes it so, or else transcoded. ``on_each`` is called
    after each with what became of it, in the order they are sent. An association that is lost
    after it carried something is asked for again, for the next instance.

    Parameters
    ----------
    principal
        Who may see them.
    instances
        A listing, or a few instances, which are then held in memory.
    originator
        AE title and message ID of the C-MOVE this serves.
    priority
        0 medium, 1 high, 2 low (PS3.7 §9.1.1.1.6).
    on_each
        Gets the instance, the status it was answered with, or None when it was not sent, and
        then, or when the status is no success, why.
    cancelled
        Asked before each; once it says yes nothing more is sent.
    links
        Where associations are taken from; without: a new one, released at the end.

    Raises
    ------
    PeerError
        If there is no association to be had, or it is lost at once. Instances that ``on_each``
        was not called for were not sent, or it is not known whether they arrived.
    """
    listing = instances if isinstance(instances, Listing) else Listing.of(instances)
    purpose = Purpose(priority, originator)
    for kinds, proposed in batches(listing.kinds(), peer.transfer_syntaxes):
        with _Carrier(
            archive, principal, peer, proposed, links or NewLinks(archive)
        ) as carrier:
            for entry, stored in listing.read(kinds):
                if cancelled():
                    return
                on_each(entry, *carrier.carry(stored, purpose))


class _Carrier:
    """Carries the instances of one batch: over one association, as long as it lasts."""

    def __init__(
        self,
        archive: Archive,
        principal: Principal,
        peer: Peer,
        proposed: Sequence[Proposal],
        links: Links,
    ) -> None:
        self._archive, self._principal, self._peer = archive, principal, peer
        self._proposed, self._links = proposed, links
        self._outgoing: Outgoing | None = None
        self._sender: Sender | None = None
        self._answered = 0
        self._unaccepted = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._outgoing is not None and kind is None:
            self._links.give(self._outgoing)
        else:
            self._drop()

    def carry(self, stored: StoredInstance | None, purpose: Purpose) -> tuple[int | None, str]:
        """Send one instance; return what became of it, as `outcome_of` does."""
        if self._unaccepted:
            return None, self._unaccepted
        try:
            return self._carried(stored, purpose, fresh=False)
        except PeerError as error:
            if not error.unaccepted:
                raise
            self._unaccepted = str(error)
            return None, self._unaccepted

    def _carried(
        self, stored: StoredInstance | None, purpose: Purpose, *, fresh: bool
    ) -> tuple[int | None, str]:
        sender, outgoing = self._ready(fresh=fresh)
        try:
            outcome = outcome_of(sender, stored, purpose)
        except BrokenMessageError as error:
            self._drop()
            return None, str(error)
        except OSError as error:
            stale, worked = outgoing.reused and not self._answered, self._answered > 0
            self._drop()
            if stale:
                # The peer may have closed it in this very moment: it is asked for once more.
                return self._carried(stored, purpose, fresh=True)
            lost = f"{place(self._peer)}: the association is lost: {error}"
            if worked and not isinstance(error, TimeoutError):
                return None, lost
            raise PeerError(lost) from error
        self._answered += outcome[0] is not None
        return outcome

    def _ready(self, *, fresh: bool) -> tuple[Sender, Outgoing]:
        if self._outgoing is None or self._sender is None:
            self._outgoing = self._links.take(self._peer, self._proposed, fresh=fresh)
            self._answered = 0
            self._sender = Sender(
                self._archive,
                self._principal,
                self._outgoing.association,
                self._outgoing,
                preferred=self._peer.transfer_syntaxes,
            )
        return self._sender, self._outgoing

    def _drop(self) -> None:
        if self._outgoing is not None:
            self._outgoing.abort()
        self._outgoing = self._sender = None
