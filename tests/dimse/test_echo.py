"""`fileroom peer test`: a C-ECHO, or a diagnosis that a person can act on."""

import dataclasses
import socket

import pytest
from pynetdicom import AE, evt

from archive.config import Peer
from archive.errors import PeerError
from dimse.echo import echo
from tests.conftest import free_port

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def peer_that():
    """Start an application entity that answers C-ECHO with what it is told."""
    started = []

    def start(status=0x0000, *, supported=VERIFICATION, title="OTHER", called=False):
        entity = AE(title)
        entity.require_called_aet = called
        entity.add_supported_context(supported)
        server = entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_C_ECHO, lambda _event: status)],
        )
        started.append(server)
        return Peer(ae_title="OTHER", host="127.0.0.1", port=server.server_address[1])

    yield start
    for server in started:
        server.shutdown()


def test_a_peer_that_answers_tells_what_it_is(archive, peer_that):
    answer = echo(archive, peer_that())
    assert answer.implementation_version_name.startswith("PYNETDICOM")
    assert answer.maximum_pdu == 16382
    assert "PYNETDICOM" in str(answer)
    assert 0 < answer.answered_ms < 10_000


def test_nobody_there_is_said(archive):
    peer = Peer(ae_title="OTHER", host="127.0.0.1", port=free_port())
    with pytest.raises(PeerError, match="refuses"):
        echo(archive, peer)


def test_a_name_that_is_none_is_said(archive):
    with pytest.raises(PeerError, match="nowhere"):
        echo(archive, Peer(ae_title="OTHER", host="nowhere.invalid", port=104))


def test_a_rejected_title_is_said_in_words(archive, peer_that):
    peer = peer_that(title="ANOTHER", called=True)
    with pytest.raises(PeerError, match="called AE title"):
        echo(archive, peer)


def test_a_peer_without_verification_is_said(archive, peer_that):
    with pytest.raises(PeerError, match="context"):
        echo(archive, peer_that(supported=CT))


def test_another_status_than_success_is_said(archive, peer_that):
    with pytest.raises(PeerError, match="status 0122"):
        echo(archive, peer_that(0x0122))


def test_a_peer_that_only_calls_has_no_address(archive):
    with pytest.raises(PeerError, match="OTHER"):
        echo(archive, Peer(ae_title="OTHER"))


def test_a_port_where_no_dicom_is_spoken_is_said(archive):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        peer = Peer(ae_title="OTHER", host="127.0.0.1", port=listening.getsockname()[1])
        archive = _hurried(archive)
        with pytest.raises(PeerError, match="OTHER"):
            echo(archive, peer)


def _hurried(archive):
    dimse = archive.config.dimse.model_copy(update={"association_timeout_s": 0.5})
    config = archive.config.model_copy(update={"dimse": dimse})
    return dataclasses.replace(archive, config=config)
