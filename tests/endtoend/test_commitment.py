"""Requests for storage commitment outlive the processes that took them."""

import json

import pytest

from archive.commitment.service import LEASE_S
from tests.builders import SECONDARY_CAPTURE, dataset, part10
from tests.conftest import Served, free_port, wait_until
from tests.dimse.commitment_scu import Reports, ask, associate, information, listening

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("endtoend")]
PAIR = (SECONDARY_CAPTURE, "1.2.3.9.1")


@pytest.fixture
def scu_port():
    return free_port()


@pytest.fixture
def server(tmp_path, scu_port):
    peers = [{"ae_title": "MODALITY", "host": "127.0.0.1", "port": scu_port}]
    started = Served(
        tmp_path / "data",
        FILEROOM_DIMSE__PEERS=json.dumps(peers),
        FILEROOM_COMMITMENT__RETRY_S="0.5",
    )
    started.start()
    file = tmp_path / "one.dcm"
    file.write_bytes(part10(dataset("1.2.3", "1.2.3.1", "1.2.3.9.1")))
    started.command("import", str(file))
    yield started
    if started.process.poll() is None:
        started.stop()


def listed(server):
    return json.loads(server.command("commitments", "list", "--json").stdout)


def test_a_request_outlives_kill_9_and_waits_for_its_peer_where_an_operator_sees_it(
    server, scu_port
):
    association = associate(server.dicom_port)
    asked = information(PAIR)
    assert ask(association, asked).Status == 0
    server.kill()  # before the report, which comes a moment after the answer
    association.abort()
    server.start()
    uid = asked.TransactionUID

    def tried():
        (state,) = listed(server)
        return state if state["attempts"] else None

    # Of an index that others may share nobody knows whether the one who was at it is gone: what
    # it had is free when its lease has run out.
    state = wait_until(tried, LEASE_S + 60, "a report that finds nobody")
    assert (state["transaction_uid"], state["state"]) == (uid, "checked")
    assert str(scu_port) in state["reason"]
    shown = server.command("commitments", "list").stdout
    assert all(word in shown for word in (uid, "checked", "MODALITY", "1 instances", "tried"))
    reports = Reports()
    with listening(scu_port, reports):
        # Unless the courier is at it at that very moment.
        assert server.command("commitments", "retry", uid, check=False).returncode in (0, 1)
        event, report = reports.wait()
        assert (event, report.TransactionUID) == (1, uid)
        wait_until(lambda: listed(server)[0]["state"] == "reported")
    assert listed(server)[0]["answer"] == "0000"
    assert server.command("commitments", "remove", uid).stdout == "1 removed\n"
    assert "nobody has asked" in server.command("commitments", "list").stdout
    gone = server.command("commitments", "remove", uid, check=False)
    assert (gone.returncode, uid in gone.stderr) == (1, True)
