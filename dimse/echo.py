"""Verification SCU (PS3.4 Annex A): whether a peer is there and answers."""

import time
from dataclasses import asdict, dataclass

from pynetdicom.presentation import build_context

from archive.assembly import Archive
from archive.config import Peer
from archive.errors import PeerError
from dimse.contexts import VERIFICATION
from dimse.outgoing import connect


@dataclass(frozen=True, slots=True)
class EchoAnswer:
    """What a peer answered, and what it says of itself.

    Parameters
    ----------
    connected_ms, answered_ms
        Milliseconds until the association stood, and from then until the answer.
    implementation_class_uid, implementation_version_name
        Its program (PS3.7 §D.3.3.2).
    maximum_pdu
        The longest PDU it takes, in bytes; 0 for no limit.
    """

    connected_ms: float
    answered_ms: float
    implementation_class_uid: str
    implementation_version_name: str
    maximum_pdu: int

    def as_dict(self) -> dict[str, object]:
        """Return it for a report in JSON."""
        return asdict(self)

    def __str__(self) -> str:
        program = self.implementation_version_name or self.implementation_class_uid
        return (
            f"association in {self.connected_ms:.0f} ms, C-ECHO in {self.answered_ms:.0f} ms, "
            f"{program or 'a program that gives no name'}, maximum PDU "
            f"{self.maximum_pdu or 'without limit'}"
        )


def echo(archive: Archive, peer: Peer) -> EchoAnswer:
    """Ask a peer for a C-ECHO (PS3.7 §9.1.5).

    Raises
    ------
    PeerError
        If it does not answer as it should; its text is the diagnosis.
    """
    began = time.monotonic()
    with connect(archive, peer, [build_context(VERIFICATION)]) as outgoing:
        connected = time.monotonic()
        answer = outgoing.association.send_c_echo()
        answered = time.monotonic()
        acceptor = outgoing.association.acceptor
        if "Status" not in answer:
            raise PeerError(
                f"{peer.ae_title} at {peer.host}:{peer.port} accepted an association but did "
                "not answer a C-ECHO; look at its log"
            )
        if answer.Status != 0:
            raise PeerError(
                f"{peer.ae_title} at {peer.host}:{peer.port} answered a C-ECHO with status "
                f"{answer.Status:04X}"
            )
    return EchoAnswer(
        connected_ms=(connected - began) * 1000,
        answered_ms=(answered - connected) * 1000,
        implementation_class_uid=str(acceptor.implementation_class_uid or ""),
        implementation_version_name=str(acceptor.implementation_version_name or ""),
        maximum_pdu=int(acceptor.maximum_length or 0),
    )
