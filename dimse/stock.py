"""pynetdicom's own engine with our Storage SCP: what arrives never becomes its objects.

Its C-STORE primitive refuses commands that are answered here (an odd UID, no data set), and
holds the whole data set in memory. So the values of a C-STORE go where those of the direct
engine go; every other message is pynetdicom's.
"""

from typing import Any, Final

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from archive.errors import InvalidRequestError
from dimse import messages
from dimse.messages import COMMAND_FRAGMENT, LAST_FRAGMENT
from dimse.store import Reception

_LARGEST_COMMAND: Final = 64 * 1024
_INVALID_PDU: Final = "Evt19"


class Received:
    """A C-STORE whose data set has arrived, in the queue of messages.

    Parameters
    ----------
    reception
        Holds it.
    """

    is_valid_request: Final = True

    def __init__(self, reception: Reception) -> None:
        self.reception = reception


class StockMessages(DIMSEServiceProvider):
    """pynetdicom's message service, which hands C-STOREs over."""

    def __init__(self, assoc: Any) -> None:  # noqa: ANN401 - a `ServedAssociation`
        super().__init__(assoc)
        self._command = bytearray()
        self._reception: Reception | None = None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the values of one PDU, on the thread that reads the socket."""
        for context_id, value in primitive.presentation_data_value_list:
            try:
                self._take(context_id, value[0], value[1:])
            except InvalidRequestError:
                self.dul.event_queue.put(_INVALID_PDU)
                return

    def get_msg(self, block: bool = False) -> Any:  # noqa: ANN401 - its signature
        """Return the next message; when there is none, let the association do its own work.

        pynetdicom's reactor asks every millisecond.
        """
        found = super().get_msg(block)
        if not block and found == (None, None):
            association: Any = self.assoc
            association.reports.work()
        return found

    def discard(self) -> None:
        """Drop what was being received when the association ended."""
        if self._reception is not None:
            self._reception.discard()

    def _take(self, context_id: int, control: int, data: bytes) -> None:
        if control & COMMAND_FRAGMENT:
            self._command += data
            if len(self._command) > _LARGEST_COMMAND or self._reception is not None:
                raise InvalidRequestError("a command set where none can be, or too large")
            if control & LAST_FRAGMENT:
                raw, self._command = bytes(self._command), bytearray()
                self._take_command(context_id, raw)
        elif self._reception is None:
            self._hand_over(context_id, control, data)
        else:
            _fill(self._reception, data)
            if control & LAST_FRAGMENT:
                self._queue(context_id, self._reception)
                self._reception = None

    def _take_command(self, context_id: int, raw: bytes) -> None:
        command = messages.parse_command(raw)
        if messages.number(command, messages.COMMAND_FIELD) != messages.C_STORE_RQ:
            self._hand_over(context_id, COMMAND_FRAGMENT | LAST_FRAGMENT, raw)
            return
        association: Any = self.assoc
        reception: Reception | None = association.begin_store(context_id, command)
        if reception is None:
            raise InvalidRequestError(f"presentation context {context_id} was not accepted")
        if messages.has_data_set(command):
            self._reception = reception
        else:
            self._queue(context_id, reception)

    def _queue(self, context_id: int, reception: Reception) -> None:
        message: Any = Received(reception)
        self.msg_queue.put((context_id, message))

    def _hand_over(self, context_id: int, control: int, data: bytes) -> None:
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, bytes([control]) + data))
        super().receive_primitive(primitive)


def _fill(reception: Reception, data: bytes) -> None:
    taken = 0
    while taken < len(data):
        with reception.space(len(data) - taken) as space:
            count = len(space)
            space[:] = data[taken : taken + count]
        reception.advance(count)
        taken += count
