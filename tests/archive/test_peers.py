"""Peers of the settings and of the index, as every process sees them."""

import pytest

from archive.auth.principal import ANONYMOUS, OPERATOR
from archive.config import DimseSection, Peer, Service
from archive.errors import ForbiddenError, InvalidRequestError
from archive.peers import PeerService
from storage.index.peers import PeerRows
from tests.conftest import make_config, running_archive

NORTH = Peer(ae_title="NORTH", host="192.0.2.1", port=104, site="north")


@pytest.fixture
def peers(tmp_path):
    config = make_config(tmp_path, dimse=DimseSection(port=0, peers=(NORTH,)))
    with running_archive(config) as archive:
        yield archive.peers


def test_what_is_added_is_found_with_all_it_was_told(peers):
    added = Peer(
        ae_title=" SOUTH ",
        host="192.0.2.2",
        port=11112,
        services=(Service.STORE,),
        calls_from=("192.0.2.0/24", "any"),
        tls=True,
        tls_subject="CN=south",
        max_associations=3,
        transfer_syntaxes=("1.2.840.10008.1.2",),
    )
    assert peers.add(OPERATOR, added) is False
    assert peers.find("SOUTH") == added
    assert peers.find("SOUTH ").ae_title == "SOUTH"
    assert peers.find("south") is None
    assert [one.ae_title for one in peers.all()] == ["NORTH", "SOUTH"]


def test_adding_again_replaces_and_removing_forgets(peers):
    peers.add(OPERATOR, Peer(ae_title="SOUTH", host="192.0.2.2"))
    assert peers.add(OPERATOR, Peer(ae_title="SOUTH", host="192.0.2.3")) is True
    assert peers.find("SOUTH").host == "192.0.2.3"
    assert peers.remove(OPERATOR, "SOUTH") is True
    assert peers.remove(OPERATOR, "SOUTH") is False
    assert peers.find("SOUTH") is None


def test_peers_of_the_settings_are_changed_there(peers):
    assert peers.is_configured("NORTH ")
    with pytest.raises(InvalidRequestError, match="settings"):
        peers.add(OPERATOR, NORTH)
    with pytest.raises(InvalidRequestError, match="settings"):
        peers.remove(OPERATOR, "NORTH")


def test_only_who_administers_may_change_them(peers):
    with pytest.raises(ForbiddenError):
        peers.add(ANONYMOUS, Peer(ae_title="SOUTH"))
    with pytest.raises(ForbiddenError):
        peers.remove(ANONYMOUS, "SOUTH")


def test_another_process_knows_of_it_within_a_second(archive, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("archive.peers.time.monotonic", lambda: now[0])
    other = PeerService(archive.config, PeerRows(archive.engine))
    assert other.find("SOUTH") is None
    archive.peers.add(OPERATOR, Peer(ae_title="SOUTH"))
    now[0] += 1.1
    assert other.find("SOUTH") is not None


def test_a_rebuilt_index_still_knows_them(config):
    from archive.assembly import finish_rebuild, rebuilder

    with running_archive(config) as archive:
        archive.peers.add(OPERATOR, Peer(ae_title="SOUTH", host="192.0.2.2"))
    worker = rebuilder(config)
    worker.rebuild(progress=None)
    finish_rebuild(config, worker)
    with running_archive(config) as archive:
        assert archive.peers.find("SOUTH").host == "192.0.2.2"


@pytest.mark.parametrize("wrong", ["192.0.2.0/33", "somewhere", ""])
def test_a_network_must_be_one(wrong):
    with pytest.raises(ValueError, match="calls_from"):
        Peer(ae_title="SOUTH", calls_from=(wrong,))
