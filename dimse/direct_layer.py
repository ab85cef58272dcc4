"""The direct engine: an upper layer without a thread, driven by whoever waits for something."""

import time
from collections.abc import Callable
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE

from archive.errors import InvalidRequestError
from dimse import messages
from dimse.agreements import Agreement, Agreements
from dimse.connection import Connection
from dimse.fragments import NOT_SPECIFIED, P_DATA_TF, ProtocolError, check_header
from dimse.messages import Command, StoreAnswer
from dimse.requests import QueryRequest, request_of
from dimse.upper_layer import ESTABLISHED, HEADER, MAY_SEND, Receiver, ServedUpperLayer
from dimse.verification import EchoRequest

# A state that its own clock ends is looked at as often as this.
_LONGEST_WAIT_S: Final = 60.0
_ASSOCIATE_RQ: Final = 0x01
_LONGEST_ANSWER: Final = 1024


class DirectUpperLayer(ServedUpperLayer):
    """pynetdicom's upper layer service in the association's own thread.

    Parameters
    ----------
    assoc
        The association; its ``begin_store`` gives a `Receiver` for each C-STORE-RQ.
    """

    def __init__(self, assoc: Any) -> None:  # noqa: ANN401 - pynetdicom's Association
        super().__init__(assoc)
        # The request as it came, what was agreed upon it before, and what was answered now.
        self.request = b""
        self.agreement: Agreement | None = None
        self.answered = b""
        # Nothing lay behind the answer that was taken in this moment: no use to look.
        self._has_just_read = False

    # -- what pynetdicom calls -------------------------------------------------------------

    def start(self) -> None:
        """Begin; there is no thread to start."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()  # noqa: SLF001 - what the thread would have done

    def is_alive(self) -> bool:
        """Tell whether this layer still serves its association."""
        return not self._kill_thread

    def stop_dul(self) -> bool:
        """End: once the peer has closed the connection, or ARTIM has run out (Sta13)."""
        if self.socket is None or self.socket.socket is None:
            self._turn()
            self._kill_thread = True
        elif self.state == "Sta2":
            self.socket.close()
        elif self.state not in ("Sta1", "Sta13"):
            primitive = A_P_ABORT()
            primitive.provider_reason = self._reason = NOT_SPECIFIED
            self.to_provider_queue.put(primitive)
        self.pump(_LONGEST_WAIT_S)
        if self.state == "Sta1":
            self._kill_thread = True
        if self._kill_thread:
            self.discard()
        return self._kill_thread

    def send_pdu(self, primitive: Any) -> None:  # noqa: ANN401 - one of pynetdicom's primitives
        """Send at once; from another thread: as soon as this association's looks up."""
        if isinstance(primitive, A_ASSOCIATE | A_RELEASE | A_ABORT | A_P_ABORT):
            evt.trigger(self.assoc, evt.EVT_ACSE_SENT, {"primitive": primitive})
        self.to_provider_queue.put(primitive)
        # Who asks for an association uses it from any one thread; it has none of its own.
        association: Any = self.assoc
        if association.is_requestor or association.runs_here:
            self._turn()
        elif isinstance(self.socket, Connection):
            self.socket.wake()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:  # noqa: ANN401 - its signature
        """Return what the peer's association service said, if anything."""
        if wait:
            self.pump_until(lambda: not self.to_user_queue.empty(), timeout)
        return super().receive_pdu(wait=False)

    def _decode_pdu(self, bytestream: bytearray) -> Any:  # noqa: ANN401 - its signature
        agreements: Agreements | None = getattr(self.assoc, "agreements", None)
        if bytestream[0] == _ASSOCIATE_RQ and agreements is not None:
            self.request = bytes(bytestream)
            self.agreement = agreements.find(self.request)
            if self.agreement is not None:
                return self.agreement, "Evt6"
        return super()._decode_pdu(bytestream)

    def _send(self, pdu: Any) -> None:  # noqa: ANN401 - one of pynetdicom's PDUs
        if isinstance(pdu, A_ASSOCIATE_AC):
            self.answered = pdu.encode()
        super()._send(pdu)

    def accept(self, answer: bytes) -> None:
        """Accept the association with a PDU that is framed already (AE-7)."""
        self.connection.send(answer)
        self.state_machine.transition(ESTABLISHED)
        self._turn()

    # -- driving ---------------------------------------------------------------------------

    def pump(self, timeout_s: float) -> None:
        """Do what is due, or wait up to ``timeout_s`` for one PDU and take it in."""
        self._turn()
        if self._kill_thread or self.socket is None:
            return
        arrived = self._arrives(min(timeout_s, _LONGEST_WAIT_S))
        if self.to_provider_queue.queue:
            pass  # another thread has woken this one up: to say something first
        elif self.artim_timer.expired:
            self.event_queue.put("Evt18")
        elif arrived:
            self._read_pdu_data()
            self.active()
        self._turn()

    def pump_until(self, come: Callable[[], bool], timeout_s: float | None) -> None:
        """Drive until something has come, the association has ended, or it takes too long."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while self.is_alive() and not come():
            left = _LONGEST_WAIT_S if end is None else end - time.monotonic()
            if left <= 0:
                return
            self.pump(left)

    def next_store_answer(self, timeout_s: float) -> StoreAnswer | None:
        """Wait for a C-STORE-RSP, if nothing else is to be seen to, and take it.

        None where it is not the next that comes, in one value: then `pump` has its turn. It
        would come to the same, by way of the state machine and of two queues.
        """
        if self.state != ESTABLISHED or self._is_busy():
            return None
        connection = self.connection
        pdu = connection.wait_for_whole(
            P_DATA_TF, _LONGEST_ANSWER, time.monotonic() + min(timeout_s, _LONGEST_WAIT_S)
        )
        if pdu is None or self._is_busy():
            return None
        answer = self._store_answer(pdu)
        if answer is not None:
            connection.pass_over(len(pdu))
            self.active()
            self._has_just_read = not connection.has_more
        return answer

    def _is_busy(self) -> bool:
        return bool(
            self._fragments.under_way
            or not self._in_step
            or self._kill_thread
            or self.event_queue.queue
            or self.to_provider_queue.queue
            or self.to_user_queue.queue
            or self.artim_timer.running
        )

    def _store_answer(self, pdu: bytes) -> StoreAnswer | None:
        found = messages.only_command(pdu)
        if found is None or found[0] not in self.assoc._accepted_cx:  # noqa: SLF001 - by ID
            return None
        try:
            command = messages.parse_command(found[1])
        except InvalidRequestError:
            return None
        is_answer = messages.number(command, messages.COMMAND_FIELD) == messages.C_STORE_RSP
        is_whole = messages.DATA_SET_TYPE in command and StoreAnswer.can_be(command)
        return StoreAnswer.of(command) if is_answer and is_whole else None

    def poll(self) -> None:
        """Take in every PDU that is there and whole; wait for none."""
        if self._has_just_read or not self.has_news:
            self._has_just_read = False
            return
        messages_of: Any = self.assoc.dimse
        while not self._kill_thread and not messages_of.is_full and self._is_whole():
            self._read_pdu_data()
            self.active()
            self._turn()

    @property
    def has_news(self) -> bool:
        """Whether there may be something to read, or to do."""
        connection = self.socket
        if not isinstance(connection, Connection) or connection.socket is None:
            return True
        return self._is_busy() or connection.has_news

    @property
    def is_receiving(self) -> bool:
        """Whether a message has begun to come, or something waits to be read."""
        return super().is_receiving or self.connection.look(1)

    def send_raw(self, data: bytes | memoryview) -> None:
        """Write PDUs that are framed already."""
        if self.state not in MAY_SEND:
            raise ConnectionResetError("the association has ended")
        try:
            self.connection.write(data)
        except OSError:
            self.event_queue.put("Evt17")  # half a PDU may be out: nothing can follow it
            self._turn()
            raise

    def _turn(self) -> None:
        """Let the state machine act on everything that has queued."""
        while not self._kill_thread:
            if self._process_recv_primitive():
                # What is said here goes before what was heard: an abort before the end.
                event = self.event_queue.queue.pop()
            elif not self.event_queue.queue:
                return
            else:
                event = self.event_queue.get_nowait()
            self.state_machine.do_action(event)
            if self.state != ESTABLISHED:
                self.discard()

    def _arrives(self, timeout_s: float) -> bool:
        if self.artim_timer.running:
            timeout_s = min(timeout_s, self.artim_timer.remaining)
        connection = self.socket
        if not isinstance(connection, Connection) or connection.socket is None:
            return False
        return connection.wait(time.monotonic() + timeout_s)

    def _is_whole(self) -> bool:
        connection = self.socket
        if not isinstance(connection, Connection) or connection.socket is None:
            return False
        if not connection.look(HEADER.size):
            return False
        header = connection.peek(HEADER.size)
        if len(header) < HEADER.size or not self._in_step:
            return True  # the connection has ended
        kind, length = HEADER.unpack(header)
        try:
            check_header(kind, length)
        except ProtocolError:
            return True
        return connection.look(HEADER.size + length)

    def _plain_request(
        self, _kind: int, _command: Command
    ) -> QueryRequest | EchoRequest | None:
        return request_of(_kind, _command)

    def _received(self, context_id: int, receiver: Receiver) -> None:
        association: Any = self.assoc
        association.answer_store(context_id, receiver)
