"""The stock engine: pynetdicom's thread for the upper layer, with our limits."""

import time
from typing import Any, Final

from pynetdicom.pdu_primitives import A_P_ABORT, P_DATA

from dimse.fragments import NOT_SPECIFIED
from dimse.upper_layer import ESTABLISHED, MAY_SEND, Receiver, ServedUpperLayer

# What is to be sent and waits for the peer to take it: PDUs, or 1 MiB of them at once.
_MOST_QUEUED: Final = 16
_TURNS_OF_SENDING: Final = 8


class StockUpperLayer(ServedUpperLayer):
    """pynetdicom's thread for the upper layer, with our limits."""

    _turns = 0

    def run_reactor(self) -> None:
        """Drive; who waits for the peer's word learns at the end that there will be none."""
        try:
            super().run_reactor()
        finally:
            heard: Any = self.to_user_queue
            heard.put(None)  # the word that ends waiting

    def stop_dul(self) -> bool:
        """End the thread once the state machine is idle; abort what still goes on."""
        if self.state not in ("Sta1", "Sta2", "Sta13") and not self._stopping:
            self._stopping = True
            primitive = A_P_ABORT()
            primitive.provider_reason = NOT_SPECIFIED
            self.to_provider_queue.put(primitive)
        return bool(super().stop_dul())

    def send_pdu(self, primitive: Any) -> None:  # noqa: ANN401 - one of pynetdicom's primitives
        """Queue for sending; data wait while the peer does not take what is before them.

        Raises
        ------
        ConnectionResetError
            If data cannot be sent any more.
        """
        if isinstance(primitive, P_DATA):
            while self.to_provider_queue.qsize() >= _MOST_QUEUED and self.is_alive():
                time.sleep(self._run_loop_delay)
            if not self.is_alive() or self.state not in MAY_SEND:
                raise ConnectionResetError("the association has ended")
        super().send_pdu(primitive)

    def send_raw(self, data: bytes | memoryview) -> None:
        """Queue PDUs that are framed already."""
        self.send_pdu(_Framed(bytes(data)))

    def _process_recv_primitive(self) -> bool:
        # pynetdicom reads only while nothing is to be sent: a C-CANCEL would wait for the end
        # of what it is to stop.
        self._turns += 1
        if self._turns % _TURNS_OF_SENDING == 0 and self.socket and self.socket.ready:
            return False
        first = self.to_provider_queue.queue[0] if self.to_provider_queue.queue else None
        if not isinstance(first, _Framed):
            return bool(super()._process_recv_primitive())
        self.to_provider_queue.get_nowait()
        if self.state in MAY_SEND and self.socket is not None:
            self.socket.send(first.data)
        return True

    def _received(self, context_id: int, receiver: Receiver) -> None:
        # Not stored here: this thread is the one that sees aborts and cancels.
        messages_of: Any = self.assoc.dimse
        messages_of.queue_received(context_id, receiver)

    def _is_transport_event(self) -> bool:
        # In Sta13 pynetdicom closes as soon as nothing can be read: a peer that has not read
        # our last word yet would lose it. It is the peer's to close, until ARTIM runs out.
        messages_of: Any = self.assoc.dimse
        if self.state == ESTABLISHED and messages_of.is_full:
            return False
        if self.socket is not None and self.socket.ready:
            self._read_pdu_data()
            return True
        return False


class _Framed(P_DATA):
    """PDUs as they go out."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data
