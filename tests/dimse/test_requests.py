"""Requests are read as pynetdicom reads them, or left to it."""

import io

import pytest
from pynetdicom.dimse_messages import C_FIND_RQ, C_GET_RQ, C_MOVE_RQ
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE

from dimse import messages
from dimse.contexts import FIND_STUDY, GET_STUDY, MOVE_STUDY
from dimse.requests import FindRequest, GetRequest, MoveRequest, refusal, request_of

KINDS = {
    "C-FIND": (C_FIND, C_FIND_RQ, FIND_STUDY, FindRequest),
    "C-GET": (C_GET, C_GET_RQ, GET_STUDY, GetRequest),
    "C-MOVE": (C_MOVE, C_MOVE_RQ, MOVE_STUDY, MoveRequest),
}


def command_of(name: str) -> dict[int, bytes]:
    """The command set that pynetdicom sends for a request."""
    primitive, message, sop_class_uid, _ = KINDS[name]
    asked = primitive()
    asked.MessageID = 4711
    asked.AffectedSOPClassUID = sop_class_uid
    asked.Priority = 1
    asked.Identifier = io.BytesIO(b"")
    if name == "C-MOVE":
        asked.MoveDestination = "SINK"
    made = message()
    made.primitive_to_message(asked)
    (value, *_) = next(iter(made.encode_msg(1, 16384))).presentation_data_value_list
    return messages.parse_command(value[1][1:])


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_request_is_read(name):
    command = command_of(name)
    command[messages.DATA_SET_TYPE] = b"\x01\x00"  # pynetdicom says so once there is one
    request = request_of(messages.number(command, messages.COMMAND_FIELD), command)
    assert type(request) is KINDS[name][3]
    assert (request.MessageID, request.Priority) == (4711, 1)
    assert request.AffectedSOPClassUID == KINDS[name][2]
    assert getattr(request, "MoveDestination", "SINK") == "SINK"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("element", "value"),
    [
        (messages.DATA_SET_TYPE, b"\x01\x01"),
        (messages.AFFECTED_SOP_CLASS_UID, b"1.2.x "),
        (messages.AFFECTED_SOP_CLASS_UID, None),
        (messages.MESSAGE_ID, None),
        (messages.PRIORITY, None),
    ],
)
def test_what_is_not_whole_is_left_to_pynetdicom(name, element, value):
    command = command_of(name)
    command[messages.DATA_SET_TYPE] = b"\x01\x00"
    command.pop(element)
    if value is not None:
        command[element] = value
    assert request_of(messages.number(command, messages.COMMAND_FIELD), command) is None


@pytest.mark.parametrize("title", [b"", b"    ", b"A\nB ", b"SEVENTEEN LETTERS ", b"\xc4\xd6"])
def test_a_destination_that_is_no_title_is_left_to_pynetdicom(title):
    command = command_of("C-MOVE")
    command[messages.DATA_SET_TYPE] = b"\x01\x00"
    command[0x0600] = title
    assert request_of(messages.number(command, messages.COMMAND_FIELD), command) is None


def test_a_refusal_answers_its_request():
    asked = FindRequest(7, FIND_STUDY, 0)
    said = messages.parse_command(refusal(asked, 0x0124, "not here"))
    assert messages.number(said, messages.COMMAND_FIELD) == messages.C_FIND_RSP
    assert messages.number(said, messages.MESSAGE_ID_RESPONDED_TO) == 7
    assert messages.number(said, messages.STATUS) == 0x0124
    assert messages.text(said, messages.ERROR_COMMENT) == "not here"
