"""Reports of storage commitment on associations that the archive asks for (PS3.4 §J.3.3)."""

import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from archive.assembly import open_archive
from archive.auth.principal import OPERATOR
from archive.commitment.values import CommitmentRequest, Reference
from archive.config import CommitmentSection, DimseSection, IndexSection, Peer
from archive.identity import StudyRef
from dimse import commitment_delivery
from dimse.commitment_delivery import deliver_due
from tests.builders import SECONDARY_CAPTURE, dataset, part10
from tests.conftest import free_port, make_config, running_archive, store
from tests.dimse.commitment_scu import (
    PUSH,
    Reports,
    ask,
    associate,
    information,
    listed,
    listening,
    wait_for_state,
)
from tests.dimse.conftest import running_dicom

PAIR = (SECONDARY_CAPTURE, "1.2.3.9.1")
KEPT = Reference(*PAIR)


@pytest.fixture
def port():
    return free_port()


def settings(tmp_path, port, *, title="MODALITY", engine="direct", **sections):
    peer = Peer(ae_title=title, host="127.0.0.1", port=port)
    dimse = DimseSection(
        port=0,
        engine=engine,
        peers=(peer,) if port else (),
        network_timeout_s=5,
        association_timeout_s=5,
    )
    again = CommitmentSection(retry_s=0.1, same_association=False)
    return make_config(tmp_path / "data", **({"dimse": dimse, "commitment": again} | sections))


@pytest.fixture
def archive(tmp_path, port, engine):
    with running_archive(settings(tmp_path, port, engine=engine)) as opened:
        store(opened, part10(dataset("1.2.3", "1.2.3.1", "1.2.3.9.1")))
        yield opened


def left(archive, uid="1.2.9.1", *, title="MODALITY", references=(KEPT,)):
    """What an association that has ended at once leaves behind."""
    asked = CommitmentRequest(uid, title, tuple(references))
    taken = archive.commitments.accept(OPERATOR, asked, owner="association")
    archive.commitments.leave(taken)
    return uid


def deliver(archive, uid, state):
    """Be the courier until a request is in ``state``."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        deliver_due(archive, threading.Event())
        (found,) = listed(archive, uid)
        if found.state == state:
            return found
        time.sleep(0.05)
    pytest.fail(f"{found} is not {state}")
    return None


def test_a_peer_that_released_is_told_on_a_new_association(tmp_path, engine, port):
    reports = Reports()
    with running_dicom(settings(tmp_path, port, engine=engine)) as dicom:
        store(dicom._archive, part10(dataset("1.2.3", "1.2.3.1", "1.2.3.9.1")))
        association = associate(dicom.port)
        asked = information(PAIR)
        assert ask(association, asked).Status == 0
        association.release()
        with listening(port, reports):
            deliver(dicom._archive, asked.TransactionUID, "reported")
    event, report = reports.wait()
    assert (event, report.TransactionUID) == (1, asked.TransactionUID)
    assert report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == PAIR[1]
    came_on = reports.got[0][2]
    assert came_on.requestor.ae_title == "FILEROOM"
    # The archive asked to be the SCP, though it asks for the association (PS3.7 §D.3.3.4).
    role = came_on.requestor.role_selection[PUSH]
    assert (role.scu_role, role.scp_role) == (False, True)


def test_a_peer_that_does_not_answer_the_role_is_told_all_the_same(archive, port):
    uid, reports = left(archive), Reports()
    with listening(port, reports, role=None):
        deliver(archive, uid, "reported")
    assert reports.wait()[0] == 1


def test_a_peer_that_refuses_the_role_is_told_nothing_and_shown(archive, port):
    uid, reports = left(archive), Reports()
    with listening(port, reports, role=False):
        found = _once(archive, uid)
    assert (found.state, found.attempts) == ("checked", 1)
    assert "refuses" in found.reason or "none of the presentation contexts" in found.reason
    assert not reports.got


def _once(archive, uid):
    deliver_due(archive, threading.Event())
    (found,) = listed(archive, uid)
    return found


def test_a_peer_that_is_down_is_told_when_it_is_up(archive, port):
    uid, reports = left(archive), Reports()
    found = _once(archive, uid)
    assert (found.state, found.attempts >= 1) == ("checked", True)
    assert f"127.0.0.1:{port}" in found.reason
    with listening(port, reports):
        found = deliver(archive, uid, "reported")
    assert (found.reason, found.answer) == ("", "0000")
    assert len(reports.got) == 1


def test_each_time_is_later_than_the_one_before(archive):
    uid = left(archive)
    pauses = []
    for _ in range(4):
        found = deliver_until_attempt(archive, uid, len(pauses) + 1)
        pauses.append((found.due_at - datetime.now(UTC)).total_seconds())
    assert pauses == sorted(pauses)
    assert pauses[3] > 4 * pauses[0]


def deliver_until_attempt(archive, uid, attempts):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = _once(archive, uid)
        if found.attempts == attempts:
            return found
        time.sleep(0.02)
    pytest.fail("no further attempt")
    return None


def test_after_the_days_that_are_set_it_is_given_up_and_shown(tmp_path, port):
    short = CommitmentSection(retry_s=0.1, retry_days=1e-6)
    with running_archive(settings(tmp_path, port, commitment=short)) as archive:
        found = deliver(archive, left(archive), "failed")
        assert f"127.0.0.1:{port}" in found.reason
        assert not archive.commitments.claim_due(OPERATOR, owner="another", limit=9)
        # An operator may still have it tried again.
        assert archive.commitments.retry(OPERATOR, found.transaction_uid) == 1
        assert listed(archive)[0].state == "accepted"


def test_a_stranger_has_no_address_until_one_is_made_known(tmp_path, port):
    with running_archive(settings(tmp_path, 0)) as archive:
        store(archive, part10(dataset("1.2.3", "1.2.3.1", "1.2.3.9.1")))
        uid, reports = left(archive), Reports()
        found = deliver(archive, uid, "unaddressed")
        assert "fileroom peer add" in found.reason
        known = Peer(ae_title="MODALITY", host="127.0.0.1", port=port)
        archive.peers.add(OPERATOR, known)
        with listening(port, reports):
            deliver(archive, uid, "reported")
        assert reports.wait()[0] == 1


def test_a_failure_that_the_peer_answers_is_remembered_and_ends_it(archive, port):
    uid, reports = left(archive), Reports(status=0x0110)
    with listening(port, reports):
        found = deliver(archive, uid, "reported")
    assert found.answer == "0110"


def test_reports_to_one_peer_share_an_association(archive, port):
    uids, reports = [left(archive, f"1.2.9.{n}") for n in range(5)], Reports()
    with listening(port, reports):
        deliver(archive, uids[-1], "reported")
    assert {str(report.TransactionUID) for _, report, _ in reports.got} == set(uids)
    assert len({id(association) for _, _, association in reports.got}) == 1


def test_a_peer_that_says_nothing_keeps_no_other_waiting(archive, port):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mute = Peer(ae_title="MUTE", host="127.0.0.1", port=silent.getsockname()[1])
        archive.peers.add(OPERATOR, mute)
        left(archive, "1.2.9.8", title="MUTE")
        uid, reports = left(archive, "1.2.9.9"), Reports()
        with listening(port, reports):
            courier = threading.Thread(target=deliver_due, args=(archive, threading.Event()))
            courier.start()
            # Well before the peer that says nothing is given up, which takes 5 s.
            reports.wait(timeout_s=4)
            wait_for_state(archive, uid, "reported")
            courier.join(30)
    (found,) = listed(archive, "1.2.9.8")
    assert found.state == "checked"
    assert "does not answer" in found.reason


def test_what_had_to_wait_is_established_anew(archive, port, monkeypatch):
    monkeypatch.setattr(commitment_delivery, "_FRESH", timedelta())
    uid, reports = left(archive), Reports()
    assert _once(archive, uid).failed == 0
    archive.lifecycle.delete(OPERATOR, StudyRef("1.2.3"), reason="test")
    with listening(port, reports):
        assert deliver(archive, uid, "reported").failed == 1
    event, report = reports.wait()
    assert (event, report.FailedSOPSequence[0].FailureReason) == (2, 0x0112)


def test_a_courier_that_is_to_stop_leaves_the_rest_to_others(archive, port):
    left(archive)
    stopping = threading.Event()
    check = archive.commitments.check

    def stopped(commitment):
        stopping.set()
        yield
        return (yield from check(commitment))

    archive.commitments.check = stopped
    deliver_due(archive, stopping)
    assert len(archive.commitments.claim_due(OPERATOR, owner="another", limit=9)) == 1


@pytest.mark.parametrize(
    "index", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
)
def test_couriers_of_several_nodes_report_each_request_once(tmp_path, port, index, request):
    url = "sqlite"
    if index == "postgresql":
        url = request.getfixturevalue("postgres_url").replace("+psycopg", "")
    config = settings(tmp_path, port, index=IndexSection(url=url))
    reports = Reports()
    with running_archive(config) as archive, open_archive(config) as other:
        store(archive, part10(dataset("1.2.3", "1.2.3.1", "1.2.3.9.1")))
        uids = {left(archive, f"1.2.9.{n}") for n in range(20)}
        with listening(port, reports):
            couriers = [
                threading.Thread(target=deliver_due, args=(node, threading.Event()))
                for node in (archive, other, archive, other)
            ]
            for courier in couriers:
                courier.start()
            for courier in couriers:
                courier.join(60)
            for uid in uids:
                deliver(archive, uid, "reported")
        got = sorted(str(report.TransactionUID) for _, report, _ in reports.got)
        assert got == sorted(uids)
