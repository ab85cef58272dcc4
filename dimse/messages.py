"""Command sets and P-DATA as bytes, for the paths where pynetdicom's objects cost too much.

A command set is implicit little endian with group 0000 only (PS3.7 §6.3.1); a P-DATA-TF PDU
holds one or more presentation data values (PS3.8 §9.3.5, Annex E).
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from archive.errors import InvalidRequestError
from archive.identity import is_uid

Buffer = bytes | bytearray | memoryview

AFFECTED_SOP_CLASS_UID: Final = 0x0002
COMMAND_FIELD: Final = 0x0100
MESSAGE_ID: Final = 0x0110
MESSAGE_ID_RESPONDED_TO: Final = 0x0120
PRIORITY: Final = 0x0700
DATA_SET_TYPE: Final = 0x0800
STATUS: Final = 0x0900
OFFENDING_ELEMENT: Final = 0x0901
ERROR_COMMENT: Final = 0x0902
AFFECTED_SOP_INSTANCE_UID: Final = 0x1000
MOVE_ORIGINATOR_AE_TITLE: Final = 0x1030
MOVE_ORIGINATOR_MESSAGE_ID: Final = 0x1031

C_STORE_RQ: Final = 0x0001
C_STORE_RSP: Final = 0x8001
C_FIND_RSP: Final = 0x8020
C_CANCEL_RQ: Final = 0x0FFF
# Set in the command field of every response (PS3.7 §E.1).
RESPONSE: Final = 0x8000
NO_DATA_SET: Final = 0x0101
_DATA_SET: Final = 0x0001

COMMAND_FRAGMENT: Final = 0x01
LAST_FRAGMENT: Final = 0x02
_ELEMENT: Final = struct.Struct("<HHI")
_US: Final = struct.Struct("<HHIH")
# The four numbers of a C-STORE-RQ.
_OF_STORE: Final = struct.Struct("<" + 4 * "HHIH")
_GROUP_LENGTH: Final = struct.Struct("<HHII")
PDV_HEADER: Final = struct.Struct(">BxIIBB")
# PDU header, length and header of one value: what a PDU holds beyond its data.
PDV_OVERHEAD: Final = 6
# One value of two bytes: what is less can be told nothing.
NARROWEST_PDU: Final = PDV_OVERHEAD + 2
_LONGEST_COMMENT: Final = 64
# The longest PDU we take or send. More gains little, and "no limit" would let a peer make us
# allocate whatever it says.
MAXIMUM_PDU: Final = 131072
# UIDs are padded with NUL, all other text with a space (PS3.5 §6.2).
_UIDS: Final = frozenset({AFFECTED_SOP_CLASS_UID, 0x0003, AFFECTED_SOP_INSTANCE_UID, 0x1001})

Command = dict[int, bytes]
Value = int | str | Sequence[int]


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """A C-STORE-RSP: what pynetdicom makes of one costs a third of sending an instance.

    It stands in pynetdicom's queue of messages, and has what is asked of every one there.

    Parameters
    ----------
    MessageIDBeingRespondedTo, Status, ErrorComment
        As in the response (PS3.7 §9.3.1.2).
    """

    MessageIDBeingRespondedTo: int
    Status: int | None
    ErrorComment: str = ""
    is_valid_request: bool = False

    @staticmethod
    def can_be(command: Command) -> bool:
        """Tell whether a C-STORE-RSP says what it answers, and is whole without a data set."""
        return MESSAGE_ID_RESPONDED_TO in command and not has_data_set(command)

    @classmethod
    def of(cls, command: Command) -> Self:
        """Return what a command set answers."""
        status = number(command, STATUS) if STATUS in command else None
        return cls(
            number(command, MESSAGE_ID_RESPONDED_TO), status, text(command, ERROR_COMMENT)
        )


def parse_command(raw: bytes | bytearray) -> Command:
    """Read a command set into values by element number.

    The group length is not believed, unknown elements are kept, and a value of odd length is
    taken as it stands: what a peer's command is worth is for the service to say.

    Raises
    ------
    InvalidRequestError
        If it is no command set.
    """
    command: Command = {}
    position = 0
    while position + 8 <= len(raw):
        group, element, length = _ELEMENT.unpack_from(raw, position)
        end = position + 8 + length
        if group != 0 or end > len(raw):
            raise InvalidRequestError("a command set is malformed (PS3.7 §6.3.1)")
        command[element] = bytes(raw[position + 8 : end])
        position = end
    return command


def number(command: Command, element: int) -> int:
    """Return a US value; 0 when it is missing."""
    raw = command.get(element, b"")
    return int.from_bytes(raw[:2], "little")


def text(command: Command, element: int) -> str:
    """Return a UI, AE or LO value without padding; "" when it is missing."""
    return command.get(element, b"").decode("ascii", "replace").strip("\0 ")


def has_data_set(command: Command) -> bool:
    """Tell whether a data set follows (PS3.7 §E.1): any type but 0101."""
    return number(command, DATA_SET_TYPE) != NO_DATA_SET


def encode_command(elements: Iterable[tuple[int, Value]]) -> bytes:
    """Return a command set, its group length first.

    Parameters
    ----------
    elements
        Number and value: numbers are US, text is padded, a list is of tags (AT).
    """
    body = b"".join([_encoded(element, value) for element, value in elements])
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def _encoded(element: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _US.pack(0, element, 2, value)
    if isinstance(value, str):
        raw = value.encode("ascii", "replace")
        if len(raw) % 2:
            raw += b"\0" if element in _UIDS else b" "
    else:
        raw = b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in value)
    return _ELEMENT.pack(0, element, len(raw)) + raw


def error_comment(message: str) -> str:
    """Return ``message`` as an Error Comment can hold it (PS3.7 §C.5: LO, ASCII, 64)."""
    plain = message.encode("ascii", "replace").decode("ascii").replace("\\", "/")
    return "".join(c if c.isprintable() else " " for c in plain)[:_LONGEST_COMMENT].strip()


def store_response(
    command: Command, status: int, comment: str = "", offending: Sequence[int] = ()
) -> bytes:
    """Return the command set of a C-STORE-RSP (PS3.7 §9.3.1.2).

    Parameters
    ----------
    offending
        Tags of the elements that are to blame (PS3.7 §C.5).
    """
    elements: list[tuple[int, Value]] = [
        (AFFECTED_SOP_CLASS_UID, text(command, AFFECTED_SOP_CLASS_UID)),
        (COMMAND_FIELD, C_STORE_RSP),
        (MESSAGE_ID_RESPONDED_TO, number(command, MESSAGE_ID)),
        (DATA_SET_TYPE, NO_DATA_SET),
        (STATUS, status),
        (OFFENDING_ELEMENT, offending),
        (ERROR_COMMENT, error_comment(comment)),
        (AFFECTED_SOP_INSTANCE_UID, text(command, AFFECTED_SOP_INSTANCE_UID)),
    ]
    return encode_command(one for one in elements if _is_worth_sending(*one))


def _is_worth_sending(element: int, value: Value) -> bool:
    # What the request says is repeated (§9.1.1.1), but not what is no UID.
    if element in _UIDS:
        return isinstance(value, str) and is_uid(value)
    return isinstance(value, int) or len(value) > 0


def store_request(
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    message_id: int,
    priority: int = 0,
    originator: tuple[str, int] | None = None,
) -> bytes:
    """Return the command set of a C-STORE-RQ (PS3.7 §9.3.1.1).

    Parameters
    ----------
    originator
        AE title and message ID of the C-MOVE this is a sub-operation of.
    """
    body = (
        _class_element(sop_class_uid)
        + _OF_STORE.pack(
            *(0, COMMAND_FIELD, 2, C_STORE_RQ),
            *(0, MESSAGE_ID, 2, message_id),
            *(0, PRIORITY, 2, priority),
            *(0, DATA_SET_TYPE, 2, _DATA_SET),
        )
        + _encoded(AFFECTED_SOP_INSTANCE_UID, sop_instance_uid)
    )
    if originator is not None:
        body += _encoded(MOVE_ORIGINATOR_AE_TITLE, originator[0])
        body += _encoded(MOVE_ORIGINATOR_MESSAGE_ID, originator[1])
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


@lru_cache(maxsize=256)
def _class_element(sop_class_uid: str) -> bytes:
    return _encoded(AFFECTED_SOP_CLASS_UID, sop_class_uid)


def pdu(context_id: int, control: int, data: bytes | bytearray | memoryview) -> bytes:
    """Return a P-DATA-TF PDU with one presentation data value."""
    length = len(data) + 2
    return b"".join((PDV_HEADER.pack(4, length + 4, length, context_id, control), data))


def room(maximum_pdu: int) -> int:
    """Return how much of a message each PDU holds, with one value in it.

    Parameters
    ----------
    maximum_pdu
        What the peer takes; 0 for no limit.
    """
    # Fragments have an even length, but for the end of a data set that was received odd.
    return max((min(maximum_pdu, MAXIMUM_PDU) or MAXIMUM_PDU) - PDV_OVERHEAD, 2) & ~1


def only_command(pdu: bytes) -> tuple[int, bytes] | None:
    """Return what a whole P-DATA-TF PDU holds: a context ID and a command set.

    None unless that is all: one value, of a command, and its last fragment.
    """
    if len(pdu) < PDV_HEADER.size:
        return None
    _, length, size, context_id, control = PDV_HEADER.unpack_from(pdu)
    if size + 4 != length or control != COMMAND_FRAGMENT | LAST_FRAGMENT:
        return None
    return context_id, pdu[PDV_HEADER.size :]


def framed(
    context_id: int, data: Buffer, *, maximum_pdu: int, control: int = 0, last: bool = True
) -> bytes:
    """Return ``data`` as P-DATA-TF PDUs, none longer than the peer takes (PS3.8 §D.1).

    Parameters
    ----------
    maximum_pdu
        What the peer takes; 0 for no limit.
    control
        `COMMAND_FRAGMENT` for a command set.
    last
        Whether the message's command or data set ends with it (PS3.8 §E.2).
    """
    size = room(maximum_pdu)
    if len(data) <= size:
        return pdu(context_id, control | (LAST_FRAGMENT if last else 0), data)
    view = memoryview(data)
    pieces: list[Buffer] = []
    for start in range(0, len(view), size):
        piece = view[start : start + size]
        ends = LAST_FRAGMENT if last and start + size >= len(view) else 0
        length = len(piece) + 2
        pieces.append(PDV_HEADER.pack(4, length + 4, length, context_id, control | ends))
        pieces.append(piece)
    return b"".join(pieces)


def command_pdus(context_id: int, command_set: bytes, *, maximum_pdu: int) -> bytes:
    """Return the PDUs of a whole command set, one for every peer but the narrowest."""
    return framed(context_id, command_set, maximum_pdu=maximum_pdu, control=COMMAND_FRAGMENT)


def iter_pdus(context_id: int, chunks: Iterable[bytes], *, maximum_pdu: int) -> Iterator[bytes]:
    """Yield the P-DATA-TF PDUs of one data set, those of a chunk together.

    Parameters
    ----------
    maximum_pdu
        What the peer takes; 0 for no limit.
    """
    held = b""
    for chunk in chunks:
        if len(held) % 2:
            # What was made of pieces of any length: only the last fragment may be odd.
            chunk, held = held[-1:] + chunk, held[:-1]  # noqa: PLW2901
        if held:
            yield framed(context_id, held, maximum_pdu=maximum_pdu, last=False)
        held = chunk
    yield framed(context_id, held, maximum_pdu=maximum_pdu)
