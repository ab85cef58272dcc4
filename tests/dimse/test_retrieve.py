"""C-MOVE and C-GET: every response, every way a sub-operation ends (PS3.4 §C.4.2, §C.4.3)."""

import contextlib
import threading
import time

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_role, evt
from pynetdicom.presentation import build_context

from archive.auth.principal import OPERATOR
from archive.config import Peer
from archive.identity import InstanceRef
from tests.builders import SECONDARY_CAPTURE, dataset, part10
from tests.conftest import store, wait_until, wheel_file
from tests.dimse.sink import Sink
from tests.dimse.test_services import CT, GET, MOVE, associate, read

PATIENT_MOVE, PATIENT_GET = "1.2.840.10008.5.1.4.1.2.1.2", "1.2.840.10008.5.1.4.1.2.1.3"
PATIENT_STUDY_ONLY_MOVE = "1.2.840.10008.5.1.4.1.2.3.2"


@pytest.fixture
def sink(sink_port):
    """The peer SINK of the archive's settings, which does what a test says."""
    made = Sink()
    made.port = sink_port
    with made:
        yield made


@pytest.fixture
def study(dicom) -> list[str]:
    """Study 1.1 of six instances in two series, of patient P."""
    uids = [f"1.1.{series}.{number}" for series in (1, 2) for number in (1, 2, 3)]
    for uid in uids:
        series, _, number = uid.rpartition(".")
        store(dicom._archive, part10(dataset("1.1", series, uid, InstanceNumber=number)))
    return uids


def keys(level: str, **more) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in more.items():
        setattr(identifier, keyword, value)
    return identifier


WHOLE = {"level": "STUDY", "StudyInstanceUID": "1.1"}


def move(dicom, destination="SINK", *, model=MOVE, level="STUDY", priority=2, **more):
    """Every response to one C-MOVE, with its identifier."""
    association = associate(dicom, (model,))
    assert association.is_established
    answers = list(
        association.send_c_move(keys(level, **more), destination, model, 9, priority=priority)
    )
    association.release()
    return answers


def counts(status) -> tuple:
    """Remaining, completed, failed, warning; None for what a response does not say."""
    return tuple(
        getattr(status, f"NumberOf{kind}Suboperations", None)
        for kind in ("Remaining", "Completed", "Failed", "Warning")
    )


def failed(identifier) -> list[str]:
    listed = identifier.FailedSOPInstanceUIDList if identifier else []
    return [listed] if isinstance(listed, str) else list(listed)


# -- what every response says ------------------------------------------------------------------


@pytest.mark.usefixtures("says_all")
def test_counts_are_right_in_every_response_and_the_last_lists_what_failed(dicom, study, sink):
    outcome = {study[1]: 0xB000, study[3]: 0xA700, study[4]: 0xB007}
    sink.answer = lambda uid: outcome.get(uid, 0)
    *pending, (final, identifier) = move(dicom, **WHOLE)
    assert [status.Status for status, _ in pending] == [0xFF00] * 5
    assert [counts(status) for status, _ in pending] == [
        (5, 1, 0, 0), (4, 1, 0, 1), (3, 2, 0, 1), (2, 2, 1, 1), (1, 2, 1, 2),
    ]  # fmt: skip
    assert not any(identifier for _, identifier in pending)
    assert final.Status == 0xB000
    assert counts(final) == (None, 3, 1, 2)
    assert failed(identifier) == [study[3]]
    assert "A700" in final.ErrorComment


def test_progress_of_a_move_is_said_at_first_and_not_too_often(dicom, study, sink, monkeypatch):
    monkeypatch.setattr("dimse.retrieve._BETWEEN_S", 60.0)
    (pending, _), (final, _) = move(dicom, **WHOLE)
    assert (pending.Status, counts(pending)) == (0xFF00, (5, 1, 0, 0))
    assert (final.Status, counts(final)) == (0x0000, (None, 6, 0, 0))


def test_all_sent_is_success_without_an_identifier(dicom, study, sink):
    final, identifier = move(dicom, **WHOLE)[-1]
    assert (final.Status, counts(final)) == (0x0000, (None, 6, 0, 0))
    assert not identifier
    assert sink.got == study


def test_all_failed_is_a702_with_every_uid_and_a_reason(dicom, study, sink):
    sink.answer = lambda uid: 0x0122
    final, identifier = move(dicom, **WHOLE)[-1]
    assert (final.Status, counts(final)) == (0xA702, (None, 0, 6, 0))
    assert failed(identifier) == study
    assert "0122" in final.ErrorComment


def test_warnings_alone_are_b000_without_a_list(dicom, study, sink):
    sink.answer = lambda uid: 0xB000
    final, identifier = move(dicom, **WHOLE)[-1]
    assert (final.Status, counts(final)) == (0xB000, (None, 0, 0, 6))
    assert not identifier


def test_nothing_found_is_success_with_nothing_done(dicom, study, sink):
    final, identifier = move(dicom, StudyInstanceUID="9.9.9")[-1]
    assert (final.Status, counts(final)) == (0x0000, (None, 0, 0, 0))
    assert not identifier


# -- what is asked for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "asked", "expected"),
    [
        (PATIENT_MOVE, {"level": "PATIENT", "PatientID": "P"}, 6),
        (PATIENT_MOVE, {"level": "STUDY", "PatientID": "P", "StudyInstanceUID": "1.1"}, 6),
        (PATIENT_STUDY_ONLY_MOVE, {"level": "PATIENT", "PatientID": "P"}, 6),
        (MOVE, {"level": "SERIES", "StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.2"}, 3),
        (MOVE, {"level": "SERIES", "SeriesInstanceUID": ["1.1.1", "1.1.2"]}, 6),
        (MOVE, {"level": "IMAGE", "SOPInstanceUID": ["1.1.1.1", "1.1.2.3"]}, 2),
        (MOVE, {"level": "IMAGE", "StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1",
                "SOPInstanceUID": ["1.1.1.1", "1.1.2.3"]}, 1),
        (MOVE, {"level": "STUDY", "StudyInstanceUID": "1.1", "PatientName": "Nobody"}, 6),
        (PATIENT_MOVE, {"level": "PATIENT", "PatientID": "another"}, 0),
    ],
)  # fmt: skip
def test_levels_and_lists_of_unique_keys(dicom, study, sink, model, asked, expected):
    final, _ = move(dicom, model=model, **asked)[-1]
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0, expected)
    assert len(sink.got) == expected


@pytest.mark.parametrize(
    "asked",
    [
        {"level": "STUDY", "StudyInstanceUID": ""},
        {"level": "STUDY"},
        {"level": "STUDY", "StudyInstanceUID": "1.*"},
        {"level": "SERIES", "StudyInstanceUID": "1.1"},
        {"level": "IMAGE", "StudyInstanceUID": "1.1", "SOPInstanceUID": ""},
        {"level": "PATIENT", "PatientID": "P"},
        {"level": "EVERYTHING", "StudyInstanceUID": "1.1"},
    ],
)
def test_what_is_no_request_is_a900_and_moves_nothing(dicom, study, sink, asked):
    final, _ = move(dicom, **asked)[-1]
    assert final.Status == 0xA900
    assert final.ErrorComment
    assert sink.got == []


def test_an_unknown_destination_and_one_without_an_address_are_a801(dicom, study):
    dicom._archive.peers.add(OPERATOR, Peer(ae_title="CALLS", host="127.0.0.1"))
    for title, reason in (("NOBODY", "is no peer"), ("CALLS", "only calls")):
        final, _ = move(dicom, title, **WHOLE)[-1]
        assert final.Status == 0xA801
        assert reason in final.ErrorComment


# -- destinations ------------------------------------------------------------------------------


def test_a_destination_that_is_down_fails_all_and_says_so(dicom, study):
    final, identifier = move(dicom, **WHOLE)[-1]
    assert (final.Status, counts(final)) == (0xA702, (None, 0, 6, 0))
    assert failed(identifier) == study
    assert "SINK" in final.ErrorComment


@pytest.fixture
def strict(monkeypatch):
    """Let pynetdicom's SCPs accept what they support, and nothing else."""
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)


def test_a_destination_that_takes_nothing_of_the_class_fails_all(
    dicom, study, sink_port, strict
):
    made = Sink()
    made.port = sink_port
    made.start(CT)
    try:
        final, identifier = move(dicom, **WHOLE)[-1]
        assert final.Status == 0xA702
        assert failed(identifier) == study
    finally:
        made.stop()


def test_a_connection_lost_in_the_middle_costs_what_was_under_way(dicom, study, sink):
    broken = []

    def answer(uid):
        if uid == study[2] and not broken:
            broken.append(uid)
            return None
        return 0

    sink.answer = answer
    final, identifier = move(dicom, **WHOLE)[-1]
    assert (final.Status, counts(final)) == (0xB000, (None, 5, 1, 0))
    assert failed(identifier) == [study[2]]
    assert sink.associations == 2


def test_a_destination_that_goes_for_good_in_the_middle_does_not_hang(dicom, study, sink):
    # It may still take a connection while it goes, and never answer on it.
    object.__setattr__(dicom._archive.config.dimse, "association_timeout_s", 2.0)

    def answer(uid):
        if uid == study[2]:
            threading.Thread(target=sink.stop).start()
            return None
        return 0

    sink.answer = answer
    final, identifier = move(dicom, **WHOLE)[-1]
    assert final.Status == 0xB000
    completed = final.NumberOfCompletedSuboperations
    assert completed + final.NumberOfFailedSuboperations == 6
    assert completed >= 2
    assert study[2] in failed(identifier)


def test_a_destination_that_never_answers_fails_within_the_time_limit(dicom, study, sink):
    sink.gate.clear()
    object.__setattr__(dicom._archive.config.dimse, "network_timeout_s", 1.0)
    started = time.monotonic()
    final, _ = move(dicom, level="IMAGE", SOPInstanceUID=study[0])[-1]
    assert final.Status == 0xA702
    assert time.monotonic() - started < 15
    sink.gate.set()


@pytest.fixture
def asking(dicom):
    """An association over which one C-MOVE is asked for after another."""
    association = associate(dicom, (MOVE,))

    def ask(**more):
        return list(association.send_c_move(keys(**more), "SINK", MOVE, 9))[-1][0]

    ask.association = association
    yield ask
    association.release()


def test_associations_with_a_destination_are_used_again(asking, study, sink):
    for uid in study:
        assert asking(level="IMAGE", SOPInstanceUID=uid).Status == 0
    assert sink.associations == 1
    assert sink.got == study


def test_an_association_that_was_closed_meanwhile_is_replaced_in_silence(asking, study, sink):
    assert asking(**WHOLE).Status == 0
    for association in sink._server.active_associations:
        association.abort()
    assert asking(**WHOLE).Status == 0
    assert sink.associations == 2


def test_who_leaves_leaves_no_association_with_a_destination(asking, dicom, study, sink):
    # For as long as it is there it is kept: longer than this test may take.
    dicom._pool._keep_s = 60
    assert asking(**WHOLE).Status == 0
    assert len(sink._server.active_associations) == 1
    asking.association.release()
    wait_until(lambda: not sink._server.active_associations, 10, "the release")


def test_priority_and_originator_are_passed_on(dicom, study, sink_port):
    seen = []

    def on_store(event):
        request = event.request
        seen.append((
            request.Priority, request.MoveOriginatorApplicationEntityTitle,
            request.MoveOriginatorMessageID, request.MessageID,
        ))  # fmt: skip
        return 0

    entity = AE("SINK")
    entity.add_supported_context(SECONDARY_CAPTURE, [ExplicitVRLittleEndian])
    server = entity.start_server(
        ("127.0.0.1", sink_port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )
    try:
        assert move(dicom, priority=1, **WHOLE)[-1][0].Status == 0
    finally:
        server.shutdown()
    assert {one[:3] for one in seen} == {(1, "TEST", 9)}
    assert len({one[3] for one in seen}) == 6


def test_what_a_destination_does_not_take_as_stored_is_made_uncompressed(
    dicom, sink_port, strict
):
    original = read("693_J2KI.dcm")
    store(dicom._archive, wheel_file("693_J2KI.dcm"))
    got = []

    def on_store(event):
        got.append(event.dataset)
        return 0

    entity = AE("SINK")
    entity.add_supported_context(original.SOPClassUID, [ImplicitVRLittleEndian])
    server = entity.start_server(
        ("127.0.0.1", sink_port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )
    try:
        final, _ = move(dicom, StudyInstanceUID=original.StudyInstanceUID)[-1]
    finally:
        server.shutdown()
    assert final.Status == 0
    (arrived,) = got
    assert arrived.SOPInstanceUID == original.SOPInstanceUID
    assert arrived.PixelData == original.pixel_array.tobytes()


# -- cancel, and those who leave ---------------------------------------------------------------


def test_a_move_is_cancelled_after_the_sub_operation_under_way(dicom, study, sink):
    association = associate(dicom, (MOVE,))
    sink.answer = lambda uid: 0
    answers = []
    for status, identifier in association.send_c_move(keys(**WHOLE), "SINK", MOVE, 9):
        if not answers:
            sink.gate.clear()
            association.send_c_cancel(9, query_model=MOVE)
            # The cancel is on its way before the next sub-operation may end.
            threading.Timer(0.3, sink.gate.set).start()
        answers.append((status, identifier))
    association.release()
    final, identifier = answers[-1]
    assert final.Status == 0xFE00
    remaining, completed, wrong, warned = counts(final)
    assert (wrong, warned) == (0, 0)
    assert remaining + completed == 6
    assert completed == len(sink.got) < 6


def test_a_get_is_cancelled_after_the_sub_operation_under_way(dicom, study):
    got = []
    association = None

    def on_store(event):
        got.append(str(event.request.AffectedSOPInstanceUID))
        if len(got) == 1:
            association.send_c_cancel(9, query_model=GET)
        return 0

    association = getting(dicom, on_store)
    answers = list(association.send_c_get(keys(**WHOLE), GET, 9))
    association.release()
    final = answers[-1][0]
    assert final.Status == 0xFE00
    assert final.NumberOfRemainingSuboperations + len(got) == 6
    assert 1 <= len(got) <= 2


def test_who_asked_and_left_stops_its_move(dicom, study, sink):
    sink.gate.clear()
    association = associate(dicom, (MOVE,))
    answers = association.send_c_move(keys(**WHOLE), "SINK", MOVE, 9)
    association.dimse_timeout = 2
    asking = threading.Thread(target=lambda: _exhaust(answers))
    asking.start()
    wait_until(lambda: sink.associations == 1, 10, "the destination to be asked")
    association.abort()
    sink.gate.set()
    asking.join()
    wait_until(
        lambda: not any(one.is_alive() for one in dicom._associations), 10, "the end of it"
    )
    assert len(sink.got) < 6


def _exhaust(answers) -> None:
    with contextlib.suppress(Exception):
        for _ in answers:
            pass


def test_what_is_deleted_while_it_is_sent_fails_alone(dicom, sink):
    uids = [f"1.7.1.{number}" for number in range(1, 81)]
    for uid in uids:
        store(dicom._archive, part10(dataset("1.7", "1.7.1", uid, InstanceNumber=uid[6:])))
    gone = InstanceRef("1.7", "1.7.1", uids[-1])

    def answer(uid):
        if uid == uids[0]:
            dicom._archive.lifecycle.delete(OPERATOR, gone, reason="a test")
        return 0

    sink.answer = answer
    final, identifier = move(dicom, StudyInstanceUID="1.7")[-1]
    assert (final.Status, counts(final)) == (0xB000, (None, 79, 1, 0))
    assert failed(identifier) == [uids[-1]]
    assert "deleted" in final.ErrorComment


# -- C-GET -------------------------------------------------------------------------------------


def getting(dicom, on_store, classes=(SECONDARY_CAPTURE,), model=GET):
    association = associate(
        dicom,
        (model,),
        *((uid, [ExplicitVRLittleEndian]) for uid in classes),
        roles=[build_role(uid, scp_role=True) for uid in classes],
        handlers=[(evt.EVT_C_STORE, on_store)],
    )
    assert association.is_established
    return association


def get(dicom, on_store, *, model=GET, level="STUDY", classes=(SECONDARY_CAPTURE,), **more):
    association = getting(dicom, on_store, classes, model)
    answers = list(association.send_c_get(keys(level, **more), model, 9))
    association.release()
    return answers


@pytest.mark.usefixtures("says_all")
def test_get_counts_in_every_response_and_lists_what_failed(dicom, study):
    outcome = {study[1]: 0xB000, study[3]: 0xA700}
    *pending, (final, identifier) = get(
        dicom, lambda event: outcome.get(str(event.request.AffectedSOPInstanceUID), 0), **WHOLE
    )
    assert [counts(status) for status, _ in pending] == [
        (5, 1, 0, 0), (4, 1, 0, 1), (3, 2, 0, 1), (2, 2, 1, 1), (1, 3, 1, 1),
    ]  # fmt: skip
    assert (final.Status, counts(final)) == (0xB000, (None, 4, 1, 1))
    assert failed(identifier) == [study[3]]


def test_get_goes_on_past_a_class_that_was_not_proposed(dicom, study):
    store(dicom._archive, _of_class(CT, "1.1.2.4"))
    got = []

    def on_store(event):
        got.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    final, identifier = get(dicom, on_store, **WHOLE)[-1]
    assert (final.Status, counts(final)) == (0xB000, (None, 6, 1, 0))
    assert failed(identifier) == ["1.1.2.4"]
    assert sorted(got) == study
    assert "no context" in final.ErrorComment


def _of_class(sop_class: str, uid: str) -> bytes:
    made = dataset("1.1", "1.1.2", uid)
    made.SOPClassUID = sop_class
    return part10(made)


def test_get_by_the_patient_root_brings_every_study_of_the_patient(dicom, study):
    store(dicom._archive, part10(dataset("1.2", "1.2.1", "1.2.1.1")))
    final, _ = get(dicom, lambda _event: 0, model=PATIENT_GET, level="PATIENT", PatientID="P")[
        -1
    ]
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0, 7)


@pytest.mark.parametrize("longest", [4096, 1024, 0])
def test_get_sends_no_pdu_longer_than_the_peer_takes(dicom, longest):
    made = dataset("1.5", "1.5.1", "1.5.1.1", PatientComments="x" * 10_000)
    store(dicom._archive, part10(made))
    lengths, got = [], []

    def on_pdu(event):
        if type(event.pdu).__name__ == "P_DATA_TF":
            lengths.append(event.pdu.pdu_length)

    def on_store(event):
        got.append(event.dataset)
        return 0

    association = AE("TEST").associate(
        "127.0.0.1", dicom.port, ae_title="FILEROOM", max_pdu=longest,
        contexts=[build_context(GET), build_context(SECONDARY_CAPTURE, ExplicitVRLittleEndian)],
        ext_neg=[build_role(SECONDARY_CAPTURE, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, on_store), (evt.EVT_PDU_RECV, on_pdu)],
    )  # fmt: skip
    final, _ = list(association.send_c_get(keys("STUDY", StudyInstanceUID="1.5"), GET))[-1]
    association.release()
    assert final.Status == 0
    assert got[0].PatientComments == "x" * 10_000
    assert max(lengths) <= (longest or 131072)
    assert (len(lengths) > 10) == (longest == 1024) or longest == 4096


def test_a_peer_that_aborts_in_the_middle_of_its_get_ends_its_association_only(dicom, study):
    association = None

    def on_store(_event):
        association.abort()
        return 0

    association = getting(dicom, on_store)
    association.dimse_timeout = 2
    _exhaust(association.send_c_get(keys(**WHOLE), GET))
    wait_until(
        lambda: not any(one.is_alive() for one in dicom._associations), 10, "the end of it"
    )
    assert get(dicom, lambda _event: 0, **WHOLE)[-1][0].Status == 0
