"""`fileroom peer`, run by hand beside an archive that serves."""

import json

import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from tests.conftest import Served, wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Served(tmp_path_factory.mktemp("peers"), FILEROOM_DIMSE__STRANGERS="[]")
    started.start()
    yield started
    assert started.stop() == 0


def peer(server, *arguments: str):
    return server.command("peer", *arguments, check=False)


def is_let_in(server, title: str) -> bool:
    association = AE(title).associate(
        "127.0.0.1",
        server.dicom_port,
        contexts=[build_context("1.2.840.10008.1.1")],
        ae_title="FILEROOM",
    )
    if association.is_established:
        association.release()
        return True
    return False


def test_a_peer_is_let_in_once_it_is_added_and_no_more_once_it_is_removed(server):
    assert not is_let_in(server, "MINE")
    assert peer(server, "add", "MINE", "127.0.0.1", "11119").returncode == 0
    wait_until(lambda: is_let_in(server, "MINE"), 5, "the new peer to be let in")
    (listed,) = json.loads(peer(server, "list", "--json").stdout)
    assert (listed["ae_title"], listed["port"], listed["origin"]) == ("MINE", 11119, "index")
    assert "MINE" in peer(server, "list").stdout
    assert peer(server, "remove", "MINE").returncode == 0
    wait_until(lambda: not is_let_in(server, "MINE"), 5, "the peer to be forgotten")
    gone = peer(server, "remove", "MINE")
    assert gone.returncode == 1
    assert "no peer MINE" in gone.stderr


def test_what_is_wrong_with_a_peer_is_said(server):
    wrong = peer(server, "add", "MINE", "127.0.0.1", "70000")
    assert wrong.returncode == 2
    assert "port" in wrong.stderr
    assert peer(server, "add", "MINE", "--from", "10.0.0.0/40").returncode == 2
    assert peer(server, "add", "MINE", "--service", "print").returncode == 2
    unknown = peer(server, "test", "NOBODY")
    assert unknown.returncode == 2
    assert "peer list" in unknown.stderr


def test_a_peer_is_asked_whether_it_answers(server):
    own = ("127.0.0.1", str(server.dicom_port))
    assert peer(server, "add", "FILEROOM", *own).returncode == 0
    answered = peer(server, "test", "FILEROOM")
    assert answered.returncode == 0
    assert "answered" in answered.stdout
    told = json.loads(peer(server, "test", "FILEROOM", "--json").stdout)
    assert told["answered"] is True
    assert peer(server, "add", "DEAF", "127.0.0.1", "1").returncode == 0
    silent = peer(server, "test", "DEAF")
    assert silent.returncode == 1
    assert "refuses" in silent.stderr
    told = peer(server, "test", "DEAF", "--json")
    assert (told.returncode, json.loads(told.stdout)["answered"]) == (1, False)
