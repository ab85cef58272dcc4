"""The upper layer without a thread of its own: the direct engine (PS3.8 §9).

pynetdicom runs two threads for each association, which poll every millisecond and copy each
PDU about five times: 3 ms of CPU for a CT instance. Here the association's own thread reads
the socket, pynetdicom's state machine still decides, and the data of a C-STORE goes from the
socket into the instance's buffer: an eighth of the CPU, and no waiting.
"""

import contextlib
import select
import socket
import struct
import time
from typing import Any, Final, Protocol

from pynetdicom import evt
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import _PDU_TYPES
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE, P_DATA

from archive.errors import InvalidRequestError
from archive.log import get_logger
from dimse import messages
from dimse.messages import COMMAND_FRAGMENT, LAST_FRAGMENT, Command
from dimse.proposal import TolerantDecoding

logger = get_logger(__name__)

# What is read ahead at most: a PDU's header and its first value's, which is also less than the
# smallest PDU and the one behind it together, so reading never waits for what need not come.
_HEADERS: Final = 12
_LARGEST_PDU: Final = 16 * 1024**2
_LARGEST_OTHER_PDU: Final = 1024**2
_LARGEST_COMMAND: Final = 64 * 1024
_LARGEST_IDENTIFIER: Final = 4 * 1024**2
_CLOSING_S: Final = 5.0
_P_DATA_TF: Final = 0x04

_CLOSED: Final = "Evt17"
_INVALID_PDU: Final = "Evt19"


class Receiver(Protocol):
    """What takes the data set of a C-STORE."""

    def space(self, wanted: int) -> memoryview:
        """Return where to put up to ``wanted`` bytes."""

    def advance(self, count: int) -> None:
        """Take over ``count`` bytes."""

    def finish(self) -> bytes:
        """Store; return the response's command set."""

    def discard(self) -> None:
        """Leave nothing behind."""


class _InvalidPDUError(Exception):
    """The peer sent what PS3.8 does not allow."""


class DirectUpperLayer(TolerantDecoding):
    """pynetdicom's upper layer service, driven by whoever waits for something.

    Parameters
    ----------
    assoc
        The association; its ``begin_store`` gives a `Receiver` for each C-STORE-RQ.
    """

    def __init__(self, assoc: Any) -> None:  # noqa: ANN401 - pynetdicom's Association
        super().__init__(assoc)
        self._ahead = bytearray()
        self._command = bytearray()
        self._receiver: Receiver | None = None
        self._identifier_bytes = 0
        self._closing_since: float | None = None

    # -- what pynetdicom calls -------------------------------------------------------------

    def start(self) -> None:
        """Begin; there is no thread to start."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()  # noqa: SLF001 - what the thread would have done

    def is_alive(self) -> bool:
        """Tell whether this layer still serves its association."""
        return not self._kill_thread

    def stop_dul(self) -> bool:
        """End, once the state machine is idle, or the peer takes too long over it."""
        if self._closing_since is None:
            self._closing_since = time.monotonic()
        late = time.monotonic() - self._closing_since > _CLOSING_S
        if self.state_machine.current_state == "Sta1" or late:
            self._kill_thread = True
            self.discard()
            return True
        self.pump(0.05)
        return False

    def send_pdu(self, primitive: Any) -> None:  # noqa: ANN401 - one of pynetdicom's primitives
        """Send at once."""
        if isinstance(primitive, A_ASSOCIATE | A_RELEASE | A_ABORT | A_P_ABORT):
            evt.trigger(self.assoc, evt.EVT_ACSE_SENT, {"primitive": primitive})
        self.to_provider_queue.put(primitive)
        self._turn()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:  # noqa: ANN401 - its signature
        """Return what the peer's association service said, if anything."""
        end = None if timeout is None else time.monotonic() + timeout
        while wait and self.to_user_queue.empty() and self.is_alive():
            left = 1.0 if end is None else end - time.monotonic()
            if left <= 0:
                break
            self.pump(min(left, 1.0))
        return super().receive_pdu(wait=False)

    # -- driving ---------------------------------------------------------------------------

    def pump(self, timeout_s: float) -> None:
        """Do what is due, or wait up to ``timeout_s`` for one PDU and take it in."""
        self._turn()
        if self._kill_thread:
            return
        if self.artim_timer.expired:
            self.event_queue.put("Evt18")
        elif self.state_machine.current_state == "Sta13" and not self._readable(timeout_s):
            if self.socket is not None:
                self.socket.close()
        elif self._readable(timeout_s):
            self._read_pdu_data()
            self._idle_timer.restart()
        self._turn()

    @property
    def is_receiving(self) -> bool:
        """Whether part of a message has come, or waits to be read."""
        return bool(self._receiver or self._command) or self._readable(0)

    def discard(self) -> None:
        """Drop an instance that was being received when the association ended."""
        if self._receiver is not None:
            self._receiver.discard()
            self._receiver = None

    def send_raw(self, data: bytes) -> None:
        """Write PDUs that are already framed.

        Raises
        ------
        OSError
            If the connection is gone.
        """
        connection = self._connection()
        connection.sendall(data)

    def _turn(self) -> None:
        """Let the state machine act on everything that has queued."""
        while not self._kill_thread:
            if not self.event_queue.empty():
                event = self.event_queue.get_nowait()
                try:
                    self.state_machine.do_action(event)
                except InvalidEventError:
                    self._give_up(event)
            elif not self._process_recv_primitive():
                return

    def _give_up(self, event: str) -> None:
        state = self.state_machine.current_state
        if event == _CLOSED or state in ("Sta1", "Sta13"):
            # The connection ended in a state that has no word for it: it has ended.
            self._kill_thread = state == "Sta1" or self.socket is None
            return
        logger.warning("association.out-of-order", extra={"state": state, "fsm_event": event})
        self.assoc.is_aborted = True
        self.assoc.is_established = False
        self.assoc._kill = True  # noqa: SLF001 - as pynetdicom's own reactor does
        self._kill_thread = True

    def _readable(self, timeout_s: float) -> bool:
        if self._ahead:
            return True
        if self.socket is None or self.socket.socket is None:
            return False
        try:
            ready, _, _ = select.select([self.socket.socket], [], [], timeout_s)
        except (OSError, ValueError):
            self.event_queue.put(_CLOSED)
            return False
        return bool(ready)

    # -- reading ---------------------------------------------------------------------------

    def _connection(self) -> socket.socket:
        if self.socket is None or self.socket.socket is None:
            raise ConnectionResetError("the connection is closed")
        connection: socket.socket = self.socket.socket
        return connection

    def _read_pdu_data(self) -> None:
        """Read one PDU; data of a C-STORE never becomes a PDU object."""
        try:
            kind, length = struct.unpack(">BxI", self._exactly(6))
            if kind == _P_DATA_TF and self.state_machine.current_state == "Sta6":
                self._read_p_data(length)
            else:
                self._read_other(kind, length)
        except (OSError, EOFError):
            self.discard()
            self.event_queue.put(_CLOSED)
        except (_InvalidPDUError, InvalidRequestError) as error:
            logger.warning("association.invalid-pdu", extra={"reason": str(error)})
            self.discard()
            self.event_queue.put(_INVALID_PDU)

    def _read_other(self, kind: int, length: int) -> None:
        if bytes([kind]) not in _PDU_TYPES or length > _LARGEST_OTHER_PDU:
            raise _InvalidPDUError(f"PDU type {kind} of {length} bytes")
        raw = bytearray(struct.pack(">BxI", kind, length)) + self._exactly(length)
        try:
            pdu, event = self._decode_pdu(raw)
        except Exception as error:
            raise _InvalidPDUError(f"PDU type {kind} cannot be decoded") from error
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _exactly(self, count: int) -> bytes:
        """Return ``count`` bytes, those read ahead first."""
        while len(self._ahead) < count:
            wanted = max(count, _HEADERS) - len(self._ahead)
            data = self._receive(min(wanted, 65536) if count > _HEADERS else wanted)
            self._ahead += data
        taken = bytes(self._ahead[:count])
        del self._ahead[:count]
        return taken

    def _receive(self, count: int) -> bytes:
        connection = self._connection()
        data = connection.recv(count)
        self._acknowledge(connection)
        if not data:
            raise EOFError
        return data

    def _acknowledge(self, connection: socket.socket) -> None:
        # DCMTK's senders leave Nagle's algorithm on: the end of each message waits for our
        # acknowledgement, which the kernel delays by 40 ms unless told each time not to.
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _read_p_data(self, length: int) -> None:
        if length > _LARGEST_PDU:
            raise _InvalidPDUError(f"a P-DATA-TF PDU of {length} bytes")
        while length > 0:
            if length < 6:
                raise _InvalidPDUError("a P-DATA-TF PDU ends inside a value's header")
            size, context_id, control = struct.unpack(">IBB", self._exactly(6))
            if size < 2 or size + 4 > length:
                raise _InvalidPDUError(
                    f"a presentation data value of {size} bytes does not fit"
                )
            self._read_value(context_id, control, size - 2)
            length -= size + 4

    def _read_value(self, context_id: int, control: int, size: int) -> None:
        if control & COMMAND_FRAGMENT:
            if len(self._command) + size > _LARGEST_COMMAND or self._receiver is not None:
                raise _InvalidPDUError("a command set where none can be, or too large")
            self._command += self._exactly(size)
            if control & LAST_FRAGMENT:
                raw, self._command = bytes(self._command), bytearray()
                self._take_command(context_id, raw)
        elif self._receiver is not None:
            self._fill(self._receiver, size)
            if control & LAST_FRAGMENT:
                receiver, self._receiver = self._receiver, None
                self._answer(context_id, receiver)
        else:
            self._identifier_bytes += size
            if self._identifier_bytes > _LARGEST_IDENTIFIER:
                raise _InvalidPDUError("an identifier is too large")
            self._hand_over(context_id, control, self._exactly(size))

    def _take_command(self, context_id: int, raw: bytes) -> None:
        command = messages.parse_command(raw)
        self._identifier_bytes = 0
        if messages.number(command, messages.COMMAND_FIELD) != messages.C_STORE_RQ:
            self._hand_over(context_id, COMMAND_FRAGMENT | LAST_FRAGMENT, raw)
            return
        receiver = self._begin_store(context_id, command)
        if messages.has_data_set(command):
            self._receiver = receiver
        else:
            self._answer(context_id, receiver)

    def _begin_store(self, context_id: int, command: Command) -> Receiver:
        association: Any = self.assoc  # a `dimse.association.ServedAssociation`
        receiver: Receiver | None = association.begin_store(context_id, command)
        if receiver is None:
            raise _InvalidPDUError(f"presentation context {context_id} was not accepted")
        return receiver

    def _hand_over(self, context_id: int, control: int, data: bytes) -> None:
        """Give a value to pynetdicom, which makes a message of it."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, bytes([control]) + data))
        self.assoc.dimse.receive_primitive(primitive)

    def _fill(self, receiver: Receiver, size: int) -> None:
        connection = self._connection()
        while size:
            space = receiver.space(size)
            try:
                count = self._from_ahead(space) or connection.recv_into(space)
            finally:
                space.release()
            if not count:
                raise EOFError
            self._acknowledge(connection)
            receiver.advance(count)
            size -= count

    def _from_ahead(self, space: memoryview) -> int:
        count = min(len(self._ahead), len(space))
        if count:
            space[:count] = self._ahead[:count]
            del self._ahead[:count]
        return count

    def _answer(self, context_id: int, receiver: Receiver) -> None:
        association: Any = self.assoc
        association.answer_store(context_id, receiver)


class DirectMessages(DIMSEServiceProvider):
    """pynetdicom's message service over the direct upper layer."""

    def get_msg(self, block: bool = False) -> Any:  # noqa: ANN401 - its signature
        """Return the next message; wait for it up to the DIMSE timeout if asked."""
        timeout = self.dimse_timeout
        end = None if timeout is None else time.monotonic() + timeout
        while block and self.msg_queue.empty() and self.dul.is_alive():
            left = 1.0 if end is None else end - time.monotonic()
            if left <= 0 or self.assoc.acse.is_aborted():
                break
            layer: Any = self.dul
            layer.pump(min(left, 1.0))
        return super().get_msg(block=False)
