"""C-FIND, C-GET and C-MOVE requests (PS3.7 §9.3.2 to §9.3.4), without pynetdicom's objects.

Those are a data set, a message and a primitive for each request, 0.4 ms of CPU. What is not
whole, or odd, goes to pynetdicom all the same, and has whatever comes of it.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from archive.identity import is_uid
from dimse import messages
from dimse.messages import Command
from dimse.verification import C_ECHO_RQ, EchoRequest

_C_FIND_RQ: Final = 0x0020
_C_GET_RQ: Final = 0x0010
_C_MOVE_RQ: Final = 0x0021
_MOVE_DESTINATION: Final = 0x0600
_NEEDED: Final = frozenset(
    {messages.MESSAGE_ID, messages.AFFECTED_SOP_CLASS_UID, messages.PRIORITY}
)
_LONGEST_TITLE: Final = 16


@dataclass(slots=True)
class QueryRequest:
    """A request with an identifier, in the queue of requests, with what is asked of all there.

    Parameters
    ----------
    MessageID, AffectedSOPClassUID, Priority
        As in the command set.
    Identifier
        Its data set, as it came.
    """

    MessageID: int
    AffectedSOPClassUID: str
    Priority: int
    Identifier: bytes = b""
    is_valid_request: bool = True
    MessageIDBeingRespondedTo: None = None
    # The command field.
    field: ClassVar[int]


class FindRequest(QueryRequest):
    """A C-FIND-RQ."""

    field = _C_FIND_RQ


class GetRequest(QueryRequest):
    """A C-GET-RQ."""

    field = _C_GET_RQ


class MoveRequest(QueryRequest):
    """A C-MOVE-RQ."""

    field = _C_MOVE_RQ
    # The AE title of whom to send to.
    MoveDestination: str = ""


_KINDS: Final[dict[int, type[QueryRequest]]] = {
    kind.field: kind for kind in (FindRequest, GetRequest, MoveRequest)
}


def request_of(kind: int, command: Command) -> QueryRequest | EchoRequest | None:
    """Return the request of a command set, to which an identifier may still be missing.

    None if it is none of these, or not as it must be.
    """
    if kind == C_ECHO_RQ:
        return EchoRequest.of(command) if EchoRequest.can_be(command) else None
    of_kind = _KINDS.get(kind)
    if of_kind is None or not command.keys() >= _NEEDED or not messages.has_data_set(command):
        return None
    sop_class_uid = messages.text(command, messages.AFFECTED_SOP_CLASS_UID)
    if not is_uid(sop_class_uid):
        return None
    request = of_kind(
        messages.number(command, messages.MESSAGE_ID),
        sop_class_uid,
        messages.number(command, messages.PRIORITY),
    )
    if isinstance(request, MoveRequest):
        title = messages.text(command, _MOVE_DESTINATION)
        if (
            not 0 < len(title) <= _LONGEST_TITLE
            or not title.isascii()
            or not title.isprintable()
        ):
            return None
        request.MoveDestination = title
    return request


def refusal(request: QueryRequest, status: int, comment: str) -> bytes:
    """Return the command set of a response that only says why there is no other."""
    return messages.encode_command(
        [
            (messages.AFFECTED_SOP_CLASS_UID, request.AffectedSOPClassUID),
            (messages.COMMAND_FIELD, request.field | messages.RESPONSE),
            (messages.MESSAGE_ID_RESPONDED_TO, request.MessageID),
            (messages.DATA_SET_TYPE, messages.NO_DATA_SET),
            (messages.STATUS, status),
            (messages.ERROR_COMMENT, messages.error_comment(comment)),
        ]
    )
