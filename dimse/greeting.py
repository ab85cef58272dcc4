"""Associations that only verify, answered where they are accepted: no thread, no objects.

A modality that asks whether the archive is there proposes Verification alone, the same bytes
each time; what follows is a C-ECHO, a release and the end. As long as all is as expected, it is
answered here, with the bytes that the association itself would answer (`dimse.agreements`).

Whatever else comes, or does not come in time, is the association's to deal with. It is given
all that was heard, and hears it anew; what was answered already it is not to say again
(`dimse.connection`). So there is one state machine, and nothing to keep in step with it.
"""

import socket
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from archive.errors import InvalidRequestError
from archive.log import get_logger
from dimse import messages
from dimse.admission import Admission
from dimse.agreements import Agreement, Agreements
from dimse.doors import Doors
from dimse.fragments import P_DATA_TF
from dimse.peers import Caller
from dimse.tls import Mode
from dimse.upper_layer import HEADER
from dimse.verification import C_ECHO_RQ, EchoRequest

logger = get_logger(__name__)

# For how long an association stays here, how much of what it said is kept, and how many are
# here at once; beyond that each has a thread.
_STAY_S: Final = 1.0
_MOST_HEARD: Final = 8192
_MOST_GUESTS: Final = 256
_LONGEST_ECHO: Final = 1024
_RELEASE_RQ: Final = 0x05
_RELEASE_RP: Final = b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00"


class Guest:
    """A connection that was accepted, and how far it is.

    Parameters
    ----------
    connection, address
        The connection, and from where.
    name
        Of its association.
    mode
        Whether its port takes TLS.

    Attributes
    ----------
    heard, said
        All that came; how many bytes of the answer went out.
    caller, slot
        Who is let in, and the place it takes (`dimse.presence`).
    """

    __slots__ = (
        "address", "agreement", "caller", "connection", "heard", "mode", "name", "released",
        "said", "since", "slot", "understood",
    )  # fmt: skip

    def __init__(
        self, connection: socket.socket, address: tuple[str, int], name: str, mode: Mode
    ) -> None:
        self.connection = connection
        self.address = address
        self.name = name
        self.mode: Mode = mode
        self.since = time.monotonic()
        self.heard = b""
        self.understood = 0
        self.said = 0
        self.agreement: Agreement | None = None
        self.caller: Caller | None = None
        self.slot: int | None = None
        self.released = False


class Greeter:
    """Serves guests until they want more than a C-ECHO.

    Parameters
    ----------
    doors
        Where it is waited for what they say.
    agreements, admission
        What is answered, and who is let in.
    hand_over
        Makes an association of a guest.
    """

    def __init__(
        self,
        doors: Doors,
        agreements: Agreements,
        admission: Admission,
        hand_over: Callable[[Guest], None],
    ) -> None:
        self._doors = doors
        self._agreements = agreements
        self._admission = admission
        self._hand_over = hand_over
        # By number of the connection, the oldest first.
        self._guests: dict[int, Guest] = {}

    @property
    def patience_s(self) -> float | None:
        """For how long nothing need be done; None: as long as nobody comes."""
        for guest in self._guests.values():
            return max(guest.since + _STAY_S - time.monotonic(), 0.0)
        return None

    def welcome(self, guest: Guest) -> None:
        """Begin to listen to a guest."""
        if len(self._guests) >= _MOST_GUESTS:
            self._hand_over(guest)
            return
        self._guests[guest.connection.fileno()] = guest
        self._doors.watch(guest.connection)

    def hear(self, number: int) -> None:
        """Hear what a guest says."""
        guest = self._guests.get(number)
        if guest is not None and not self._is_served(guest):
            self._pass_on(guest)

    def see_to(self) -> None:
        """Hand over who has been here for long."""
        for guest in self._overdue(time.monotonic() - _STAY_S):
            self._pass_on(guest)

    def close(self) -> None:
        """Hand over all."""
        for guest in self._overdue(float("inf")):
            self._pass_on(guest)

    def _overdue(self, before: float) -> list[Guest]:
        overdue = []
        for guest in self._guests.values():
            if guest.since > before:
                break
            overdue.append(guest)
        return overdue

    def _pass_on(self, guest: Guest) -> None:
        del self._guests[guest.connection.fileno()]
        self._doors.let_go(guest.connection)
        self._hand_over(guest)

    def _is_served(self, guest: Guest) -> bool:
        """Take what has come; False where the association must see to it."""
        try:
            data = guest.connection.recv(_MOST_HEARD, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return guest.released and self._farewell(guest)
        guest.heard += data
        if guest.released or len(guest.heard) > _MOST_HEARD:
            return False
        if guest.agreement is None:
            return self._is_admitted(guest)
        return self._is_answered(guest)

    def _is_admitted(self, guest: Guest) -> bool:
        agreement = self._agreements.find(guest.heard)
        if agreement is None or not agreement.only_verifies:
            return False
        admitted = self._admission.at_once(agreement, guest.address[0])
        if admitted is None:
            return False
        guest.agreement = agreement
        guest.caller, guest.slot = admitted
        guest.understood = len(guest.heard)
        logger.info(
            "association.accepted",
            extra=_named(guest, guest.caller)
            | {"contexts": len(agreement.accepted), "principal": guest.caller.principal.name},
        )
        return _say(guest, agreement.answer)

    def _is_answered(self, guest: Guest) -> bool:
        """Answer C-ECHOs, and a release; False for anything else."""
        while len(guest.heard) > guest.understood:
            rest = guest.heard[guest.understood :]
            if len(rest) < HEADER.size:
                break
            kind, length = HEADER.unpack_from(rest)
            end = HEADER.size + length
            if kind not in (P_DATA_TF, _RELEASE_RQ) or length > _LONGEST_ECHO:
                return False
            if len(rest) < end:
                break
            if kind == _RELEASE_RQ:
                guest.released = True
                return len(rest) == end == len(_RELEASE_RP) and _say(guest, _RELEASE_RP)
            answer = self._echo_answer(guest, rest[:end])
            if answer is None or not _say(guest, answer):
                return False
            guest.understood += end
        if len(guest.heard) > guest.understood:
            # Who sends a PDU in pieces may wait for our word before the next one.
            guest.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return True

    def _echo_answer(self, guest: Guest, pdu: bytes) -> bytes | None:
        agreement = guest.agreement
        answer = _answer(pdu, agreement.maximum_pdu) if agreement else None
        # Where the value's header is what it seems to be.
        return answer if answer and agreement and pdu[10] in agreement.accepted else None

    def _farewell(self, guest: Guest) -> bool:
        self._admission.leave(guest.slot)
        logger.info(
            "association.ended",
            extra=_named(guest, guest.caller) | {"released": True, "aborted": False},
        )
        del self._guests[guest.connection.fileno()]
        guest.connection.close()
        return True


def _say(guest: Guest, answer: bytes) -> bool:
    """Send; False if not all of it went out at once."""
    try:
        sent = guest.connection.send(answer, socket.MSG_DONTWAIT)
    except OSError:
        return False
    guest.said += sent
    return sent == len(answer)


def _named(guest: Guest, caller: Caller | None) -> dict[str, object]:
    return {
        "association": guest.name,
        "calling_ae_title": caller.calling if caller else "",
        "remote": guest.address[0],
    }


@lru_cache(maxsize=256)
def _answer(pdu: bytes, maximum_pdu: int) -> bytes | None:
    """Return what is answered to a P-DATA-TF PDU that is one C-ECHO-RQ; None if it is not."""
    found = messages.only_command(pdu)
    if found is None:
        return None
    context_id, raw = found
    try:
        command = messages.parse_command(raw)
    except InvalidRequestError:
        return None
    is_echo = messages.number(command, messages.COMMAND_FIELD) == C_ECHO_RQ
    if not is_echo or not EchoRequest.can_be(command):
        return None
    return messages.command_pdus(
        context_id, EchoRequest.of(command).answer(), maximum_pdu=maximum_pdu
    )
