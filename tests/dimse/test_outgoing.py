"""Associations the archive asks for: what can go wrong with a peer, in words."""

import contextlib
import select
import socket
import struct
import threading
import time

import pytest
from pynetdicom import AE, evt
from pynetdicom.acse import ACSE
from pynetdicom.presentation import build_context

from archive.config import DimseSection, Peer
from archive.errors import PeerError
from dimse.dialing import dial
from dimse.outgoing import connect
from tests.conftest import free_port, make_config, running_archive, wait_until

VERIFICATION = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@pytest.fixture
def asking(engine, tmp_path):
    """An archive that asks for associations, and does not wait long."""
    section = DimseSection(
        port=0, engine=engine, association_timeout_s=1.5, network_timeout_s=1.5
    )
    with running_archive(make_config(tmp_path / "data", dimse=section)) as archive:
        yield archive


@contextlib.contextmanager
def scp(*contexts, title="PEER", handlers=(), **settings):
    """A pynetdicom application entity that accepts; yields how it is known."""
    entity = AE(title)
    for name, value in settings.items():
        setattr(entity, name, value)
    for context in contexts or ((VERIFICATION,),):
        entity.add_supported_context(*context)
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=list(handlers))
    try:
        yield Peer(ae_title=title, host="127.0.0.1", port=port)
    finally:
        server.shutdown()


@contextlib.contextmanager
def raw_server(act):
    """A TCP server that does ``act`` with each connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                act(connection, ended)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Peer(ae_title="PEER", host="127.0.0.1", port=listening.getsockname()[1])
    finally:
        ended.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def refusal(archive, peer, *contexts) -> str:
    proposed = [build_context(*context) for context in contexts or ((VERIFICATION,),)]
    with pytest.raises(PeerError) as raised:
        connect(archive, peer, proposed)
    return str(raised.value)


def test_an_association_is_had_used_and_released(asking):
    ended = []
    handlers = [(evt.EVT_RELEASED, lambda event: ended.append("released"))]
    with scp(handlers=handlers) as peer:
        with connect(asking, peer, [build_context(VERIFICATION)]) as outgoing:
            assert outgoing.association.send_c_echo().Status == 0
            assert outgoing.association.send_c_echo(msg_id=2).Status == 0
            assert outgoing.maximum_pdu == 16382
            connection = outgoing.association.connection
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.fileno() == -1
        wait_until(lambda: ended == ["released"], what="the release")


def test_an_error_inside_aborts(asking):
    ended = []
    handlers = [(evt.EVT_ABORTED, lambda event: ended.append("aborted"))]
    with scp(handlers=handlers) as peer:
        with (
            pytest.raises(ZeroDivisionError),
            connect(asking, peer, [build_context(VERIFICATION)]),
        ):
            raise ZeroDivisionError
        wait_until(lambda: ended == ["aborted"], what="the abort")


def test_a_peer_that_only_calls_is_not_called(asking):
    assert "only calls" in refusal(asking, Peer(ae_title="PEER"))


def test_a_name_that_nobody_has_is_said_so(asking):
    peer = Peer(ae_title="PEER", host="nobody.invalid", port=104)
    assert refusal(asking, peer).startswith("host 'nobody.invalid' is not resolved")


def test_a_port_where_nothing_listens_is_said_so(asking):
    port = free_port()
    peer = Peer(ae_title="PEER", host="127.0.0.1", port=port)
    said = refusal(asking, peer)
    assert said == f"PEER at 127.0.0.1:{port} refuses connections: nothing listens there"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"require_called_aet": True}, "called AE title 'PEER' not recognized"),
        ({"require_calling_aet": ["SOMEBODY"]}, "calling AE title 'FILEROOM' not recognized"),
    ],
)
def test_a_rejection_is_told_in_words(asking, settings, said):
    with scp(title="OTHER", **settings) as peer:
        refused = refusal(asking, peer.model_copy(update={"ae_title": "PEER"}))
    assert "rejects the association" in refused
    assert said in refused
    assert "result 1, source 1, reason" in refused


def test_a_rejection_for_now_is_told_as_that(asking):
    with (
        scp(maximum_associations=1) as peer,
        connect(asking, peer, [build_context(VERIFICATION)]),
    ):
        said = refusal(asking, peer)
    assert "for now: local limit exceeded" in said


def test_a_peer_that_takes_no_context_is_told_as_that(asking):
    with scp() as peer, pytest.raises(PeerError, match=f"accepts none .* {FIND}") as raised:
        connect(asking, peer, [build_context(FIND)])
    assert raised.value.unaccepted


def test_a_peer_that_never_answers_is_given_up(asking):
    def hang(connection, ended):
        connection.recv(4096)
        ended.wait(20)

    with raw_server(hang) as peer:
        assert "does not answer the association request within 1.5 s" in refusal(asking, peer)


def test_a_peer_that_hangs_up_is_told_as_that(asking):
    with raw_server(lambda connection, ended: connection.recv(4096)) as peer:
        assert "aborts or closes when asked for an association" in refusal(asking, peer)


@pytest.mark.parametrize("reset", [False, True])
def test_a_peer_that_hangs_up_before_it_is_asked_is_told_as_that(asking, monkeypatch, reset):
    dialled = threading.Event()

    def hang_up(connection, ended):
        dialled.wait(5)  # before that it would not even be reached
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def dialled_too_late(*args, **keywords):
        connection = dial(*args, **keywords)
        dialled.set()
        waiting = select.poll()
        waiting.register(connection, select.POLLRDHUP)
        assert waiting.poll(5000)
        return connection

    def ask_too_late(acse):
        time.sleep(0.1)  # the thread of the stock engine sees the end before it is asked
        send_request(acse)

    send_request = ACSE.send_request
    monkeypatch.setattr("dimse.outgoing.dial", dialled_too_late)
    monkeypatch.setattr(ACSE, "send_request", ask_too_late)
    with raw_server(hang_up) as peer:
        assert "aborts or closes when asked for an association" in refusal(asking, peer)


def test_a_peer_that_speaks_something_else_is_told_as_that(asking):
    def speak(connection, ended):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.recv(4096)

    with raw_server(speak) as peer:
        assert "does it speak DICOM on this port" in refusal(asking, peer)


def test_nothing_is_left_behind_by_any_of_these(asking):
    before = threading.active_count()
    with scp() as peer:
        for _ in range(3):
            with connect(asking, peer, [build_context(VERIFICATION)]) as outgoing:
                assert outgoing.association.send_c_echo().Status == 0
            refusal(asking, peer, (FIND,))
            refusal(asking, Peer(ae_title="PEER", host="127.0.0.1", port=free_port()))
    wait_until(lambda: threading.active_count() <= before, what="threads to end")
