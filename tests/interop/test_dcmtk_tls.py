"""DCMTK's programs against a running archive over TLS, with certificates and without."""

import shutil
import socket
import subprocess
import sys

import pytest

from tests.certificates import Authority
from tests.conftest import Served, free_port, wait_until, wheel_file

pytestmark = [
    pytest.mark.interop,
    pytest.mark.xdist_group("interop"),
    pytest.mark.skipif(
        shutil.which("storescu") is None,
        reason="NOT TESTED: DCMTK's programs are not installed (Debian package dcmtk)",
    ),
]
PASSWORD = "correct horse"
STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("other"), "Other CA")


@pytest.fixture(scope="module")
def scanner(authority):
    return authority.issue("scanner.example", kind="rsa")


@pytest.fixture(scope="module", params=["direct", "stock"])
def server(request, authority, tmp_path_factory):
    """Plain or TLS on one port, TLS alone with certificates asked for on another."""
    folder = tmp_path_factory.mktemp(request.param)
    sink, tls_port = free_port(), free_port()
    ours = authority.issue("localhost", file=f"fileroom-{request.param}", kind="rsa")
    (folder / "config.toml").write_text(
        f"""
[dimse]
tls = "optional"
tls_port = {tls_port}
tls_certificate = "{ours.certificate}"
tls_key = "{ours.key}"
tls_client_ca = "{authority.certificate}"
tls_client_certificates = "optional"
tls_peer_ca = "{authority.certificate}"

[[dimse.peers]]
ae_title = "SCANNER"
tls_subject = "CN=scanner.example,O=Test Hospital"

[[dimse.peers]]
ae_title = "SINK"
host = "localhost"
port = {sink}
calls_from = ["any"]
tls = true
"""
    )
    started = Served(folder, FILEROOM_DIMSE__ENGINE=request.param)
    started.start()
    started.sink_port, started.tls_port = sink, tls_port
    yield started
    assert started.stop() == 0


def run(program: str, *arguments: str, check: bool = True) -> str:
    ended = subprocess.run(
        [program, "-v", "-aec", "FILEROOM", *arguments],
        capture_output=True, text=True, errors="replace", timeout=60,
    )  # fmt: skip
    output = ended.stdout + ended.stderr
    if check:
        assert ended.returncode == 0, output
    return output


def anonymous(authority) -> list[str]:
    """TLS without a certificate of the client's."""
    return ["+tla", "+cf", str(authority.certificate)]


def known(authority, pair) -> list[str]:
    """TLS with one."""
    return ["+tls", str(pair.key), str(pair.certificate), "+cf", str(authority.certificate)]


def address(server, port: int | None = None) -> list[str]:
    return ["localhost", str(port or server.dicom_port)]


def logged(server, *texts: str) -> str:
    """The log, once it holds every text: it may be written after the client has gone."""

    def complete() -> str:
        log = (server.data_dir / "serve.log").read_text()
        return log if all(text in log for text in texts) else ""

    return wait_until(complete, what=f"{texts} in the log")


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_echoscu_in_each_profile_of_bcp_195(server, authority, scanner, profile):
    for port in (server.dicom_port, server.tls_port):
        for options in (anonymous(authority), known(authority, scanner)):
            output = run("echoscu", *options, profile, *address(server, port))
            assert "Received Echo Response (Success)" in output


def test_the_retired_profile_is_refused(server, authority, scanner):
    # TLS_RSA_WITH_AES_128_CBC_SHA, without forward secrecy.
    options = [*known(authority, scanner), "+pa"]
    output = run("echoscu", *options, *address(server), check=False)
    assert "Received Echo Response" not in output
    logged(server, "no cipher suite")


def test_a_port_for_tls_alone_refuses_plain_dicom(server):
    assert "Success" in run("echoscu", *address(server))
    output = run("echoscu", *address(server, server.tls_port), check=False)
    assert "Received Echo Response" not in output


def test_what_a_peer_sends_and_asks_over_tls_is_served(server, authority, scanner):
    options = [*known(authority, scanner), "-aet", "SCANNER"]
    for name in ("CT_small.dcm", "MR_small_implicit.dcm"):
        proposed = ["-xi"] if "implicit" in name else ["-xe"]
        run("storescu", *options, *proposed, *address(server), str(wheel_file(name)))
    output = run(
        "findscu", *options, "-S", "-k", "QueryRetrieveLevel=STUDY",
        "-k", "PatientName=comp*ct1", "-k", "StudyInstanceUID",
        *address(server, server.tls_port),
    )  # fmt: skip
    assert STUDY in output


def test_a_peer_with_another_certificate_or_none_is_rejected(server, authority, stranger):
    other = authority.issue("other.example", kind="rsa")
    for options in (known(authority, other), anonymous(authority), []):
        output = run("echoscu", *options, "-aet", "SCANNER", *address(server), check=False)
        assert "Calling AE Title Not Recognized" in output
    forged = stranger.issue("scanner.example", kind="rsa")
    expired = authority.issue("scanner.example", file="expired", days=-1, kind="rsa")
    for pair, why in ((forged, "local issuer"), (expired, "has expired")):
        options = [*known(authority, pair), "-aet", "SCANNER"]
        assert "Success" not in run("echoscu", *options, *address(server), check=False)
        logged(server, "association.refused", why)


def test_a_client_that_trusts_another_ca_leaves_and_the_log_says_why(server, stranger):
    output = run("echoscu", *anonymous(stranger), *address(server), check=False)
    assert "Success" not in output
    logged(server, "does not know the CA of our certificate")


def test_movescu_has_instances_sent_over_tls(server, authority, tmp_path):
    run("storescu", "-xe", *address(server), str(wheel_file("CT_small.dcm")))
    pair = authority.issue("localhost", file="sink", kind="rsa")
    # It asks for our certificate, and takes none of another CA.
    sink = subprocess.Popen(
        ["storescp", "-aet", "SINK", *known(authority, pair), "-od", tmp_path,
         str(server.sink_port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:

        def up() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", server.sink_port)) == 0

        wait_until(up, what="storescp")
        output = run(
            "movescu", "-S", "-aem", "SINK", "-k", "QueryRetrieveLevel=STUDY",
            "-k", f"StudyInstanceUID={STUDY}", *address(server),
        )  # fmt: skip
        assert "Received Final Move Response (Success)" in output
        assert wait_until(lambda: list(tmp_path.iterdir()), what="the instance")
        tested = server.command("peer", "test", "SINK")
        assert tested.returncode == 0
    finally:
        sink.kill()
        sink.wait()


def test_storescu_shows_a_user_over_tls(server, authority):
    made = subprocess.run(
        [sys.executable, "-m", "archive",
         "user", "add", "anna", "--right", "write", "--password-stdin"],
        env=server.environment, cwd=server.data_dir, input=f"{PASSWORD}\n",
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    file = str(wheel_file("693_J2KI.dcm"))
    show = [*anonymous(authority), "-xw", "-usr", "anna", "-pwd"]
    run("storescu", *show, PASSWORD, "-rsp", *address(server, server.tls_port), file)
    output = run("storescu", *show, "wrong horse", *address(server), file, check=False)
    assert "Rejected Permanent" in output
    log = logged(server, "user:anna", "association.rejected")
    assert PASSWORD not in log
    assert "wrong horse" not in log
