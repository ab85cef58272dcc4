"""The upper layer of a served association, to the letter of PS3.8 §9, on either engine.

pynetdicom's state machine decides what follows; what is read, how far, and how long that may
take, is decided here, for both engines. The stock engine is pynetdicom's: two threads for each
association, which poll every millisecond (`dimse.stock_layer`). The direct engine has no thread
of its own: the association's reads the socket, and the data of a C-STORE goes from the socket
into the instance's buffer: an eighth of the CPU, and no waiting (`dimse.direct_layer`).
"""

import contextlib
import struct
import time
from typing import Any, Final, Protocol

from pynetdicom.fsm import TRANSITION_TABLE, StateMachine
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_ABORT, P_DATA
from pynetdicom.timer import Timer

from archive.log import get_logger
from dimse import messages
from dimse.connection import Connection
from dimse.fragments import (
    NOT_SPECIFIED,
    P_DATA_TF,
    UNEXPECTED_PDU,
    Fragments,
    MessageError,
    ProtocolError,
    check_header,
)
from dimse.messages import COMMAND_FRAGMENT, LAST_FRAGMENT, Command
from dimse.proposal import TolerantDecoding
from dimse.requests import QueryRequest
from dimse.verification import EchoRequest

logger = get_logger(__name__)

ESTABLISHED: Final = "Sta6"
# States in which a P-DATA request may be sent (PS3.8 Table 9-10, Evt9).
MAY_SEND: Final = ("Sta6", "Sta8")
_PROVIDER: Final = 2
_SERVICE_USER: Final = 0
HEADER: Final = struct.Struct(">BxI")
_VALUE: Final = struct.Struct(">IBB")
_CLOSED: Final = "Evt17"
_INVALID_PDU: Final = "Evt19"
# What the state machine takes from the queue of primitives when it acts on them.
_OF_PRIMITIVES: Final = ("Evt1", "Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15")


class Receiver(Protocol):
    """What takes the data set of a C-STORE: a `dimse.store.Reception`."""

    def space(self, wanted: int) -> memoryview:
        """Return where to put up to ``wanted`` bytes."""

    def advance(self, count: int) -> None:
        """Take over ``count`` bytes."""

    def finish(self) -> bytes:
        """Store; return the response's command set."""

    def discard(self) -> None:
        """Leave nothing behind."""


class SteadyTimer(Timer):
    """A timer that no change of the machine's clock expires, nor one that was stopped."""

    def start(self) -> None:
        """Begin anew."""
        self._start_time = time.monotonic()

    def stop(self) -> None:
        """Run no longer: never expire."""
        self._start_time = None

    @property
    def running(self) -> bool:
        """Whether it can expire."""
        return self._start_time is not None and self.timeout is not None

    @property
    def remaining(self) -> float:
        """Seconds left; of a timer that does not run, all of them."""
        if self.timeout is None or self._start_time is None:
            return self.timeout or 1
        return self.timeout - (time.monotonic() - self._start_time)


class _StateMachine(StateMachine):
    """pynetdicom's state machine, which ends nothing but its own association."""

    def do_action(self, event: str) -> None:
        """Act; what Table 9-10 leaves blank, or cannot be acted on, is no crash."""
        layer: Any = self.dul
        if (event, self.current_state) not in TRANSITION_TABLE:
            layer.out_of_order(event)
            return
        try:
            super().do_action(event)
        except Exception:
            logger.exception(
                "association.action-failed",
                extra={"state": self.current_state, "fsm_event": event},
            )
            layer.action_failed(event)


class ServedUpperLayer(TolerantDecoding):
    """What both engines have in common: reading, limits, deadlines, reasons of aborts.

    Parameters
    ----------
    assoc
        A `dimse.association.ServedAssociation`.
    """

    def __init__(self, assoc: Any) -> None:  # noqa: ANN401 - pynetdicom's Association
        super().__init__(assoc)
        self.artim_timer: SteadyTimer = SteadyTimer(30)
        self._idle_timer: SteadyTimer = SteadyTimer(60)
        self.state_machine = _StateMachine(self)
        self._fragments = Fragments(lambda: assoc._accepted_cx)  # noqa: SLF001 - by ID
        self._in_step = True
        self._stopping = False
        self._reason = UNEXPECTED_PDU
        self._receiver: Receiver | None = None
        self._identified: tuple[QueryRequest, bytearray] | None = None

    @property
    def connection(self) -> Connection:
        """The connection.

        Raises
        ------
        ConnectionResetError
            If it has been closed.
        """
        wrapped = self.socket
        if not isinstance(wrapped, Connection) or wrapped.socket is None:
            raise ConnectionResetError("the connection is closed")
        return wrapped

    @property
    def state(self) -> str:
        """The state of PS3.8 §9.2.1."""
        return str(self.state_machine.current_state)

    def idle_timer_expired(self) -> bool:
        """Tell whether nothing has come for too long: less long within a message."""
        return self.patience_s() <= 0

    def patience_s(self) -> float:
        """Return how long from now the peer may still be silent."""
        idle = self._idle_timer.timeout
        if idle is None:
            return float("inf")
        silent = idle - self._idle_timer.remaining
        return (self.connection_timeout_s if self._fragments.under_way else idle) - silent

    @property
    def connection_timeout_s(self) -> float:
        """Seconds within which a PDU that has begun must be whole."""
        return self.socket.timeout_s if isinstance(self.socket, Connection) else 60.0

    @property
    def is_receiving(self) -> bool:
        """Whether a message has begun to come."""
        return self._fragments.under_way

    def active(self) -> None:
        """Count silence from now: something was received, served or sent."""
        self._idle_timer.restart()

    def send_raw(self, data: bytes | memoryview) -> None:
        """Send PDUs that are framed already; their memory may be used again afterwards.

        Raises
        ------
        OSError
            If the association has ended, or the peer does not take them in time.
        """
        raise NotImplementedError

    def peek_next_pdu(self) -> Any:  # noqa: ANN401 - its signature
        """Return what the peer's association service said, and leave it."""
        said = self.to_user_queue.queue
        return said[0] if said else None

    def _process_recv_primitive(self) -> bool:
        # Asked many times a message, and hardly ever is there one.
        return bool(self.to_provider_queue.queue) and super()._process_recv_primitive()

    # -- the state machine -----------------------------------------------------------------

    def out_of_order(self, event: str) -> None:
        """Leave out an event that the state has no word for (a blank of PS3.8 Table 9-10)."""
        if event in _OF_PRIMITIVES:
            # Said too late, as an answer to a peer that has aborted meanwhile.
            with contextlib.suppress(Exception):
                self.to_provider_queue.get_nowait()
        if event == _CLOSED and self.state == "Sta1":
            self._kill_thread = True

    def action_failed(self, event: str) -> None:
        """Abort after a PDU whose content could not be understood; or give up."""
        if event == _INVALID_PDU or self.state in ("Sta1", "Sta13"):
            self._kill_thread = True
            return
        self._kill_thread = False
        self._invalid(ProtocolError(f"the state machine failed at {event}"))

    def _send(self, pdu: Any) -> None:  # noqa: ANN401 - one of pynetdicom's PDUs
        if isinstance(pdu, A_ABORT_RQ) and pdu.source == _PROVIDER:
            # pynetdicom's actions give no reason; AA-7 and AA-8 have one (Table 9-26).
            pdu.reason_diagnostic = self._reason
        super()._send(pdu)

    # -- reading ---------------------------------------------------------------------------

    def _read_pdu_data(self) -> None:
        """Read one PDU, within the time it may take."""
        try:
            if not self._in_step:
                self.connection.drop()
                return
            self._read_pdu(self._end())
        except EOFError:
            self.event_queue.put(_CLOSED)
        except TimeoutError:
            self._invalid(ProtocolError("a PDU did not get whole in time", NOT_SPECIFIED))
        except OSError:
            self.event_queue.put(_CLOSED)
        except ProtocolError as error:
            self._invalid(error)
        except MessageError as error:
            self._senseless(error)

    def _end(self) -> float:
        """Return until when a PDU must be whole that begins now."""
        allowed = self.connection_timeout_s
        if self.artim_timer.running:
            allowed = min(allowed, self.artim_timer.remaining)
        return time.monotonic() + allowed

    def _read_pdu(self, end: float) -> None:
        kind, length = HEADER.unpack(self.connection.take(6, end))
        check_header(kind, length)
        if kind != P_DATA_TF:
            self._read_other(kind, length, end)
        elif self.state == ESTABLISHED:
            self._read_p_data(length, end)
        else:
            # After a release was requested what comes is not answered (AR-6); in all other
            # states it is ignored (Sta13) or a reason to abort: nobody asks what it was.
            self._skip(length, end)
            if self.state != "Sta7":
                self._reason = UNEXPECTED_PDU
                self.event_queue.put("Evt10")

    def _skip(self, length: int, end: float) -> None:
        while length:
            part = min(length, 65536)
            self.connection.take(part, end)
            length -= part

    def _read_other(self, kind: int, length: int, end: float) -> None:
        body = self.connection.take(length, end)
        try:
            pdu, event = self._decode_pdu(bytearray(HEADER.pack(kind, length) + body))
        except Exception as error:
            raise ProtocolError(f"PDU type {kind:02X} cannot be decoded") from error
        self._reason = UNEXPECTED_PDU
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _read_p_data(self, length: int, end: float) -> None:
        while length > 0:
            if length < _VALUE.size:
                raise ProtocolError("a P-DATA-TF PDU ends inside a value's header")
            size, context_id, control = _VALUE.unpack(self.connection.take(_VALUE.size, end))
            length -= size + 4
            if size < 2 or length < 0:
                raise ProtocolError(f"a presentation data value of {size} bytes does not fit")
            self._read_value(context_id, control, size - 2, end)

    def _read_value(self, context_id: int, control: int, size: int, end: float) -> None:
        of_command, last = bool(control & COMMAND_FRAGMENT), bool(control & LAST_FRAGMENT)
        fragments = self._fragments
        fragments.check(context_id, of_command=of_command, size=size)
        if of_command:
            data = self.connection.take(size, end)
            command = fragments.add_command(context_id, data, last=last)
            if command is not None:
                self._take_command(context_id, command, fragments.take_raw())
        else:
            fragments.add_data(size, last=last)
            self._take_data(context_id, size, end, last=last)

    def _take_command(self, context_id: int, command: Command, raw: bytes) -> None:
        kind = messages.number(command, messages.COMMAND_FIELD)
        messages_of: Any = self.assoc.dimse
        if kind == messages.C_STORE_RSP and messages.StoreAnswer.can_be(command):
            messages_of.msg_queue.put((context_id, messages.StoreAnswer.of(command)))
            return
        request = self._plain_request(kind, command)
        if isinstance(request, QueryRequest):
            self._identified = request, bytearray()
            return
        if request is not None:
            messages_of.queue_request(context_id, request)
            return
        if kind != messages.C_STORE_RQ:
            self._hand_over(context_id, COMMAND_FRAGMENT | LAST_FRAGMENT, raw)
            return
        association: Any = self.assoc
        receiver: Receiver | None = association.begin_store(context_id, command)
        if receiver is None:
            raise MessageError("a C-STORE-RQ where nothing is stored")
        if self._fragments.under_way:
            self._fragments.allow_any_length()
            self._receiver = receiver
        else:
            self._received(context_id, receiver)

    def _take_data(self, context_id: int, size: int, end: float, *, last: bool) -> None:
        receiver = self._receiver
        if receiver is None:
            self._take_identifier(context_id, self.connection.take(size, end), last=last)
            return
        self._fill(receiver, size, end)
        if last:
            self._receiver = None
            self._received(context_id, receiver)

    def _take_identifier(self, context_id: int, data: bytes, *, last: bool) -> None:
        if self._identified is None:
            self._hand_over(context_id, LAST_FRAGMENT if last else 0, data)
            return
        request, identifier = self._identified
        identifier += data
        if last:
            self._identified = None
            request.Identifier = bytes(identifier)
            messages_of: Any = self.assoc.dimse
            messages_of.queue_request(context_id, request)

    def _plain_request(
        self, _kind: int, _command: Command
    ) -> QueryRequest | EchoRequest | None:
        """Return a request that pynetdicom need not see; None where it shall."""
        return None

    def _fill(self, receiver: Receiver, size: int, end: float) -> None:
        connection = self.connection
        while size:
            with receiver.space(size) as space:
                count = connection.receive_into(space, end)
            receiver.advance(count)
            size -= count

    def _received(self, context_id: int, receiver: Receiver) -> None:
        """See to an instance that is whole: it is stored, and answered."""
        raise NotImplementedError

    def discard(self) -> None:
        """Drop an instance that was being received when the association ended."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.discard()

    def _hand_over(self, context_id: int, control: int, data: bytes) -> None:
        """Give a value to pynetdicom, which makes a message of it (DT-2)."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, bytes([control]) + data))
        self.assoc.dimse.receive_primitive(primitive)

    # -- aborting --------------------------------------------------------------------------

    def _invalid(self, error: ProtocolError) -> None:
        """Abort as the provider (Evt19)."""
        logger.warning(
            "association.invalid-pdu", extra={"state": self.state, "reason": str(error)}
        )
        self._in_step = False
        self._reason = error.reason
        self.event_queue.put(_INVALID_PDU)

    def _senseless(self, error: MessageError) -> None:
        """Abort as the service user: what came was a PDU, but no message."""
        logger.warning("association.invalid-message", extra={"reason": str(error)})
        self._in_step = False
        for queue in (self.to_provider_queue, self.to_user_queue):
            primitive = A_ABORT()
            primitive.abort_source = _SERVICE_USER
            queue.put(primitive)
