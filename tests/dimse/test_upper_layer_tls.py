"""The same engines over TLS sockets, where ``select`` does not tell what can be read."""

import contextlib
import queue
import shutil
import socket
import ssl
import subprocess
from types import SimpleNamespace

import pytest
from pynetdicom.association import Association

from archive.auth.principal import OPERATOR
from dimse.connection import Connection
from dimse.server import DicomServer
from tests.dimse import wire as w
from tests.dimse.test_upper_layer import padding
from tests.dimse.wire import Wire


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("NOT TESTED: openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return folder


def wrapped(connection: socket.socket, certificate) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)


@pytest.fixture(params=["direct", "stock"])
def server(request, tmp_path, certificate, monkeypatch):
    make = DicomServer._association
    run = Association.run_reactor

    def association(self, connection, *others):
        return make(self, wrapped(connection, certificate), *others)

    def run_reactor(self):
        self.dul.connection.handshake(w.time.monotonic() + 10)
        run(self)

    monkeypatch.setattr(DicomServer, "_association", association)
    monkeypatch.setattr(Association, "run_reactor", run_reactor)
    with w.serving(tmp_path, request.param, network_timeout_s=3) as running:
        yield running


class SecureWire(Wire):
    def __init__(self, port: int) -> None:
        super().__init__(port)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket)


def test_everything_in_one_record_is_read(server):
    """What TLS has deciphered waits in no socket: a ``select`` would wait for ever."""
    with SecureWire(server.port) as wire:
        wire.associate().send(w.echo(1) + w.echo(2) + w.echo(3) + w.pdu(w.RELEASE_RQ))
        assert [wire.status() for _ in range(3)] == [0, 0, 0]
        assert wire.pdu()[0] == w.RELEASE_RP
    w.leaves_nothing(server)


def test_a_large_instance_and_a_find_go_through(server):
    body = w.small_ct("1.2.3.1.1", "1.2.3.1") + padding(12 * 1024**2)
    with SecureWire(server.port) as wire:
        wire.associate().send(w.store("1.2.3.1.1", body, size=131072))
        assert wire.status() == 0
        wire.send(w.find(2))
        assert wire.status() == 0xFF00
        assert wire.status() == 0
    assert server._archive.changes.totals(OPERATOR).instances == 1
    w.leaves_nothing(server)


def test_half_a_pdu_in_a_record_of_its_own_ends_in_time(server):
    with SecureWire(server.port) as wire:
        wire.associate().send(w.echo()[:20])
        assert wire.pdu() == (w.ABORT, bytes([0, 0, 2, 0]))
    w.leaves_nothing(server)


def test_both_may_send_at_once(server):
    raw = b"".join(w.echo(number + 1) for number in range(400))
    with SecureWire(server.port) as wire:
        wire.associate().send(raw)
        assert [wire.status() for _ in range(400)] == [0] * 400


def test_who_does_not_speak_tls_is_let_go(server):
    with Wire(server.port) as wire:
        wire.send(w.request())
        with contextlib.suppress(ConnectionResetError):
            while wire.socket.recv(1000):
                pass  # an alert of TLS, or nothing, and then the end
    w.leaves_nothing(server)


def test_a_handshake_that_never_comes_has_an_end(certificate):
    ours, theirs = socket.socketpair()

    nobody = SimpleNamespace(dul=SimpleNamespace(event_queue=queue.Queue()))
    connection = Connection(nobody, wrapped(ours, certificate), timeout_s=1)
    with pytest.raises(TimeoutError):
        connection.handshake(w.time.monotonic() + 0.2)
    connection._shutdown_socket()
    theirs.close()
