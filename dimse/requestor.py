"""An association this archive asks for, on either engine, without a thread of its own."""

import contextlib
import socket
import ssl
import time
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import T_CONNECT, AddressInformation

from archive.config import Config, Peer
from archive.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from archive.errors import PeerError
from dimse.connection import Connection
from dimse.dialing import place
from dimse.direct_layer import DirectUpperLayer
from dimse.message_service import DirectMessages, ServedMessages
from dimse.messages import MAXIMUM_PDU
from dimse.stock_layer import StockUpperLayer
from dimse.upper_layer import ServedUpperLayer

_TRANSIENT: Final = 2
# What an A-ASSOCIATE-RJ says, by source and reason (PS3.8 Table 9-21).
_REASONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title {calling!r} not recognized: it must know this archive",
    (1, 7): "called AE title {called!r} not recognized: it has another name",
    (2, 1): "no reason given (ACSE)",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded: it has too many associations",
}


class Requestor(Association):
    """pynetdicom's association as the one who asks for it.

    Its reactor never runs: whoever uses the association waits for what the peer says.

    Parameters
    ----------
    config
        The settings: our AE title, timeouts, engine.
    peer
        Who is asked.
    connection
        Connected, and secured where it must be.
    """

    def __init__(self, config: Config, peer: Peer, connection: socket.socket) -> None:
        settings = config.dimse
        super().__init__(ApplicationEntity(settings.ae_title), "requestor")
        direct = settings.engine == "direct"
        self.dul: ServedUpperLayer = DirectUpperLayer(self) if direct else StockUpperLayer(self)
        self.dimse: ServedMessages = DirectMessages(self) if direct else ServedMessages(self)
        self.dimse.serving = True  # what comes are answers
        self.peer = peer
        self.connection = connection
        self._is_paused = True
        self.acse_timeout = settings.association_timeout_s
        self.dimse_timeout = settings.network_timeout_s
        self.network_timeout = settings.network_timeout_s
        self.set_socket(_Connected(self, connection, timeout_s=settings.network_timeout_s))
        self.acceptor.ae_title = peer.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(connection.getpeername())
        self.requestor.address_info = AddressInformation.from_tuple(connection.getsockname())
        self.requestor.ae_title = settings.ae_title
        self.requestor.maximum_length = MAXIMUM_PDU
        self.requestor.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self.requestor.implementation_version_name = IMPLEMENTATION_VERSION_NAME

    def begin_store(self, _context_id: int, _command: object) -> None:
        """Take no instances here: this archive is the one who sends."""
        return

    def negotiate(self, contexts: list[PresentationContext], items: list[Any]) -> None:
        """Propose contexts and roles, and wait for the answer (PS3.8 §7.1.1).

        Raises
        ------
        PeerError
            If there is no association, or none of the contexts was accepted.
        """
        # Negotiation writes into them.
        fresh = [build_context(str(c.abstract_syntax), [*c.transfer_syntax]) for c in contexts]
        for number, context in enumerate(fresh):
            context.context_id = 2 * number + 1
        self.requestor.requested_contexts = fresh
        for item in items:
            self.requestor.add_negotiation_item(item)
        asked = time.monotonic()
        self.request()
        if not self.is_established:
            raise self._refusal(time.monotonic() - asked)

    def is_usable(self) -> bool:
        """Tell whether the peer has neither ended the association nor asked to."""
        layer = self.dul
        if isinstance(layer, DirectUpperLayer) and layer.is_alive() and layer.has_news:
            layer.pump(0)
        return self.is_established and layer.is_alive() and layer.peek_next_pdu() is None

    def leave(self) -> None:
        """Release the association, or confirm that the peer does."""
        if self.is_usable():
            self.release()
        elif self.is_established and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)

    def close(self) -> None:
        """Leave no socket and no thread behind."""
        self.dul.kill_dul()
        with contextlib.suppress(OSError):
            self.connection.close()

    def _refusal(self, waited_s: float) -> PeerError:
        answer = self.acceptor.primitive
        if self.is_rejected and isinstance(answer, A_ASSOCIATE):
            return PeerError(
                f"{place(self.peer)} rejects the association{self._reason(answer)}",
                transient=answer.result == _TRANSIENT,
            )
        if isinstance(answer, A_ASSOCIATE) and answer.result == 0:
            proposed = {str(c.abstract_syntax) for c in self.requestor.requested_contexts}
            return PeerError(
                f"{place(self.peer)} accepts none of the presentation contexts proposed "
                f"(for {', '.join(sorted(proposed))})",
                unaccepted=True,
            )
        # pynetdicom says the same of a peer that is silent and of one that has hung up already.
        if self._sent_abort and waited_s >= (self.acse_timeout or 0):
            return PeerError(
                f"{place(self.peer)} does not answer the association request within "
                f"{self.acse_timeout:g} s; does it speak DICOM on this port?"
            )
        return hung_up(self.peer, self.connection)

    def _reason(self, answer: A_ASSOCIATE) -> str:
        known = _REASONS.get((answer.result_source or 0, answer.diagnostic or 0), "")
        lasting = ", for now" if answer.result == _TRANSIENT else ""
        said = known.format(calling=self.requestor.ae_title, called=self.peer.ae_title)
        codes = (
            f"result {answer.result}, source {answer.result_source}, reason {answer.diagnostic}"
        )
        return f"{lasting}: {said or 'a reason of its own'} ({codes})"


def hung_up(peer: Peer, connection: socket.socket) -> PeerError:
    """Return what to say of a peer that ends the connection instead of answering."""
    if isinstance(connection, ssl.SSLSocket):
        # With TLS 1.3 it refuses our certificate only after the handshake, as we see it.
        return PeerError(
            f"{place(peer)} aborts or closes when asked for an association over TLS; "
            "does it take our certificate (tls_certificate), and speak DICOM on this port?"
        )
    return PeerError(
        f"{place(peer)} aborts or closes when asked for an association; "
        "does it speak DICOM on this port, and without TLS?"
    )


class _Connected(Connection):
    """A connection that is there already, where pynetdicom would make one."""

    def __init__(
        self, association: Association, connected: socket.socket, *, timeout_s: float
    ) -> None:
        super().__init__(association, connected, timeout_s=timeout_s)
        # It takes us for the one who was called: "transport connection indication".
        self.event_queue.get_nowait()

    def connect(self, primitive: T_CONNECT) -> None:
        """Confirm the connection (PS3.8 §9.2.2, AE-1 to AE-2)."""
        primitive.result = "Evt2"
        self.provider_queue.put(primitive)
