"""The same engines over TLS sockets, where ``select`` does not tell what can be read."""

import contextlib
import shutil
import ssl
import subprocess

import pytest

from archive.auth.principal import OPERATOR
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


@pytest.fixture(params=["direct", "stock"])
def server(request, tmp_path, certificate):
    files = {
        "tls_certificate": str(certificate / "cert.pem"),
        "tls_key": str(certificate / "key.pem"),
    }
    with w.serving(
        tmp_path, request.param, network_timeout_s=3, tls="required", **files
    ) as running:
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
