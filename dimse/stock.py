"""What the stock engine, pynetdicom's own, needs that the direct one does not.

Its thread that reads the socket puts an instance where the direct engine puts it; the
association's own thread stores and answers it. All other messages are pynetdicom's objects.
"""

from typing import Any, Final

from dimse.message_service import ServedMessages
from dimse.store import Reception


class Received:
    """A C-STORE whose data set has arrived, in the queue of requests.

    Parameters
    ----------
    reception
        Holds it.
    """

    is_valid_request: Final = True
    MessageID: Final = None
    MessageIDBeingRespondedTo: Final = None

    def __init__(self, reception: Reception) -> None:
        self.reception = reception


class StockMessages(ServedMessages):
    """The message service of the stock engine, whose reactor asks every millisecond."""

    def queue_received(self, context_id: int, reception: Reception) -> None:
        """Let an instance wait for its turn."""
        self.queue_request(context_id, Received(reception))

    def get_msg(self, block: bool = False) -> Any:  # noqa: ANN401 - its signature
        """Return the next message; when there is none, let the association do its own work."""
        found = super().get_msg(block)
        if not block and found == (None, None):
            association: Any = self.assoc
            association.reports.work()
        return found

    def discard(self) -> None:
        """Drop what was received and not stored when the association ended."""
        for request in self.drain_requests():
            if isinstance(request, Received):
                request.reception.discard()
