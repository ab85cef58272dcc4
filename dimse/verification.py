"""C-ECHO (PS3.7 §9.3.5), framed: pynetdicom's objects cost 1 ms for request and answer."""

from dataclasses import dataclass
from typing import Final, Self

from archive.identity import is_uid
from dimse import messages
from dimse.messages import Command

C_ECHO_RQ: Final = 0x0030
_C_ECHO_RSP: Final = 0x8030
_SUCCESS: Final = 0x0000


@dataclass(frozen=True, slots=True)
class EchoRequest:
    """A C-ECHO-RQ, in the queue of requests; it has what is asked of every one there.

    Parameters
    ----------
    MessageID, AffectedSOPClassUID
        As in the request.
    """

    MessageID: int
    AffectedSOPClassUID: str
    is_valid_request: bool = True
    MessageIDBeingRespondedTo: None = None

    @staticmethod
    def can_be(command: Command) -> bool:
        """Tell whether a command set of this kind has all it needs, and no data set."""
        return (
            messages.MESSAGE_ID in command
            and not messages.has_data_set(command)
            and is_uid(messages.text(command, messages.AFFECTED_SOP_CLASS_UID))
        )

    @classmethod
    def of(cls, command: Command) -> Self:
        """Return what a command set asks."""
        return cls(
            messages.number(command, messages.MESSAGE_ID),
            messages.text(command, messages.AFFECTED_SOP_CLASS_UID),
        )

    def answer(self) -> bytes:
        """Return the command set of the C-ECHO-RSP (§9.3.5.2)."""
        return messages.encode_command(
            [
                (messages.AFFECTED_SOP_CLASS_UID, self.AffectedSOPClassUID),
                (messages.COMMAND_FIELD, _C_ECHO_RSP),
                (messages.MESSAGE_ID_RESPONDED_TO, self.MessageID),
                (messages.DATA_SET_TYPE, messages.NO_DATA_SET),
                (messages.STATUS, _SUCCESS),
            ]
        )
