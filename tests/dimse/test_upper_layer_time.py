"""How long anything may take: ARTIM, idleness, PDUs that dribble, peers that do not read."""

import contextlib
import socket
import threading
import time

import pytest

from dimse.association import ServedAssociation
from dimse.upper_layer import SteadyTimer
from tests.conftest import wait_until
from tests.dimse import wire as w
from tests.dimse.wire import Wire

ARTIM_S, PDU_S, IDLE_S = 1.0, 1.5, 4.0
BODY = w.small_ct("1.2.3.4.1", "1.2.3.4") + bytes(2000)


@pytest.fixture(scope="module", params=["direct", "stock"])
def server(request, tmp_path_factory):
    settings = {
        "association_timeout_s": ARTIM_S,
        "network_timeout_s": PDU_S,
        "idle_timeout_s": IDLE_S,
    }
    with w.serving(
        tmp_path_factory.mktemp(request.param), request.param, **settings
    ) as running:
        yield running


def took(act) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def dribble(wire: Wire, raw: bytes, pause_s: float = 0.1) -> None:
    """Send byte by byte until the other side has had enough."""
    for at in range(len(raw)):
        try:
            wire.send(raw[at : at + 1])
        except ConnectionError:
            return
        wire.socket.settimeout(pause_s)
        try:
            wire.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
        except ConnectionError:
            pass
        break
    wire.socket.settimeout(20)


@pytest.mark.parametrize("raw", [b"", w.request()[:50]], ids=["nothing", "half a request"])
def test_artim_closes_a_connection_that_brings_no_request(server, raw):
    with Wire(server.port) as wire:
        wire.send(raw)
        seconds = took(lambda: wire.socket.recv(1000))
    assert ARTIM_S * 0.9 < seconds < ARTIM_S + 5
    w.leaves_nothing(server)


def test_artim_is_for_the_whole_request_however_it_dribbles(server):
    with Wire(server.port) as wire:
        seconds = took(lambda: dribble(wire, w.request()))
    assert ARTIM_S * 0.9 < seconds < ARTIM_S + 5
    w.leaves_nothing(server)


@pytest.mark.parametrize(
    "raw",
    [
        w.request(called="SOMEBODY"),
        w.pdu(0x0B),
        w.request() + w.pdu(w.RELEASE_RQ),
        w.request() + w.pdu(0x0B),
    ],
    ids=["rejected", "aborted", "released", "aborted later"],
)
def test_artim_closes_what_the_peer_leaves_open(server, raw):
    with Wire(server.port) as wire:
        wire.send(raw)

        def until_closed() -> None:
            while wire.pdu()[0]:
                pass

        seconds = took(until_closed)
    assert ARTIM_S * 0.9 < seconds < ARTIM_S + 5
    w.leaves_nothing(server)


def test_an_association_may_rest_but_not_for_ever(server):
    with Wire(server.port) as wire:
        wire.associate()
        assert wire.silence(PDU_S + 0.5)
        wire.send(w.echo())
        assert wire.status() == 0
        seconds = took(lambda: wire.socket.recv(1, socket.MSG_PEEK))
        assert wire.pdu() == (w.ABORT, bytes(4))
    assert IDLE_S * 0.9 < seconds < IDLE_S + 5
    w.leaves_nothing(server)


@pytest.mark.parametrize("cut", [3, 8, 60, 300, 1000])
def test_a_pdu_that_stops_half_way_ends_the_association(server, cut):
    raw = w.store("1.2.3.4.1", BODY)
    with Wire(server.port) as wire:
        wire.associate().send(raw[:cut])
        seconds = took(lambda: wire.socket.recv(1, socket.MSG_PEEK))
        assert wire.pdu() == (w.ABORT, bytes([0, 0, 2, 0]))
    assert PDU_S * 0.9 < seconds < PDU_S + 5
    w.leaves_nothing(server)


def test_a_pdu_that_dribbles_has_a_time_to_be_whole(server):
    raw = w.store("1.2.3.4.1", BODY)
    with Wire(server.port) as wire:
        wire.associate().send(raw[:300])
        seconds = took(lambda: dribble(wire, raw[300:]))
        assert wire.pdu() == (w.ABORT, bytes([0, 0, 2, 0]))
    assert PDU_S * 0.9 < seconds < PDU_S + 5
    w.leaves_nothing(server)


def test_a_message_that_stops_between_pdus_ends_sooner_than_rest_would(server):
    raw = w.store("1.2.3.4.1", BODY, size=1024)
    between = len(w.messages.pdu(w.CT_ID, 3, w.store_command("1.2.3.4.1"))) + 1024 + 6
    with Wire(server.port) as wire:
        wire.associate().send(raw[:between])
        seconds = took(lambda: wire.socket.recv(1, socket.MSG_PEEK))
    assert PDU_S * 0.9 < seconds < IDLE_S - 0.2
    w.leaves_nothing(server)


def test_dribbling_senders_disturb_nobody_and_get_through(tmp_path):
    """A byte a second, as far as the limits go: their message is whole in time."""
    raw = w.echo()
    with w.serving(tmp_path, network_timeout_s=60) as server:
        dribblers = [Wire(server.port).associate() for _ in range(8)]
        stop = threading.Event()

        def slowly() -> None:
            for at in range(len(raw) - 1):
                for wire in dribblers:
                    wire.send(raw[at : at + 1])
                if stop.wait(0.4):
                    break
            for wire in dribblers:
                wire.send(raw[at + 1 :])

        thread = threading.Thread(target=slowly)
        thread.start()
        try:
            for number in range(10):
                uid = f"1.2.3.4.{number}"
                with Wire(server.port) as wire:
                    wire.associate().send(w.store(uid, w.small_ct(uid, "1.2.3.44")) + w.find(2))
                    assert wire.status() == 0
                    assert wire.status() == 0xFF00
            # Nobody waited for them: they are still at it.
            assert thread.is_alive()
            assert all(wire.silence(0.01) for wire in dribblers)
        finally:
            stop.set()
            thread.join()
        for wire in dribblers:
            assert wire.status() == 0
            wire.close()


def narrow(server, wire: Wire) -> None:
    """Make the buffers on the way so small that whoever does not read is felt at once."""
    association = wait_until(
        lambda: next((one for one in server._associations if one.is_established), None)
    )
    association.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    association.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def narrow_wire(server) -> Wire:
    wire = Wire(server.port)
    wire.socket.close()
    wire.socket = socket.socket()
    wire.socket.settimeout(20)
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    wire.socket.connect(("127.0.0.1", server.port))
    return wire


def test_a_peer_that_does_not_read_is_given_up(server):
    w.leaves_nothing(server)
    with narrow_wire(server) as wire:
        wire.associate()
        narrow(server, wire)
        raw = b"".join(w.echo(number + 1) for number in range(600))
        threading.Thread(target=send_quietly, args=(wire, raw)).start()
        began = time.monotonic()
        wait_until(lambda: w.all_ended(server), 20, "the end")
        assert time.monotonic() - began > PDU_S * 0.5


def send_quietly(wire: Wire, raw: bytes) -> None:
    with contextlib.suppress(OSError):
        wire.send(raw)


def test_a_peer_that_reads_only_when_it_has_sent_all_gets_its_answers(server):
    w.leaves_nothing(server)
    with narrow_wire(server) as wire:
        wire.associate()
        narrow(server, wire)
        wire.send(b"".join(w.echo(number + 1) for number in range(600)))
        assert [wire.status() for _ in range(600)] == [0] * 600


def test_a_long_operation_is_no_silence_of_the_peer(server, monkeypatch):
    dispatch = ServedAssociation._dispatch

    def at_length(self, msg, context, context_id):
        time.sleep(IDLE_S + 0.3)
        dispatch(self, msg, context, context_id)

    with Wire(server.port) as wire:
        wire.associate()
        monkeypatch.setattr(ServedAssociation, "_dispatch", at_length)
        wire.send(w.echo())
        assert wire.status() == 0
        monkeypatch.undo()
        wire.send(w.echo())
        assert wire.status() == 0


def test_another_thread_may_abort_an_association_that_rests(server):
    w.leaves_nothing(server)
    with Wire(server.port) as wire:
        wire.associate()
        association = wait_until(
            lambda: next((one for one in server._associations if one.is_established), None)
        )
        association.abort(block=False)
        assert took(lambda: wire.socket.recv(1, socket.MSG_PEEK)) < 2
        assert wire.pdu() == (w.ABORT, bytes(4))
    w.leaves_nothing(server)


def test_timers_do_not_care_for_the_clock(monkeypatch):
    timer = SteadyTimer(5)
    timer.start()
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert not timer.expired
    timer.timeout = 0
    assert timer.expired
    timer.stop()
    assert not timer.expired
