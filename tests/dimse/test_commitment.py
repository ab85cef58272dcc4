"""Storage Commitment Push Model SCP (PS3.4 Annex J) over real sockets, on both engines."""

import io
import threading
import time

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.dimse_primitives import N_ACTION, N_GET
from pynetdicom.presentation import build_context

from archive.auth.principal import OPERATOR
from archive.config import CommitmentSection, DimseSection, Peer, Service
from archive.identity import StudyRef
from tests.builders import SECONDARY_CAPTURE, dataset, part10
from tests.conftest import make_config, spoil, store, wait_until
from tests.dimse.commitment_scu import (
    INSTANCE,
    PUSH,
    Reports,
    ask,
    associate,
    information,
    listed,
    wait_for_state,
)
from tests.dimse.conftest import running_dicom

CT = "1.2.840.10008.5.1.4.1.1.2"
STORE = (SECONDARY_CAPTURE, [ExplicitVRLittleEndian])


def keep(dicom, number=1, study="1.2.3"):
    """Store instances; return their references."""
    uids = [f"{study}.9.{n}" for n in range(1, number + 1)]
    for uid in uids:
        store(dicom._archive, part10(dataset(study, f"{study}.1", uid)))
    return [(SECONDARY_CAPTURE, uid) for uid in uids]


def key_of(archive, uid):
    found = archive.retrieve.instances(OPERATOR, [StudyRef("1.2.3")])
    (key,) = [one.object_key for one in found if one.sop_instance_uid == uid]
    return key


def failures(report):
    return {
        item.ReferencedSOPInstanceUID: item.FailureReason
        for item in report.get("FailedSOPSequence", [])
    }


def committed(report):
    return [item.ReferencedSOPInstanceUID for item in report.get("ReferencedSOPSequence", [])]


def asked_for(dicom, *pairs, calling="MODALITY", uid=None):
    """Ask on an association that stays open; return event type and report."""
    reports = Reports()
    association = associate(dicom.port, reports=reports, calling=calling)
    asked = information(*pairs, uid=uid)
    assert ask(association, asked).Status == 0x0000
    report = reports.wait()
    # pynetdicom trips over its own answer to the report if that is still to go out.
    wait_until(
        lambda: all(
            one.state not in ("accepted", "checked")
            for one in listed(dicom._archive, asked.TransactionUID)
        ),
        30,
        "the answer to the report",
    )
    association.release()
    return report


def test_what_is_stored_is_committed_to_on_the_association_that_asked(dicom):
    pairs = keep(dicom, 3)
    reports = Reports()
    association = associate(dicom.port, reports=reports)
    asked = information(*pairs)
    assert ask(association, asked).Status == 0x0000
    event, report = reports.wait()
    assert event == 1
    assert report.TransactionUID == asked.TransactionUID
    assert report.RetrieveAETitle == "FILEROOM"
    assert committed(report) == [uid for _, uid in pairs]
    assert "FailedSOPSequence" not in report
    assert reports.got[0][2] is association
    state = wait_for_state(dicom._archive, asked.TransactionUID, "reported")
    assert (state.answer, state.instances, state.failed) == ("0000", 3, 0)
    association.release()


def test_each_instance_that_fails_has_its_reason_and_the_rest_is_committed(dicom):
    archive = dicom._archive
    pairs = keep(dicom, 6)
    uids = [uid for _, uid in pairs]
    spoil(
        archive,
        key_of(archive, uids[1]),
        lambda body: body[:-3] + bytes([body[-3] ^ 1]) + body[-2:],
    )
    archive.objects.delete(key_of(archive, uids[2]))
    from archive.identity import InstanceRef

    archive.lifecycle.delete(OPERATOR, InstanceRef("1.2.3", "1.2.3.1", uids[3]), reason="test")
    wrong = (CT, uids[4])
    spoil(archive, key_of(archive, uids[5]), lambda body: body[:-10])
    event, report = asked_for(
        dicom,
        *pairs[:4],
        wrong,
        pairs[5],
        (SECONDARY_CAPTURE, "9.9.9"),
        ("1.2.840.10008.3.1.2.3.3", "9.9.10"),
    )
    assert event == 2
    assert committed(report) == [uids[0]]
    assert failures(report) == {
        uids[1]: 0x0110,  # a bit has flipped
        uids[2]: 0x0112,  # its object is lost
        uids[3]: 0x0112,  # deleted
        uids[4]: 0x0119,  # of another class
        uids[5]: 0x0110,  # cut short
        "9.9.9": 0x0112,  # never stored
        "9.9.10": 0x0122,  # a performed procedure step is never stored here
    }


def test_when_nothing_is_committed_there_is_no_sequence_of_what_is(dicom):
    event, report = asked_for(dicom, (SECONDARY_CAPTURE, "9.9.9"))
    assert event == 2
    assert "ReferencedSOPSequence" not in report
    assert "RetrieveAETitle" not in report


def test_an_instance_that_is_held_aside_is_not_committed_to_its_sender(dicom):
    first = dataset("1.2.3", "1.2.3.1", "1.2.3.9.1")
    one = associate(dicom.port, STORE, push=False, calling="FIRST")
    first.file_meta = None
    assert _store(one, first) == 0
    second = dataset("1.2.3", "1.2.3.1", "1.2.3.9.1", PatientComments="another")
    two = associate(dicom.port, STORE, push=False, calling="SECOND")
    assert _store(two, second) == 0xC001
    one.release()
    two.release()
    pair = (SECONDARY_CAPTURE, "1.2.3.9.1")
    assert asked_for(dicom, pair, calling="FIRST")[0] == 1
    event, report = asked_for(dicom, pair, calling="SECOND")
    assert (event, failures(report)) == (2, {"1.2.3.9.1": 0x0112})


def _store(association, made):
    import pydicom

    return association.send_c_store(pydicom.dcmread(io.BytesIO(part10(made)))).Status


def test_what_is_stored_after_a_request_is_committed_to_by_the_next(dicom):
    reports = Reports()
    association = associate(dicom.port, STORE, reports=reports)
    asked = information((SECONDARY_CAPTURE, "1.2.3.9.1"))
    assert ask(association, asked).Status == 0
    event, report = reports.wait()
    assert (event, failures(report)) == (2, {"1.2.3.9.1": 0x0112})
    assert _store(association, dataset("1.2.3", "1.2.3.1", "1.2.3.9.1")) == 0
    assert ask(association, information((SECONDARY_CAPTURE, "1.2.3.9.1"))).Status == 0
    assert reports.wait(2)[0] == 1
    # The same transaction once more begins anew, and now ends well.
    assert ask(association, asked).Status == 0
    event, report = reports.wait(3)
    assert (event, report.TransactionUID) == (1, asked.TransactionUID)
    association.release()


def test_a_transaction_uid_that_is_used_again_for_something_else_fails_as_a_whole(dicom):
    pairs = keep(dicom, 2)
    uid = generate_uid()
    assert asked_for(dicom, pairs[0], uid=uid)[0] == 1
    event, report = asked_for(dicom, pairs[1], uid=uid)
    assert (event, failures(report)) == (2, {pairs[1][1]: 0x0131})
    # Another peer's transactions are its own.
    assert asked_for(dicom, pairs[1], uid=uid, calling="ANOTHER")[0] == 1


def test_several_thousand_references_keep_no_other_message_waiting(dicom):
    (pair,) = keep(dicom)
    missing = [(SECONDARY_CAPTURE, f"9.9.{n}") for n in range(5000)]
    reports = Reports()
    association = associate(dicom.port, STORE, ("1.2.840.10008.1.1",), reports=reports)
    assert ask(association, information(pair, *missing)).Status == 0
    assert association.send_c_echo().Status == 0
    assert _store(association, dataset("1.2.4", "1.2.4.1", "1.2.4.9.1")) == 0
    event, report = reports.wait(timeout_s=60)
    assert event == 2
    assert committed(report) == [pair[1]]
    assert len(report.FailedSOPSequence) == 5000
    association.release()


def test_messages_are_served_while_a_report_waits_for_its_answer(dicom):
    (pair,) = keep(dicom)
    answering = threading.Event()
    reports = Reports()
    take = reports.take

    def slow(event):
        assert answering.wait(30)
        return take(event)

    reports.take = slow
    association = associate(dicom.port, STORE, ("1.2.840.10008.1.1",), reports=reports)
    asked = information(pair)
    assert ask(association, asked).Status == 0
    archive = dicom._archive
    wait_for_state(archive, asked.TransactionUID, "checked")
    for number in range(5):
        assert association.send_c_echo().Status == 0
        made = dataset("1.2.4", "1.2.4.1", f"1.2.4.9.{number}")
        assert _store(association, made) == 0
        time.sleep(0.1)  # the report is sent some time here
    answering.set()
    assert reports.wait()[0] == 1
    assert wait_for_state(archive, asked.TransactionUID, "reported").answer == "0000"
    association.release()


def test_the_status_that_the_peer_answers_to_a_report_is_remembered(dicom):
    (pair,) = keep(dicom)
    reports = Reports(status=0x0110)
    association = associate(dicom.port, reports=reports)
    asked = information(pair)
    assert ask(association, asked).Status == 0
    state = wait_for_state(dicom._archive, asked.TransactionUID, "reported")
    assert state.answer == "0110"
    association.release()


def _without(keyword):
    asked = information((SECONDARY_CAPTURE, "1.2.3"))
    delattr(asked, keyword)
    return asked


def _with(**values):
    asked = information((SECONDARY_CAPTURE, "1.2.3"))
    for keyword, value in values.items():
        setattr(asked, keyword, value)
    return asked


def _nameless():
    asked = information((SECONDARY_CAPTURE, "1.2.3"), (SECONDARY_CAPTURE, "1.2.4"))
    del asked.ReferencedSOPSequence[1].ReferencedSOPInstanceUID
    return asked


REFUSED = [
    (_without("TransactionUID"), {}, 0x0115, "Transaction UID"),
    (_with(TransactionUID=""), {}, 0x0115, "Transaction UID"),
    (_without("ReferencedSOPSequence"), {}, 0x0115, "Referenced SOP Sequence"),
    (_with(ReferencedSOPSequence=[]), {}, 0x0115, "Referenced SOP Sequence"),
    (_nameless(), {}, 0x0115, "item 2"),
    (None, {}, 0x0115, "Action Information"),
    (_with(), {"instance": "1.2.3.4"}, 0x0112, INSTANCE),
    (_with(), {"sop_class": "1.2.840.10008.1.20.2", "instance": "1.2"}, 0x0118, "Push"),
    (_with(), {"sop_class": "1.2.840.10008.1.1"}, 0x0119, "class"),
    (_with(), {"action": 2}, 0x0123, "Action Type ID 2"),
]


def test_a_request_that_is_not_taken_is_answered_with_the_reason(dicom):
    association = associate(dicom.port)
    for asked, target, status, word in REFUSED:
        answer = ask(association, asked, meta_uid=PUSH, **target)
        assert (answer.Status, word in answer.ErrorComment) == (status, True), word
    assert not listed(dicom._archive)
    # The association goes on.
    assert ask(association, information((SECONDARY_CAPTURE, "1.2.3"))).Status == 0
    association.release()


def _exchange(association, request):
    """Send a DIMSE-N request that pynetdicom's own methods would not make."""
    association._reactor_checkpoint.clear()
    wait_until(lambda: association._is_paused)
    (context,) = association.accepted_contexts
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return answer


def test_what_cannot_be_decoded_is_a_processing_failure(dicom):
    association = associate(dicom.port)
    request = N_ACTION()
    request.MessageID = 7
    request.RequestedSOPClassUID, request.RequestedSOPInstanceUID = PUSH, INSTANCE
    request.ActionTypeID = 1
    request.ActionInformation = io.BytesIO(b"\x08\x00\x99\x11SQ\0\0\xff\xff\0\0no")
    answer = _exchange(association, request)
    assert (answer.Status, answer.MessageIDBeingRespondedTo) == (0x0110, 7)
    association.release()


def test_a_command_without_its_action_type_is_answered_too(dicom):
    association = associate(dicom.port)
    request = N_ACTION()
    request.MessageID = 7
    request.RequestedSOPClassUID, request.RequestedSOPInstanceUID = PUSH, INSTANCE
    assert _exchange(association, request).Status == 0x0123
    association.release()


def test_an_operation_that_is_not_served_is_unrecognized_and_ends_nothing(dicom):
    association = associate(dicom.port)
    request = N_GET()
    request.MessageID = 8
    request.RequestedSOPClassUID, request.RequestedSOPInstanceUID = PUSH, INSTANCE
    assert _exchange(association, request).Status == 0x0211
    status, _ = association.send_n_event_report(information((CT, "1.2")), 1, PUSH, INSTANCE)
    assert status.Status == 0x0211
    association.release()


def test_the_scp_role_of_the_service_is_the_archives_alone(dicom):
    def propose(scu, scp):
        return AE("MODALITY").associate(
            "127.0.0.1",
            dicom.port,
            contexts=[build_context(PUSH, [ImplicitVRLittleEndian])],
            ae_title="FILEROOM",
            ext_neg=[build_role(PUSH, scu_role=scu, scp_role=scp)],
        )

    both = propose(True, True)
    (context,) = both.accepted_contexts
    assert (context.as_scu, context.as_scp) == (True, False)
    both.release()
    refused = propose(False, True)
    assert not refused.accepted_contexts


def test_a_peer_that_may_not_is_refused_and_its_association_goes_on(tmp_path, engine):
    services = tuple(set(Service) - {Service.COMMIT})
    peer = Peer(ae_title="MODALITY", host="127.0.0.1", services=services)
    config = make_config(
        tmp_path / "data", dimse=DimseSection(port=0, engine=engine, peers=(peer,))
    )
    with running_dicom(config) as dicom:
        association = associate(dicom.port, ("1.2.840.10008.1.1",))
        answer = ask(association, information((SECONDARY_CAPTURE, "1.2.3")))
        assert answer.Status == 0x0124
        assert association.send_c_echo().Status == 0
        assert not listed(dicom._archive)
        association.release()


def test_an_association_that_waits_for_its_report_is_not_silent(tmp_path, engine):
    config = make_config(
        tmp_path / "data", dimse=DimseSection(port=0, engine=engine, network_timeout_s=1.0)
    )
    with running_dicom(config) as dicom:
        (pair,) = keep(dicom)
        check = dicom._archive.commitments.check

        def long(commitment):
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                yield
            return (yield from check(commitment))

        object.__setattr__(dicom._archive.commitments, "check", long)
        reports = Reports()
        association = associate(dicom.port, reports=reports)
        assert ask(association, information(pair)).Status == 0
        assert reports.wait()[0] == 1
        association.release()


def test_an_association_that_ends_leaves_its_request_to_others_at_once(dicom):
    (pair,) = keep(dicom)
    association = associate(dicom.port)
    asked = information(pair)
    assert ask(association, asked).Status == 0
    association.abort()
    archive = dicom._archive

    def free():
        return archive.commitments.claim_due(OPERATOR, owner="another", limit=1)

    (claimed,) = wait_until(free, what="a request that is free")
    assert claimed.transaction_uid == asked.TransactionUID


def test_a_peer_may_want_every_report_on_a_new_association(tmp_path, engine):
    config = make_config(
        tmp_path / "data",
        dimse=DimseSection(port=0, engine=engine),
        commitment=CommitmentSection(same_association=False),
    )
    with running_dicom(config) as dicom:
        (pair,) = keep(dicom)
        reports = Reports()
        association = associate(dicom.port, reports=reports)
        assert ask(association, information(pair)).Status == 0
        owner = {"owner": "another", "limit": 1}
        assert wait_until(lambda: dicom._archive.commitments.claim_due(OPERATOR, **owner))
        association.release()
        assert not reports.got


def test_requests_and_reports_are_in_the_transfer_syntax_of_their_context(dicom):
    (pair,) = keep(dicom)
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"):
        reports = Reports()
        association = associate(dicom.port, (PUSH, [syntax]), reports=reports, push=False)
        assert ask(association, information(pair, (CT, "9.9.9"))).Status == 0
        event, report = reports.wait()
        assert (event, committed(report)) == (2, [pair[1]]), syntax
        assert failures(report) == {"9.9.9": 0x0112}
        association.release()


def test_the_answer_to_a_report_is_taken_in_the_middle_of_a_c_get(dicom):
    pairs = keep(dicom, 3)
    arrived, answer, sent = threading.Event(), threading.Event(), threading.Event()
    reports = Reports()
    take = reports.take

    def slow(event):
        arrived.set()
        assert answer.wait(30)
        return take(event)

    def note(event):
        if type(event.message).__name__ == "N_EVENT_REPORT_RSP":
            sent.set()

    def on_store(_event):
        answer.set()  # the first instance has come: the report is answered now
        assert sent.wait(30)
        return 0x0000

    reports.take = slow
    get = "1.2.840.10008.5.1.4.1.2.2.3"
    association = associate(
        dicom.port,
        (get,),
        STORE,
        reports=reports,
        roles=[build_role(SECONDARY_CAPTURE, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, on_store), (evt.EVT_DIMSE_SENT, note)],
    )
    asked = information(*pairs)
    assert ask(association, asked).Status == 0
    assert arrived.wait(30)
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", "1.2.3"
    final, _ = list(association.send_c_get(keys, get))[-1]
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, 3)
    assert wait_for_state(dicom._archive, asked.TransactionUID, "reported").answer == "0000"
    association.release()
