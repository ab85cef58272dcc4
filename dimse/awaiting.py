"""Waiting for the answer to a message we sent, whatever else the peer says meanwhile."""

import queue
import time
from typing import Any, Final, TypeGuard

from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.pdu_primitives import A_ABORT, A_P_ABORT, A_RELEASE

from archive.log import get_logger
from dimse.direct_layer import DirectUpperLayer
from dimse.messages import StoreAnswer

logger = get_logger(__name__)
_SLICE_S: Final = 0.5


class PeerLeavesError(ConnectionAbortedError):
    """The peer asks for the release of the association before its request was served."""


class Answers:
    """The answers to C-STORE requests on one association.

    A request that the peer sends meanwhile waits for its turn (`dimse.message_service`), and a
    C-CANCEL is set aside there.

    Parameters
    ----------
    association
        pynetdicom's, of either engine and either mode.
    """

    def __init__(self, association: Any) -> None:  # noqa: ANN401 - pynetdicom's
        self._association = association
        # What an association that we accepted has reported, and is answered at any moment.
        self._reports = getattr(association, "reports", None)

    def wait(self, message_id: int) -> StoreAnswer:
        """Return the answer to a C-STORE request.

        Raises
        ------
        OSError
            If the peer does not answer in time, or ends the association.
        """
        timeout_s = self._association.dimse_timeout or float("inf")
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            message = self._next(min(left, _SLICE_S))
            if message is None:
                self.require_peer()
            elif _answers(message, message_id):
                return message
            elif isinstance(message, N_EVENT_REPORT) and self._reports is not None:
                self._reports.answered(message)
            else:
                logger.warning(
                    "answer.unexpected",
                    extra={"expected": message_id, "got": message.MessageIDBeingRespondedTo},
                )
        raise TimeoutError(f"no answer to a C-STORE within {timeout_s:g} s")

    def _next(self, timeout_s: float) -> Any:  # noqa: ANN401 - a primitive
        """Return the next answer; None when none comes within ``timeout_s``."""
        arrived = self._association.dimse.msg_queue
        layer = self._association.dul
        try:
            if isinstance(layer, DirectUpperLayer):
                if arrived.empty() and (answer := layer.next_store_answer(timeout_s)):
                    return answer
                layer.pump_until(
                    lambda: not arrived.empty() or layer.peek_next_pdu() is not None, timeout_s
                )
                return arrived.get_nowait()[1]
            return arrived.get(timeout=timeout_s)[1]
        except queue.Empty:
            return None

    def require_peer(self) -> None:
        """Raise OSError when the peer will not answer any more."""
        said = self._association.dul.peek_next_pdu()
        if isinstance(said, A_ABORT):
            raise ConnectionAbortedError("the peer has aborted the association")
        if isinstance(said, A_RELEASE):
            raise PeerLeavesError("the peer releases the association before it was served")
        if isinstance(said, A_P_ABORT) or not self._association.dul.is_alive():
            raise ConnectionResetError("the connection is lost")


def _answers(message: Any, message_id: int) -> TypeGuard[StoreAnswer]:  # noqa: ANN401
    answers = isinstance(message, StoreAnswer)
    return answers and message.MessageIDBeingRespondedTo == message_id
