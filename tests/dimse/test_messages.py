"""Our command sets and PDUs against pynetdicom's encoder and decoder."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from archive.errors import InvalidRequestError
from dimse import messages
from dimse.messages import (
    COMMAND_FRAGMENT,
    LAST_FRAGMENT,
    command_pdus,
    encode_command,
    error_comment,
    iter_pdus,
    parse_command,
    pdu,
    store_request,
    store_response,
)

uids = st.from_regex(r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){1,6}", fullmatch=True).filter(
    lambda uid: len(uid) <= 64
)
words = st.integers(0, 65535)
ae_titles = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, blacklist_characters="\\"),
    min_size=1,
    max_size=16,
)


def values(encoded: bytes) -> list[tuple[int, int, bytes]]:
    """Every presentation data value of some PDUs: context, control and data."""
    found = []
    while encoded:
        kind, length = struct.unpack_from(">BxI", encoded)
        assert kind == 4
        whole, encoded = encoded[: 6 + length], encoded[6 + length :]
        decoded = P_DATA_TF()
        decoded.decode(whole)
        for item in decoded.presentation_data_value_items:
            control, data = item.presentation_data_value[0], item.presentation_data_value[1:]
            found.append((item.presentation_context_id, control, data))
    return found


def as_message(encoded: bytes) -> C_STORE:
    message = DIMSEMessage()
    for context_id, control, data in values(encoded):
        primitive = P_DATA()
        primitive.presentation_data_value_list = [[context_id, bytes([control]) + data]]
        message.decode_msg(primitive)
    return message.message_to_primitive()


@given(uids, uids, words, st.sampled_from([0, 1, 2]), st.none() | st.tuples(ae_titles, words))
def test_pynetdicom_reads_our_requests(sop_class, sop_instance, message_id, priority, mover):
    request = store_request(
        sop_class_uid=sop_class,
        sop_instance_uid=sop_instance,
        message_id=message_id,
        priority=priority,
        originator=mover,
    )
    read = as_message(
        command_pdus(5, request, maximum_pdu=16384)
        + b"".join(iter_pdus(5, [b"data"], maximum_pdu=16384))
    )
    assert (read.AffectedSOPClassUID, read.AffectedSOPInstanceUID) == (sop_class, sop_instance)
    assert (read.MessageID, read.Priority) == (message_id, priority)
    originator = (
        read.MoveOriginatorApplicationEntityTitle,
        read.MoveOriginatorMessageID,
    )
    assert originator == (mover or (None, None))
    assert read.DataSet.getvalue() == b"data"


@given(uids, uids, words, words, st.text(max_size=100), st.lists(st.integers(0, 2**32 - 1)))
def test_pynetdicom_reads_our_responses(
    sop_class, sop_instance, message_id, status, comment, tags
):
    command = {
        messages.AFFECTED_SOP_CLASS_UID: sop_class.encode(),
        messages.AFFECTED_SOP_INSTANCE_UID: sop_instance.encode() + b"\0",
        messages.MESSAGE_ID: struct.pack("<H", message_id),
    }
    encoded = store_response(command, status, comment, tags)
    read = as_message(command_pdus(1, encoded, maximum_pdu=0))
    assert (read.AffectedSOPClassUID, read.AffectedSOPInstanceUID) == (sop_class, sop_instance)
    assert (read.MessageIDBeingRespondedTo, read.Status) == (message_id, status)
    assert (read.ErrorComment or "") == error_comment(comment)
    offending = read.OffendingElement
    listed = [] if offending is None else offending if len(tags) > 1 else [offending]
    assert [int(tag) for tag in listed] == tags


@given(uids, uids, words, st.sampled_from([0, 1, 2]), ae_titles, words)
def test_we_read_what_pynetdicom_writes(
    sop_class, sop_instance, message_id, priority, mover, moved
):
    primitive = C_STORE()
    primitive.AffectedSOPClassUID = UID(sop_class)
    primitive.AffectedSOPInstanceUID = UID(sop_instance)
    primitive.MessageID = message_id
    primitive.Priority = priority
    primitive.MoveOriginatorApplicationEntityTitle = mover
    primitive.MoveOriginatorMessageID = moved
    primitive.DataSet = io.BytesIO(b"12")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    sent = [
        value for one in message.encode_msg(3, 64) for value in one.presentation_data_value_list
    ]
    raw = b"".join(data[1:] for _, data in sent if data[0] & COMMAND_FRAGMENT)
    command = parse_command(raw)
    assert messages.text(command, messages.AFFECTED_SOP_CLASS_UID) == sop_class
    assert messages.text(command, messages.AFFECTED_SOP_INSTANCE_UID) == sop_instance
    assert messages.number(command, messages.MESSAGE_ID) == message_id
    assert messages.number(command, messages.PRIORITY) == priority
    assert messages.text(command, messages.MOVE_ORIGINATOR_AE_TITLE) == mover
    assert messages.number(command, messages.MOVE_ORIGINATOR_MESSAGE_ID) == moved
    assert messages.has_data_set(command)


def test_a_response_is_the_bytes_that_pynetdicom_would_write():
    primitive = C_STORE()
    primitive.AffectedSOPClassUID = UID("1.2.3")
    primitive.AffectedSOPInstanceUID = UID("1.2.3.4")
    primitive.MessageIDBeingRespondedTo = 7
    primitive.Status = 0xA900
    primitive.OffendingElement = [0x0020000D, 0x00080018]
    primitive.ErrorComment = "Study Instance UID is missing"
    message = C_STORE_RSP()
    message.primitive_to_message(primitive)
    theirs = b"".join(
        data[1:]
        for one in message.encode_msg(1, 0)
        for _, data in one.presentation_data_value_list
    )
    command = {0x0002: b"1.2.3\0", 0x1000: b"1.2.3.4\0", 0x0110: b"\x07\x00"}
    comment = "Study Instance UID is missing"
    assert store_response(command, 0xA900, comment, (0x0020000D, 0x00080018)) == theirs


@given(
    st.lists(st.binary(max_size=300)),
    st.integers(0, 200) | st.just(2**32 - 1),
    st.sampled_from([1, 3, 255]),
)
def test_fragments_are_even_fit_the_peer_and_are_the_data_again(
    chunks, maximum_pdu, context_id
):
    sent = list(iter_pdus(context_id, chunks, maximum_pdu=maximum_pdu))
    found = values(b"".join(sent))
    if maximum_pdu >= 8:
        assert max(len(data) + 6 for _, _, data in found) <= maximum_pdu
    assert b"".join(data for _, _, data in found) == b"".join(chunks)
    assert [control for _, control, _ in found] == [0] * (len(found) - 1) + [LAST_FRAGMENT]
    assert {context for context, _, _ in found} == {context_id}
    assert not any(len(data) % 2 for _, _, data in found[:-1])


@given(st.integers(8, 100))
def test_the_narrowest_peer_gets_its_answer_in_pieces(maximum_pdu):
    answer = store_response({0x0110: b"\x01\x00"}, 0xA700, "the archive is full")
    found = values(command_pdus(9, answer, maximum_pdu=maximum_pdu))
    assert b"".join(data for _, _, data in found) == answer
    assert [control for _, control, _ in found] == [1] * (len(found) - 1) + [3]


@given(st.dictionaries(st.integers(2, 65535), st.binary(max_size=64)))
def test_what_a_command_set_holds_is_read_again_known_or_not(elements):
    raw = b"".join(struct.pack("<HHI", 0, e, len(v)) + v for e, v in elements.items())
    assert parse_command(raw) == elements
    wrong_length = struct.pack("<HHII", 0, 0, 4, 12345)
    assert parse_command(wrong_length + raw) == {0: struct.pack("<I", 12345), **elements}


@given(st.binary(max_size=200))
def test_rubbish_is_read_or_refused(raw):
    try:
        command = parse_command(raw)
    except InvalidRequestError:
        return
    messages.text(command, messages.AFFECTED_SOP_CLASS_UID)
    store_response(command, 0)


@given(st.text())
def test_a_comment_is_what_lo_can_hold(message):
    comment = error_comment(message)
    assert len(comment) <= 64
    assert comment.isascii()
    assert "\\" not in comment
    assert not comment or comment.isprintable()


def test_a_request_without_uids_is_answered_without():
    command = parse_command(
        encode_command([(messages.MESSAGE_ID, 65535), (0x1000, "not a UID")])
    )
    answer = parse_command(store_response(command, 0))
    assert messages.number(answer, messages.MESSAGE_ID_RESPONDED_TO) == 65535
    assert messages.AFFECTED_SOP_INSTANCE_UID not in answer
    assert messages.AFFECTED_SOP_CLASS_UID not in answer


def test_a_number_that_does_not_fit_is_a_fault_of_ours():
    with pytest.raises(struct.error):
        encode_command([(messages.STATUS, 65536)])


def test_a_pdu_takes_any_buffer():
    assert pdu(1, 2, b"ab") == pdu(1, 2, bytearray(b"ab")) == pdu(1, 2, memoryview(b"ab"))
