"""Who is let in: titles, peers, where they call from, how many (PS3.8 §9.3.4, Table 9-21)."""

import ipaddress
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from archive.assembly import Archive
from archive.config import ANYWHERE, Peer
from archive.errors import ArchiveError
from archive.log import get_logger
from dimse.agreements import Agreement
from dimse.peers import Caller
from dimse.presence import Presence
from dimse.tls import TlsSubject

logger = get_logger(__name__)
_RESOLVED_S: Final = 60.0

_PERMANENT: Final = 1
_TRANSIENT: Final = 2
_SERVICE_USER: Final = 1
_SERVICE_PROVIDER_ACSE: Final = 2
_SERVICE_PROVIDER_PRESENTATION: Final = 3


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ, and in words why.

    Parameters
    ----------
    result, source, reason
        The codes of PS3.8 Table 9-21.
    why
        For the log.
    """

    result: int
    source: int
    reason: int
    why: str


def calling_not_recognized(why: str) -> Rejection:
    """Return the rejection of a caller that is not let in."""
    return Rejection(_PERMANENT, _SERVICE_USER, 3, why)


def not_identified(why: str) -> Rejection:
    """Return the rejection of a user who proves nothing (PS3.7 §D.3.3.7): no reason."""
    return Rejection(_PERMANENT, _SERVICE_PROVIDER_ACSE, 1, why)


def called_not_recognized(why: str) -> Rejection:
    """Return the rejection of a call for somebody else."""
    return Rejection(_PERMANENT, _SERVICE_USER, 7, why)


def context_not_supported(why: str) -> Rejection:
    """Return the rejection of an application context that is not DICOM's."""
    return Rejection(_PERMANENT, _SERVICE_USER, 2, why)


def too_narrow(why: str) -> Rejection:
    """Return the rejection of a peer that takes no PDU that anything fits into."""
    return Rejection(_PERMANENT, _SERVICE_PROVIDER_ACSE, 1, why)


def too_many(why: str) -> Rejection:
    """Return the rejection of one association more than is served at once."""
    return Rejection(_TRANSIENT, _SERVICE_PROVIDER_PRESENTATION, 2, why)


def unavailable(why: str) -> Rejection:
    """Return the rejection while the archive cannot tell who is known."""
    return Rejection(_TRANSIENT, _SERVICE_PROVIDER_PRESENTATION, 1, why)


class Admission:
    """Lets callers in, as far as that is not a matter of their request.

    Parameters
    ----------
    archive
        Knows the peers.
    presence
        How many associations there are; None: as many as there may be.
    """

    def __init__(self, archive: Archive, presence: Presence | None) -> None:
        self._archive = archive
        self._presence = presence

    def refusal(self, caller: Caller, tls_subject: TlsSubject | None) -> Rejection | None:
        """Return why a caller may not call, or not from where it does."""
        if caller.is_known:
            return calls_from_its_place(caller.peer, caller.remote, tls_subject)
        if not caller.peer.services:
            return calling_not_recognized(
                f"{caller.calling!r} is no peer, and [dimse] strangers are not let in"
            )
        return None

    def enter(self, caller: Caller) -> int | Rejection | None:
        """Return the slot that an association takes, if it needs one and there is one."""
        if self._presence is None:
            return None
        limit = caller.peer.max_associations
        slot = self._presence.enter(caller.calling, limit=limit)
        if slot is None:
            return too_many(
                f"max_associations: {self._archive.config.dimse.max_associations} in all, "
                f"{limit or 'any number'} of {caller.calling}"
            )
        return slot

    def leave(self, slot: int | None) -> None:
        """Give a slot back."""
        if slot is not None and self._presence is not None:
            self._presence.leave(slot)

    def at_once(self, agreement: Agreement, remote: str) -> tuple[Caller, int | None] | None:
        """Let a caller in who needs nothing looked up, in the index or in the network.

        Returns
        -------
        tuple or None
            The caller and its slot; None when it is refused, or that takes time to tell.
        """
        if not self._archive.peers.is_at_hand(agreement.calling):
            return None
        try:
            caller = Caller(
                self._archive, calling=agreement.calling, called=agreement.called, remote=remote
            )
        except ArchiveError:  # no longer at hand, and the index does not answer
            return None
        if caller.is_known and not _is_place_known(caller.peer):
            return None
        if self.refusal(caller, None) is not None:
            return None
        slot = self.enter(caller)
        return None if isinstance(slot, Rejection) else (caller, slot)


class AdmittingACSE(ACSE):
    """pynetdicom's association control, which asks our admission first."""

    def _negotiate_as_acceptor(self) -> None:
        association: Any = self.assoc  # a `dimse.association.ServedAssociation`
        request: Any = self.requestor.primitive
        self.requestor.ae_title = request.calling_ae_title
        try:
            rejection: Rejection | None = association.admit()
        except ArchiveError as error:
            rejection = unavailable(str(error))
        if rejection is None:
            if not association.agree_as_before():
                super()._negotiate_as_acceptor()
                association.remember_agreement()
            return
        association.rejection = rejection
        self.send_reject(rejection.result, rejection.source, rejection.reason)
        evt.trigger(self.assoc, evt.EVT_REJECTED, {})
        self.assoc.kill()

    def is_release_requested(self) -> bool:
        """Tell whether the peer wants to release, once what it sent before that is served."""
        messages_of: Any = self.assoc.dimse
        return not messages_of.has_waiting and bool(super().is_release_requested())

    def _check_user_identity(self) -> tuple[bool, UserIdentityNegotiation | None]:
        # Who did not prove it was rejected before. pynetdicom would not answer a passcode.
        item: Any = self.requestor.user_identity
        if not item.positive_response_requested:
            return True, None
        answer = UserIdentityNegotiation()
        answer.server_response = b""  # PS3.7 Table D.3-15: says no more than that it is there
        return True, answer


def calls_from_its_place(
    peer: Peer, remote: str, tls_subject: TlsSubject | None
) -> Rejection | None:
    """Check that a caller that names itself as ``peer`` is that peer.

    Parameters
    ----------
    remote
        The address it calls from.
    tls_subject
        Of the certificate it showed; None without one.
    """
    if peer.tls_subject and not (tls_subject and tls_subject.matches(peer.tls_subject)):
        shown = f"it showed {str(tls_subject)!r}" if tls_subject else "it showed none"
        return calling_not_recognized(
            f"peer {peer.ae_title} must show a certificate of {peer.tls_subject!r}; {shown}"
        )
    if peer.calls_from:
        if not any(_is_in(remote, network) for network in peer.calls_from):
            return calling_not_recognized(
                f"peer {peer.ae_title} may call from {', '.join(peer.calls_from)}, "
                f"not from {remote} (calls_from)"
            )
    elif peer.host and not peer.tls_subject and not _is_host(remote, peer.host):
        return calling_not_recognized(
            f"peer {peer.ae_title} lives at {peer.host}, not at {remote} "
            "(calls_from lets it call from elsewhere)"
        )
    return None


def _is_place_known(peer: Peer) -> bool:
    """Tell whether `calls_from_its_place` needs to ask nobody where the peer lives."""
    asks = peer.host and not peer.calls_from and not peer.tls_subject
    return not asks or _addresses.knows(peer.host)


def _is_in(remote: str, network: str) -> bool:
    if network == ANYWHERE:
        return True
    return _plain(remote) in ipaddress.ip_network(network, strict=False)


def _is_host(remote: str, host: str) -> bool:
    return _plain(remote) in _addresses.of(host)


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; an IPv4 one that came over an IPv6 socket as what it is."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


class _Addresses:
    """Addresses of hosts, looked up anew once a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, frozenset[Any]]] = {}

    def knows(self, host: str) -> bool:
        """Tell whether they need not be looked up."""
        at, _ = self._known.get(host, (float("-inf"), None))
        return time.monotonic() - at < _RESOLVED_S

    def of(self, host: str) -> frozenset[Any]:
        now = time.monotonic()
        with self._lock:
            at, known = self._known.get(host, (float("-inf"), frozenset()))
        if now - at < _RESOLVED_S:
            return known
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            known = frozenset(_plain(str(entry[4][0])) for entry in found)
        except OSError as error:
            logger.warning("peer.not-resolved", extra={"host": host, "reason": str(error)})
        with self._lock:
            self._known[host] = (now, known)
        return known


_addresses: Final = _Addresses()
