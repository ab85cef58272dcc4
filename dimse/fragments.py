"""What may come next on an association: limits and order of PDUs and their fragments.

One set of rules for both engines (PS3.8 §9.3, Annex D.1 and E; PS3.7 §6.3).
"""

from collections.abc import Callable, Container
from typing import Final

from archive.errors import InvalidRequestError
from dimse import messages
from dimse.messages import Command

# The announced maximum is of what follows the PDU's header. Implementations that read it as the
# length of the data alone send 6 bytes more (the header of the value), or 12 (the PDU's too).
# They lose nobody anything; whoever sends still more has not negotiated, a protocol error.
_MISCOUNTED: Final = 12

# 128 contexts of twenty transfer syntaxes are 200 KB; a user identity may be a long token.
_LONGEST_REQUEST: Final = 1024**2
# All other PDUs have four bytes; some implementations send a few more.
_LONGEST_OTHER: Final = 1024
_LONGEST_COMMAND: Final = 64 * 1024
_LONGEST_IDENTIFIER: Final = 4 * 1024**2

ASSOCIATE_RQ: Final = 0x01
ASSOCIATE_AC: Final = 0x02
P_DATA_TF: Final = 0x04
_LIMITS: Final = {
    ASSOCIATE_RQ: _LONGEST_REQUEST,
    ASSOCIATE_AC: _LONGEST_REQUEST,
    0x03: _LONGEST_OTHER,
    P_DATA_TF: messages.MAXIMUM_PDU + _MISCOUNTED,
    0x05: _LONGEST_OTHER,
    0x06: _LONGEST_OTHER,
    0x07: _LONGEST_OTHER,
}

# Why the provider aborts (PS3.8 Table 9-26).
NOT_SPECIFIED: Final = 0
UNRECOGNIZED_PDU: Final = 1
UNEXPECTED_PDU: Final = 2
UNEXPECTED_PARAMETER: Final = 5
INVALID_PARAMETER: Final = 6

_REQUESTS: Final = frozenset(
    {0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150}
)
_RESPONSE: Final = 0x8000
_KNOWN: Final = _REQUESTS | {one | _RESPONSE for one in _REQUESTS} | {messages.C_CANCEL_RQ}


class ProtocolError(Exception):
    """The peer broke the upper layer's protocol: the provider aborts.

    Parameters
    ----------
    why
        For the log.
    reason
        For the A-ABORT PDU (PS3.8 Table 9-26).
    """

    def __init__(self, why: str, reason: int = INVALID_PARAMETER) -> None:
        super().__init__(why)
        self.reason = reason


class MessageError(Exception):
    """A message makes no sense: its user aborts (PS3.8 §7.3)."""


def check_header(kind: int, length: int) -> None:
    """Check type and length of a PDU before anything of it is read.

    Raises
    ------
    ProtocolError
        If it is of no known type, or longer than it may be.
    """
    limit = _LIMITS.get(kind)
    if limit is None:
        raise ProtocolError(f"PDU type {kind:02X}", UNRECOGNIZED_PDU)
    if length > limit:
        raise ProtocolError(f"a PDU of type {kind:02X} and {length} bytes: {limit} at most")


class Fragments:
    """The message that is under way, of which fragments come in.

    Parameters
    ----------
    accepted
        Returns the presentation contexts that were accepted, by ID.
    """

    def __init__(self, accepted: Callable[[], Container[int]]) -> None:
        self._accepted = accepted
        self._context_id: int | None = None
        self._command = bytearray()
        self._data_is_due = False
        self._identifier_bytes = 0
        self._limit = _LONGEST_IDENTIFIER

    @property
    def under_way(self) -> bool:
        """Whether a message has begun and is not whole."""
        return self._context_id is not None

    def check(self, context_id: int, *, of_command: bool, size: int) -> None:
        """Check a fragment before its bytes are read.

        Raises
        ------
        ProtocolError
            If its context was not accepted, or it is not its message's turn: none may begin
            before the one before it is whole (PS3.8 Annex E).
        MessageError
            If a command set or an identifier gets too long.
        """
        if context_id not in self._accepted():
            raise ProtocolError(f"presentation context {context_id} was not accepted")
        if self._context_id is not None and context_id != self._context_id:
            raise ProtocolError(
                f"a fragment on context {context_id} within a message on {self._context_id}",
                UNEXPECTED_PARAMETER,
            )
        if of_command == self._data_is_due:
            was = "a command" if of_command else "data"
            raise ProtocolError(f"a fragment of {was} out of order", UNEXPECTED_PARAMETER)
        if of_command and len(self._command) + size > _LONGEST_COMMAND:
            raise MessageError(f"a command set of more than {_LONGEST_COMMAND} bytes")
        if not of_command and self._identifier_bytes + size > self._limit:
            raise MessageError(f"an identifier of more than {self._limit} bytes")

    def add_command(self, context_id: int, data: bytes, *, last: bool) -> Command | None:
        """Take a fragment of a command set; return it when it is whole.

        Raises
        ------
        MessageError
            If it is no command set, or of no known message.
        """
        self._context_id = context_id
        self._command += data
        if not last:
            return None
        command = _parsed(self._command)
        self._data_is_due = (
            messages.number(command, messages.DATA_SET_TYPE) != messages.NO_DATA_SET
        )
        if not self._data_is_due:
            self._context_id = None
        return command

    def take_raw(self) -> bytes:
        """Return the command set that was whole, as it came, and forget it."""
        raw, self._command = bytes(self._command), bytearray()
        self._identifier_bytes, self._limit = 0, _LONGEST_IDENTIFIER
        return raw

    def allow_any_length(self) -> None:
        """Expect an instance, not an identifier."""
        self._limit = 1 << 62

    def add_data(self, size: int, *, last: bool) -> None:
        """Count a fragment of data; the last one ends the message."""
        self._identifier_bytes += size
        if last:
            self._data_is_due = False
            self._context_id = None


def _parsed(raw: bytearray) -> Command:
    try:
        command = messages.parse_command(raw)
    except InvalidRequestError as error:
        raise MessageError(str(error)) from error
    field = messages.number(command, messages.COMMAND_FIELD)
    if messages.COMMAND_FIELD not in command or field not in _KNOWN:
        raise MessageError(f"a message of command field {field:04X}")
    if messages.DATA_SET_TYPE not in command:
        raise MessageError("a command set without Command Data Set Type (0000,0800)")
    return command
