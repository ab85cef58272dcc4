"""Associations this archive asks for, and instances sent over them (PS3.4 Annex B, SCU)."""

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Self

from pynetdicom.presentation import PresentationContext, build_context

from archive.assembly import Archive
from archive.auth.principal import Principal
from archive.config import ConfigError, Peer
from archive.errors import ArchiveError, PeerError
from archive.log import get_logger
from archive.retrieve.values import StoredInstance
from dimse.contexts import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from dimse.dialing import dial, place
from dimse.requestor import Requestor
from dimse.send import Sender, Suboperation
from dimse.tls import client_context

logger = get_logger(__name__)

_MOST_CONTEXTS: Final = 128  # identifiers are the odd numbers of a byte (PS3.8 Table 9-13)
_MOST_MESSAGES: Final = 65535

# What became of one instance: the status it was answered with, None when it was not sent,
# and then why.
Outcome = Callable[[StoredInstance, int | None, str], None]


class Outgoing:
    """An established association with a peer; leaving it releases, or aborts after an error.

    Attributes
    ----------
    association
        pynetdicom's: its ``send_c_echo``, ``send_n_event_report`` and the like may be used, by
        one thread at a time.
    peer
        Who is at the other end.
    """

    def __init__(self, association: Requestor, peer: Peer) -> None:
        self.association = association
        self.peer = peer

    @property
    def maximum_pdu(self) -> int:
        """The longest PDU that the peer takes; 0 for no limit (PS3.8 §D.1)."""
        return int(self.association.acceptor.maximum_length or 0)

    def send_pdus(self, data: bytes) -> None:
        """Write framed PDUs.

        Raises
        ------
        OSError
            If the connection is gone, or the peer does not read.
        """
        if not self.association.is_established or self.association.acse.is_aborted():
            raise ConnectionAbortedError("the peer has ended the association")
        self.association.dul.send_raw(data)

    def release(self) -> None:
        """Release the association (PS3.8 §7.2), or at least end it."""
        try:
            self.association.release()
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
    association = Requestor(archive.config, peer, connection)
    try:
        association.negotiate(list(contexts), list(roles))
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


def deliver(  # noqa: PLR0913 - agreed with those who call it
    archive: Archive,
    principal: Principal,
    peer: Peer,
    instances: Iterable[StoredInstance],
    *,
    originator: tuple[str, int] | None = None,
    priority: int = 0,
    on_each: Outcome,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Send stored instances to a peer (PS3.7 §9.1.1).

    Each is sent as stored where the peer takes it so, or else uncompressed. ``on_each`` is
    called after each with what became of it, in the order they are sent.

    Parameters
    ----------
    principal
        Who may see them.
    originator
        AE title and message ID of the C-MOVE this serves.
    priority
        0 medium, 1 high, 2 low (PS3.7 §9.1.1.1.6).
    cancelled
        Asked before each; once it says yes nothing more is sent.

    Raises
    ------
    PeerError
        If there is no association to be had, or it is lost. Instances that ``on_each`` was not
        called for were not sent, or it is not known whether they arrived.
    """
    for batch, contexts in _batches(list(instances)):
        if cancelled():
            return
        try:
            outgoing = connect(archive, peer, contexts)
        except PeerError as error:
            if not error.unaccepted:
                raise
            for stored in batch:
                on_each(stored, None, str(error))
            continue
        with outgoing:
            sender = Sender(archive, principal, outgoing.association, outgoing)
            for number, stored in enumerate(batch):
                if cancelled():
                    return
                operation = Suboperation(number % _MOST_MESSAGES + 1, priority, originator)
                on_each(stored, *_sent(sender, stored, operation, peer))


def _sent(
    sender: Sender, stored: StoredInstance, operation: Suboperation, peer: Peer
) -> tuple[int | None, str]:
    try:
        return sender.send(stored, operation), ""
    except ArchiveError as error:
        return None, str(error)
    except OSError as error:
        raise PeerError(f"{place(peer)}: the association is lost: {error}") from error


def _batches(
    instances: list[StoredInstance],
) -> Iterator[tuple[list[StoredInstance], list[PresentationContext]]]:
    """Yield what goes over one association, and the contexts that it needs."""
    pairs = list({(one.sop_class_uid, one.transfer_syntax_uid): None for one in instances})
    # Each pair alone, and room for one uncompressed context of its class.
    room = _MOST_CONTEXTS // 2
    for first in range(0, len(pairs), room):
        part = pairs[first : first + room]
        batch = [
            one for one in instances if (one.sop_class_uid, one.transfer_syntax_uid) in part
        ]
        yield batch, _proposed(part)


def _proposed(pairs: list[tuple[str, str]]) -> list[PresentationContext]:
    """Return contexts for each class: as stored, each syntax alone, and uncompressed."""
    contexts = [build_context(sop_class, [syntax]) for sop_class, syntax in pairs]
    contexts.extend(
        build_context(sop_class, [EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN])
        for sop_class in {sop_class: None for sop_class, _ in pairs}
    )
    return contexts
