"""C-GET with a peer that says more, less, or something else than it should (PS3.4 §C.4.3)."""

import struct

import pytest

from dimse import messages
from tests.builders import SECONDARY_CAPTURE, dataset, part10
from tests.conftest import store
from tests.dimse import wire as w
from tests.dimse.raw_receiver import store_response
from tests.dimse.wire import COMMAND, LAST, Wire

GET = "1.2.840.10008.5.1.4.1.2.2.3"
ECHO_ID, GET_ID, STORE_ID = 1, 3, 5
REMAINING, COMPLETED, FAILED, WARNING = 0x1020, 0x1021, 0x1022, 0x1023

pytestmark = pytest.mark.usefixtures("says_all")


@pytest.fixture
def study(dicom) -> list[str]:
    uids = [f"1.1.1.{number}" for number in (1, 2, 3)]
    for number, uid in enumerate(uids):
        store(dicom._archive, part10(dataset("1.1", "1.1.1", uid, InstanceNumber=number)))
    return uids


class Getting(Wire):
    """A peer that asks for study 1.1, and plays the Storage SCP by hand."""

    def begin(self) -> "Getting":
        uid = SECONDARY_CAPTURE.encode()
        role = w.item(0x54, struct.pack(">H", len(uid)) + uid + bytes([0, 1]))
        contexts = (
            (ECHO_ID, w.VERIFICATION, w.IMPLICIT),
            (GET_ID, GET, w.IMPLICIT),
            (STORE_ID, SECONDARY_CAPTURE, w.EXPLICIT),
        )
        self.associate(contexts=contexts, user=role)
        command = messages.encode_command(
            [
                (messages.AFFECTED_SOP_CLASS_UID, GET),
                (messages.COMMAND_FIELD, 0x0010),
                (messages.MESSAGE_ID, 77),
                (messages.PRIORITY, 0),
                (messages.DATA_SET_TYPE, 1),
            ]
        )
        identifier = b"".join(
            struct.pack("<HHI", group, element, len(body)) + body
            for group, element, body in ((0x08, 0x52, b"STUDY "), (0x20, 0x0D, b"1.1\0"))
        )
        self.send(
            w.data(w.value(GET_ID, COMMAND | LAST, command))
            + w.data(w.value(GET_ID, LAST, identifier))
        )
        return self

    def asked(self) -> int:
        """The message ID of the C-STORE-RQ that comes next."""
        command = self.command()
        assert messages.number(command, messages.COMMAND_FIELD) == messages.C_STORE_RQ
        return messages.number(command, messages.MESSAGE_ID)

    def said(self) -> tuple:
        """Status and counts of the C-GET-RSP that comes next."""
        command = self.command()
        assert messages.number(command, messages.COMMAND_FIELD) == 0x8010
        assert messages.number(command, messages.MESSAGE_ID_RESPONDED_TO) == 77
        return tuple(
            messages.number(command, element) if element in command else None
            for element in (messages.STATUS, REMAINING, COMPLETED, FAILED, WARNING)
        )

    def answer(self, message_id: int, status: int = 0) -> None:
        self.send(answer(message_id, status))


def answer(message_id: int, status: int = 0) -> bytes:
    return w.data(w.value(STORE_ID, COMMAND | LAST, store_response(message_id, status)))


def in_two_values(message_id: int) -> bytes:
    command = store_response(message_id, 0)
    return w.data(
        w.value(STORE_ID, COMMAND, command[:20]),
        w.value(STORE_ID, COMMAND | LAST, command[20:]),
    )


def in_two_pdus(message_id: int) -> bytes:
    command = store_response(message_id, 0)
    return w.data(w.value(STORE_ID, COMMAND, command[:20])) + w.data(
        w.value(STORE_ID, COMMAND | LAST, command[20:])
    )


@pytest.mark.parametrize("form", [answer, in_two_values, in_two_pdus])
@pytest.mark.parametrize("cut", [3, 6, 12, 31, None])
def test_an_answer_is_taken_in_whatever_pieces_it_comes(dicom, study, form, cut):
    with Getting(dicom.port) as peer:
        peer.begin()
        for remaining in (2, 1, 0):
            whole = form(peer.asked())
            peer.send(whole[:cut])
            if cut is not None:
                peer.send(whole[cut:])
            done = 3 - remaining
            expected = (0xFF00, remaining, done, 0, 0) if remaining else (0, None, 3, 0, 0)
            assert peer.said() == expected


@pytest.mark.parametrize("engine", ["direct"], indirect=True)
def test_a_cancel_in_one_breath_with_the_answer_ends_it(dicom, study):
    with Getting(dicom.port) as peer:
        peer.begin()
        peer.send(answer(peer.asked()) + w.cancel(77, GET_ID))
        assert peer.said() == (0xFF00, 2, 1, 0, 0)
        assert peer.said() == (0xFE00, 2, 1, 0, 0)


@pytest.mark.parametrize("between", [0.0, 60.0])
def test_progress_is_said_at_first_and_then_as_often_as_it_may(
    dicom, study, monkeypatch, between
):
    monkeypatch.setattr("dimse.retrieve._BETWEEN_S", between)
    with Getting(dicom.port) as peer:
        peer.begin()
        peer.answer(peer.asked())
        assert peer.said() == (0xFF00, 2, 1, 0, 0)
        peer.answer(peer.asked())
        if not between:
            assert peer.said() == (0xFF00, 1, 2, 0, 0)
        peer.answer(peer.asked())
        assert peer.said() == (0x0000, None, 3, 0, 0)


@pytest.mark.parametrize("status", [0xA700, 0xB000])
def test_what_failed_meanwhile_is_in_the_last_response(dicom, study, monkeypatch, status):
    monkeypatch.setattr("dimse.retrieve._BETWEEN_S", 60.0)
    with Getting(dicom.port) as peer:
        peer.begin()
        peer.answer(peer.asked())
        peer.said()
        peer.answer(peer.asked(), status)
        peer.answer(peer.asked())
        failed, warned = (1, 0) if status == 0xA700 else (0, 1)
        assert peer.said() == (0xB000, None, 2, failed, warned)


def test_message_ids_are_unique_and_each_answer_is_told_from_another(dicom, study):
    with Getting(dicom.port) as peer:
        peer.begin()
        ids = []
        for remaining in (2, 1, 0):
            ids.append(peer.asked())
            peer.answer(ids[-1] + 100, 0xA700)
            peer.answer(ids[-1])
            done = 3 - remaining
            expected = (0xFF00, remaining, done, 0, 0) if remaining else (0, None, 3, 0, 0)
            assert peer.said() == expected
        assert len(set(ids)) == 3


def test_a_request_that_comes_between_is_answered_after_the_get(dicom, study):
    with Getting(dicom.port) as peer:
        peer.begin()
        first = peer.asked()
        peer.send(w.echo(5))
        peer.answer(first)
        assert peer.said() == (0xFF00, 2, 1, 0, 0)
        peer.answer(peer.asked())
        peer.said()
        peer.answer(peer.asked())
        assert peer.said() == (0x0000, None, 3, 0, 0)
        echoed = peer.command()
        assert messages.number(echoed, messages.MESSAGE_ID_RESPONDED_TO) == 5
        assert messages.number(echoed, messages.STATUS) == 0


def test_a_cancel_between_request_and_answer_ends_it_behind_the_answer(dicom, study):
    with Getting(dicom.port) as peer:
        peer.begin()
        first = peer.asked()
        peer.send(w.cancel(77, GET_ID))
        peer.answer(first)
        assert peer.said() == (0xFF00, 2, 1, 0, 0)
        assert peer.said() == (0xFE00, 2, 1, 0, 0)
        peer.send(w.echo(6))
        assert peer.status() == 0


def test_a_cancel_of_another_request_changes_nothing(dicom, study):
    with Getting(dicom.port) as peer:
        peer.begin()
        first = peer.asked()
        peer.send(w.cancel(78, GET_ID))
        peer.answer(first)
        assert peer.said() == (0xFF00, 2, 1, 0, 0)
        peer.answer(peer.asked())
        assert peer.said() == (0xFF00, 1, 2, 0, 0)


def test_who_asks_for_the_release_instead_of_answering_gets_both(dicom, study):
    with Getting(dicom.port) as peer:
        peer.begin()
        peer.answer(peer.asked())
        peer.said()
        peer.asked()
        peer.send(w.pdu(w.RELEASE_RQ))
        assert peer.said() == (0xB000, None, 1, 2, 0)
        kind = w.DATA
        while kind == w.DATA:
            kind, _ = peer.pdu()
        assert kind == w.RELEASE_RP
    w.leaves_nothing(dicom)


def test_an_answer_that_does_not_say_to_what_ends_the_association(dicom, study):
    with Getting(dicom.port) as peer:
        peer.begin()
        peer.asked()
        command = messages.encode_command(
            [
                (messages.COMMAND_FIELD, messages.C_STORE_RSP),
                (messages.DATA_SET_TYPE, messages.NO_DATA_SET),
                (messages.STATUS, 0),
            ]
        )
        peer.send(w.data(w.value(STORE_ID, COMMAND | LAST, command)))
        kind = w.DATA
        while kind == w.DATA:
            kind, _ = peer.pdu()
        assert kind == w.ABORT
    w.leaves_nothing(dicom)


def test_an_answer_that_nobody_waits_for_ends_the_association(dicom, study):
    with Getting(dicom.port) as peer:
        peer.begin()
        for _ in range(3):
            peer.answer(peer.asked())
            last = peer.said()
        assert last[0] == 0
        peer.answer(3)
        assert peer.pdu()[0] == w.ABORT
    w.leaves_nothing(dicom)
