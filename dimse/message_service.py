"""DIMSE messages of a served association: requests in order, answers to whom they are for."""

import queue
from collections.abc import Iterator
from typing import Any, Final

from pynetdicom.dimse import _RQ_TO_MESSAGE, _RSP_TO_MESSAGE, DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL

from dimse import messages
from dimse.fragments import MessageError
from dimse.messages import MAXIMUM_PDU

# Requests that may wait for their turn: the window of operations is 1 (PS3.7 §D.3.3.3), so
# whoever sends more ahead has not listened, and is not read until some are served. On the stock
# engine each may be an instance in memory.
_MOST_WAITING: Final = 4
_MOST_CANCELLED: Final = 16


class ServedMessages(DIMSEServiceProvider):
    """pynetdicom's message service, in which one operation is served at a time.

    pynetdicom has one queue for all that comes: a request that is sent before the answer to the
    one before it would be taken for an answer, or lost. Here requests wait for their turn, and
    who serves one gets the answers to what it asks, as a C-GET does.
    """

    def __init__(self, assoc: Any) -> None:  # noqa: ANN401 - pynetdicom's Association
        super().__init__(assoc)
        self._requests: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self.serving = False

    @property
    def is_full(self) -> bool:
        """Whether no more should be read before something is served."""
        return self._requests.qsize() >= _MOST_WAITING

    @property
    def has_waiting(self) -> bool:
        """Whether a message has come that nobody has taken yet."""
        return not (self._requests.empty() and self.msg_queue.empty())

    @property
    def maximum_pdu_size(self) -> int:
        """The longest PDU to be sent: as the peer takes it, or ours when it takes any."""
        announced = int(super().maximum_pdu_size or MAXIMUM_PDU)
        return announced & ~1

    def receive_primitive(self, primitive: Any) -> None:  # noqa: ANN401 - a P_DATA of one value
        """Take one presentation data value.

        Raises
        ------
        MessageError
            If the message it ends cannot be understood.
        """
        message = self.message = self.message or DIMSEMessage()
        try:
            if not message.decode_msg(primitive, self.assoc):
                return
            received: Any = message.message_to_primitive()
        except Exception as error:
            raise MessageError(f"a message that cannot be decoded: {error}") from error
        self.message = None
        context_id = int(message.context_id or 0)
        if isinstance(received, C_CANCEL):
            self._cancel(int(received.MessageIDBeingRespondedTo or 0))
        elif type(message).__name__.endswith("_RQ"):
            received.MessageIDBeingRespondedTo = None
            self.queue_request(context_id, received)
        elif received.MessageIDBeingRespondedTo is None:
            raise MessageError("an answer that does not say what it answers")
        else:
            self.msg_queue.put((context_id, received))

    def get_msg(self, block: bool = False) -> Any:  # noqa: ANN401 - its signature
        """Return the next request; while one is served, the next answer."""
        if not self.serving and not self._requests.empty():
            return self._requests.get()
        return super().get_msg(block)

    def served(self, message_id: int | None) -> None:
        """Forget whether a request that is served now was cancelled."""
        if message_id is not None:
            self.cancel_req.pop(message_id, None)

    def queue_request(self, context_id: int, request: Any) -> None:  # noqa: ANN401
        """Let a request wait for its turn."""
        # An older request of the same ID may have been cancelled; this one was not.
        self.cancel_req.pop(request.MessageID, None)
        self._requests.put((context_id, request))

    def drain_requests(self) -> Iterator[Any]:
        """Yield, and forget, what still waits."""
        while not self._requests.empty():
            yield self._requests.get()[1]

    def discard(self) -> None:
        """Leave nothing behind when the association has ended."""

    def _cancel(self, message_id: int) -> None:
        while len(self.cancel_req) >= _MOST_CANCELLED:
            self.cancel_req.pop(next(iter(self.cancel_req)))
        self.cancel_req[message_id] = C_CANCEL()


class DirectMessages(ServedMessages):
    """The same over the direct engine: waiting is driving it."""

    def get_msg(self, block: bool = False) -> Any:  # noqa: ANN401 - its signature
        """Return the next message; wait for it up to the DIMSE timeout if asked."""
        layer: Any = self.dul
        if block:
            layer.pump_until(
                lambda: not self.msg_queue.empty() or self.assoc.acse.is_aborted(),
                self.dimse_timeout,
            )
        return super().get_msg(block=False)

    def send_msg(self, primitive: Any, context_id: int) -> None:  # noqa: ANN401 - a primitive
        """Send a message at once, with one write."""
        is_request = primitive.MessageIDBeingRespondedTo is None
        kinds: Any = _RQ_TO_MESSAGE if is_request else _RSP_TO_MESSAGE
        message = kinds[type(primitive)]()
        message.primitive_to_message(primitive)
        layer: Any = self.dul
        layer.send_raw(
            b"".join(
                messages.pdu(context_id, value[0], value[1:])
                for fragment in message.encode_msg(context_id, self.maximum_pdu_size)
                for _, value in fragment.presentation_data_value_list
            )
        )
