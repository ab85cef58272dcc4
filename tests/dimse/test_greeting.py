"""An association that only verifies has the same answers without a thread as with one."""

import contextlib
import errno
import socket
import struct
import threading
import time

import pytest

from archive.config import Peer
from tests.conftest import wait_until
from tests.dimse.wire import (
    ABORT,
    AC,
    COMMAND,
    ECHO_ID,
    FIND,
    IMPLICIT,
    LAST,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    Wire,
    all_ended,
    data,
    echo,
    echo_command,
    echoes,
    find,
    leaves_nothing,
    pdu,
    request,
    serving,
    value,
)

# Who calls, as the settings know it.
PEER = Peer(ae_title="WIRE", calls_from=("any",))
ONLY_ECHO = ((ECHO_ID, VERIFICATION, IMPLICIT),)
REQUEST = request(contexts=ONLY_ECHO)
RELEASE = pdu(RELEASE_RQ)
WHOLE = echo(1)
# What is sent after an A-ASSOCIATE-RQ that was accepted before.
CONVERSATIONS = {
    "nothing": b"",
    "echo": echo(1) + RELEASE,
    "echoes": echo(1) + echo(2) + echo(65535) + RELEASE,
    "release": RELEASE,
    "release-with-a-reserved-byte": pdu(RELEASE_RQ, b"\1\2\3\4"),
    "release-of-another-length": pdu(RELEASE_RQ, bytes(8)),
    "release-twice": RELEASE + RELEASE,
    "echo-after-release": RELEASE + echo(1),
    "request-after-release": RELEASE + REQUEST,
    "nonsense-after-release": RELEASE + bytes(64),
    "abort": echo(1) + pdu(ABORT),
    "request-again": echo(1) + REQUEST,
    "unknown-pdu": echo(1) + pdu(0x55),
    "too-long": echo(1) + struct.pack(">BxI", 4, 1 << 30),
    "other-context": data(value(3, COMMAND | LAST, echo_command())),
    "in-fragments": data(value(ECHO_ID, COMMAND, echo_command()[:20]))
    + data(value(ECHO_ID, COMMAND | LAST, echo_command()[20:]))
    + RELEASE,
    "two-values": data(
        value(ECHO_ID, COMMAND, echo_command()[:20]),
        value(ECHO_ID, COMMAND | LAST, echo_command()[20:]),
    )
    + RELEASE,
    "data-first": data(value(ECHO_ID, LAST, b"what")),
    "empty-value": data(b""),
    "short-value": data(b"\0\0\0\1\1"),
    "value-past-the-end": data(struct.pack(">IBB", 500, ECHO_ID, 3) + echo_command()),
    "not-a-command": data(value(ECHO_ID, COMMAND | LAST, b"\1\2\3\4\5\6\7\10\11")),
    "a-search": find(1),
    "an-echo-with-a-data-set": data(
        value(ECHO_ID, COMMAND | LAST, echo_command().replace(b"\1\1", b"\0\0"))
    ),
    "an-answer": echo(1, field=0x8030) + RELEASE,
    "many": b"".join(echo(n) for n in range(1, 200)) + RELEASE,
    "long": data(value(ECHO_ID, COMMAND | LAST, echo_command() + bytes(3000))),
}


def said(server, conversation: bytes, cuts=(), first: bytes = REQUEST) -> bytes:
    """All that a server says from the request to the end of the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(first)
        header = connection.recv(6, socket.MSG_WAITALL)
        answer = header + connection.recv(int.from_bytes(header[2:6]), socket.MSG_WAITALL)
        for begin, end in zip((0, *cuts), (*cuts, len(conversation)), strict=True):
            with contextlib.suppress(OSError):
                connection.sendall(conversation[begin:end])
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
        return answer


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("greeting")
    with serving(folder / "greeting") as greeting, serving(folder / "not") as other:
        other._greeter.welcome = other._begin  # an association for each
        for server in (greeting, other):
            echoes_alone(server)  # from now on the request is known
        yield greeting, other


def echoes_alone(server) -> None:
    with Wire(server.port) as wire:
        wire.associate(contexts=ONLY_ECHO).send(echo(7))
        assert wire.status() == 0
        wire.send(RELEASE)
        assert wire.pdu()[0] == RELEASE_RP


def begun(server, monkeypatch) -> list:
    """The associations, objects and all, that a server makes from now on."""
    made = []
    usual = server._association

    def association(guest):
        made.append(guest)
        return usual(guest)

    monkeypatch.setattr(server, "_association", association)
    return made


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_is_said_is_what_the_association_says(servers, name):
    direct, other = servers
    conversation = CONVERSATIONS[name]
    expected = said(other, conversation)
    assert expected[0] == AC
    assert said(direct, conversation) == expected
    leaves_nothing(direct)
    assert direct._presence.count() == 0
    echoes(direct)


@pytest.mark.parametrize("cut", range(1, len(WHOLE + RELEASE)))
def test_a_pdu_may_come_in_pieces(servers, cut):
    direct, _ = servers
    assert said(direct, WHOLE + RELEASE, [cut]) == said(direct, WHOLE + RELEASE)


def test_who_only_verifies_needs_no_association_object(tmp_path, monkeypatch):
    with serving(tmp_path) as direct:
        made = begun(direct, monkeypatch)
        echoes_alone(direct)
        assert len(made) == 1
        threads = threading.active_count()
        for _ in range(20):
            direct._archive.peers.find("SOMEBODY")
            echoes_alone(direct)
        assert threading.active_count() <= threads
        # But for those of a moment in which the index had to be asked who is a peer.
        assert len(made) < 5
        leaves_nothing(direct)
        assert direct._presence.count() == 0


def test_who_stays_longer_gets_a_thread(tmp_path, monkeypatch):
    with serving(tmp_path) as direct:
        echoes_alone(direct)
        made = begun(direct, monkeypatch)
        with Wire(direct.port) as wire, Wire(direct.port) as silent:
            direct._archive.peers.find("SOMEBODY")
            wire.associate(contexts=ONLY_ECHO).send(echo(7))
            assert wire.status() == 0
            wait_until(lambda: len(made) == 2, 15, "two associations in threads")
            assert direct._presence.count() == 1
            wire.send(echo(8))
            assert wire.status() == 0
            wire.send(RELEASE)
            assert wire.pdu()[0] == RELEASE_RP
            silent.associate(contexts=ONLY_ECHO).send(RELEASE)
            assert silent.pdu()[0] == RELEASE_RP
        leaves_nothing(direct)
        assert direct._presence.count() == 0


def test_who_does_not_close_after_the_release_is_waited_for_and_then_closed(tmp_path):
    with serving(tmp_path, association_timeout_s=2) as direct:
        echoes_alone(direct)
        with Wire(direct.port) as wire:
            wire.associate(contexts=ONLY_ECHO).send(RELEASE)
            assert wire.pdu()[0] == RELEASE_RP
            assert wire.silence(1.2)
            assert wire.is_closed()


def test_who_is_here_when_the_server_stops_is_waited_for(tmp_path):
    with serving(tmp_path) as direct:
        echoes_alone(direct)
        with Wire(direct.port) as wire:
            wire.associate(contexts=ONLY_ECHO)
            direct.stop()
            wire.send(echo(8))
            assert wire.status() == 0
            wire.send(RELEASE)
            assert wire.pdu()[0] == RELEASE_RP


def test_who_is_let_in_is_decided_each_time(tmp_path):
    peers = (Peer(ae_title="HERE", host="localhost", max_associations=1),)
    here = request(calling="HERE", contexts=ONLY_ECHO)
    with serving(tmp_path, peers=peers, strangers=()) as direct:
        for _ in range(3):
            assert said(direct, WHOLE + RELEASE, first=here)[0] == AC
            leaves_nothing(direct)
        assert said(direct, b"")[0] == 3
        with Wire(direct.port) as wire:
            wire.send(here)
            assert wire.pdu()[0] == AC
            assert said(direct, b"", first=here)[0] == 3
        leaves_nothing(direct)


def test_more_than_verification_is_not_answered_here(tmp_path, monkeypatch):
    contexts = (*ONLY_ECHO, (3, FIND, IMPLICIT))
    with serving(tmp_path) as direct:
        made = begun(direct, monkeypatch)
        for number in range(3):
            with Wire(direct.port) as wire:
                wire.associate(contexts=contexts).send(echo(7))
                assert wire.status() == 0
            assert len(made) == number + 1
        wait_until(lambda: all_ended(direct), 15, "the end")


def test_a_crowd_is_not_kept_waiting_by_the_silent(tmp_path, monkeypatch):
    monkeypatch.setattr("dimse.greeting._MOST_GUESTS", 4)
    with serving(tmp_path) as direct, contextlib.ExitStack() as silent:
        for _ in range(8):
            silent.enter_context(Wire(direct.port))
        for _ in range(3):
            echoes_alone(direct)
            echoes(direct)


def test_a_peer_of_the_settings_is_greeted_though_nobody_was_looked_up(tmp_path, monkeypatch):
    with serving(tmp_path, "direct", peers=(PEER,), strangers=()) as direct:
        echoes_alone(direct)
        made = begun(direct, monkeypatch)
        time.sleep(1.1)  # longer than what is known of other peers holds
        echoes_alone(direct)
        assert not made


def test_a_connection_that_cannot_be_accepted_ends_nothing(tmp_path, monkeypatch):
    with serving(tmp_path) as direct:
        failures = [errno.EMFILE, errno.ENFILE]
        accept = socket.socket.accept

        def failing(listening):
            if failures:
                raise OSError(failures.pop(), "too many open files")
            return accept(listening)

        monkeypatch.setattr(socket.socket, "accept", failing)
        echoes_alone(direct)
        assert not failures
