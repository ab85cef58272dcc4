"""TLS under DICOM (PS3.15 B.12): who is let in, who is refused and why, on both engines."""

import contextlib
import socket
import ssl
import time
import warnings

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.presentation import build_context

from archive.config import ArchiveSection, Config, DimseSection, Peer
from archive.errors import PeerError
from dimse.outgoing import connect as outgoing_association
from dimse.tls import TlsSubject, call_securely, client_context, tls_fault
from tests.builders import dataset, part10
from tests.certificates import Authority
from tests.conftest import make_config, running_archive, wait_until
from tests.dimse.conftest import running_dicom

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("other"), "Other CA")


@pytest.fixture(scope="module")
def ours(authority):
    return authority.issue("fileroom.example", dns=("localhost",), kind="rsa")


@pytest.fixture
def config(tmp_path, engine, ours, authority):
    """Settings with TLS; keywords change them."""

    def make(**changes) -> Config:
        settings = {
            "engine": engine,
            "network_timeout_s": 10,
            "association_timeout_s": 10,
            "tls": "optional",
            "tls_certificate": str(ours.certificate),
            "tls_key": str(ours.key),
            "tls_client_ca": str(authority.certificate),
        }
        place = ArchiveSection(
            data_dir=tmp_path / "data", keep_free_bytes=0, drain_timeout_s=0.5
        )
        return make_config(
            place.data_dir, archive=place, dimse=DimseSection(**(settings | changes))
        )

    return make


def client(authority, pair=None, **limits) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if pair is not None:
        context.load_cert_chain(*pair.both)
    for name, value in limits.items():
        setattr(context, name, value)
    return context


def call(port, context=None, *contexts, calling="TEST", **more):
    """Associate, over TLS with a context."""
    wanted = contexts or ((VERIFICATION,),)
    return AE(calling).associate(
        "127.0.0.1",
        port,
        [build_context(*one) for one in wanted],
        ae_title="FILEROOM",
        tls_args=(context, "localhost") if context else None,
        **more,
    )


def echoes(port, context=None, **more) -> bool:
    association = call(port, context, **more)
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return "Status" in status and status.Status == 0


def reason_of(caplog, event="association.refused") -> str:
    def reasons():
        return [record.reason for record in caplog.records if record.message == event]

    return wait_until(reasons, what=event)[-1]


# -- who is let in -----------------------------------------------------------------------------


def test_one_port_speaks_tls_with_whoever_begins_it(config, authority):
    with running_dicom(config()) as server:
        assert echoes(server.port, client(authority))
        assert echoes(server.port)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(config, authority, version):
    with running_dicom(config()) as server:
        assert echoes(server.port, client(authority, maximum_version=version))


def test_megabytes_go_both_ways_and_stay_what_they_are(config, authority):
    sent = dataset("1.2.3", "1.2.3.4", "1.2.3.4.5", SOPClassUID=CT, Rows=1024, Columns=2048)
    sent.BitsAllocated = sent.BitsStored = 16
    sent.PixelData = bytes(range(256)) * (1024 * 2048 * 2 // 256)
    part10(sent)
    got = []

    def keep(event):
        got.append(event.dataset)
        return 0

    with running_dicom(config()) as server:
        association = call(
            server.port,
            client(authority),
            (CT, [ExplicitVRLittleEndian]),
            (GET,),
            ext_neg=[build_role(CT, scu_role=True, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, keep)],
        )
        assert association.send_c_store(sent).Status == 0
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "STUDY"
        wanted.StudyInstanceUID = sent.StudyInstanceUID
        statuses = [status.Status for status, _ in association.send_c_get(wanted, GET)]
        association.release()
    assert statuses[-1] == 0
    assert got[0].PixelData == sent.PixelData


def test_requests_that_share_a_tls_record_are_all_answered(config, authority):
    from pynetdicom.dimse_messages import C_ECHO_RQ
    from pynetdicom.dimse_primitives import C_ECHO
    from pynetdicom.pdu import P_DATA_TF

    answered = []
    with running_dicom(config()) as server:
        association = call(
            server.port,
            client(authority),
            evt_handlers=[(evt.EVT_DIMSE_RECV, lambda event: answered.append(event.message))],
        )
        request = b""
        for number in (1, 2, 3):
            echo = C_ECHO()
            echo.MessageID = number
            echo.AffectedSOPClassUID = VERIFICATION
            message = C_ECHO_RQ()
            message.primitive_to_message(echo)
            for primitive in message.encode_msg(1, 16384):
                pdu = P_DATA_TF()
                pdu.from_primitive(primitive)
                request += pdu.encode()
        association._reactor_checkpoint.clear()  # it takes answers it did not ask for ill
        association.dul.socket.socket.sendall(request)
        # The last may lie decrypted in the server where no `select` sees it.
        began = time.monotonic()
        wait_until(lambda: len(answered) == 3, what="three answers")
        assert time.monotonic() - began < 5
        association.release()


def test_a_second_port_speaks_nothing_but_tls(config, authority, caplog):
    with running_dicom(config(tls="off", tls_port=2762), tls_port=True) as server:
        assert echoes(server.tls_port, client(authority))
        assert not echoes(server.tls_port)
        assert "takes nothing else" in reason_of(caplog)
        assert echoes(server.port)


def test_plain_dicom_is_refused_where_tls_is_required(config, authority, caplog):
    with running_dicom(config(tls="required")) as server:
        assert not echoes(server.port)
        assert "does not speak TLS" in reason_of(caplog)
        assert echoes(server.port, client(authority))


def test_tls_on_a_plain_port_is_refused_and_the_log_says_so(config, authority, caplog):
    with running_dicom(config(tls="off")) as server:
        assert not echoes(server.port, client(authority))
        assert "[dimse] tls" in reason_of(caplog)
        assert echoes(server.port)


# -- who is not --------------------------------------------------------------------------------


def offered(port, context) -> ssl.SSLError | OSError | None:
    """What a client sees when it tries to speak TLS, and then DICOM."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as secured,
        ):
            secured.sendall(b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00")
            secured.recv(1)
    except OSError as error:
        return error
    return None


def test_tls_1_1_is_refused(config, authority, caplog):
    with running_dicom(config()) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = client(authority)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        error = offered(server.port, old)
    assert isinstance(error, ssl.SSLError)
    assert "PROTOCOL_VERSION" in (error.reason or "")
    assert "no TLS as new as 1.2" in reason_of(caplog)


@pytest.mark.parametrize(
    "suite", ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256"]
)
def test_suites_without_forward_secrecy_or_with_cbc_are_refused(
    config, authority, suite, caplog
):
    weak = client(authority, maximum_version=ssl.TLSVersion.TLSv1_2)
    weak.set_ciphers(suite)
    with running_dicom(config()) as server:
        assert isinstance(offered(server.port, weak), ssl.SSLError)
        assert "no cipher suite" in reason_of(caplog)


def test_a_client_without_a_certificate_is_refused_where_one_is_required(
    config, authority, caplog
):
    known = authority.issue("scanner")
    with running_dicom(config(tls_client_certificates="required")) as server:
        assert not echoes(server.port, client(authority))
        assert "showed no certificate" in reason_of(caplog)
        assert echoes(server.port, client(authority, known))


@pytest.mark.parametrize("policy", ["optional", "required"])
def test_certificates_of_another_ca_and_expired_ones_are_refused(
    config, authority, stranger, policy, caplog
):
    forged = stranger.issue("scanner", file=f"forged-{policy}")
    expired = authority.issue("scanner", file=f"expired-{policy}", days=-1)
    with running_dicom(config(tls_client_certificates=policy)) as server:
        assert not echoes(server.port, client(authority, forged))
        assert "unable to get local issuer" in reason_of(caplog)
        caplog.clear()
        assert not echoes(server.port, client(authority, expired))
        assert "expired" in reason_of(caplog)
        assert echoes(server.port, client(authority)) == (policy == "optional")


def test_a_peer_must_show_its_own_certificate(config, authority, caplog):
    caplog.set_level("INFO")
    peers = (
        Peer(ae_title="CT1", tls_subject="ct1.example"),
        Peer(ae_title="CT2", tls_subject="CN=ct2,O=Test Hospital"),
    )
    first = authority.issue("ct1", dns=("ct1.example",))
    second = authority.issue("ct2")
    settings = config(tls_client_certificates="optional", peers=peers)
    with running_dicom(settings) as server:
        assert echoes(server.port, client(authority, first), calling="CT1")
        assert echoes(server.port, client(authority, second), calling="CT2")
        accepted = [one for one in caplog.records if one.message == "association.accepted"]
        assert [one.tls_subject for one in accepted] == [
            "CN=ct1,O=Test Hospital",
            "CN=ct2,O=Test Hospital",
        ]
        for calling, pair in (("CT1", second), ("CT2", first)):
            assert not echoes(server.port, client(authority, pair), calling=calling)
            assert "must show a certificate" in reason_of(caplog, "association.rejected")
            caplog.clear()
        for context in (client(authority), None):
            assert not echoes(server.port, context, calling="CT1")
            assert "it showed none" in reason_of(caplog, "association.rejected")
            caplog.clear()


# -- those that take their time ----------------------------------------------------------------


@pytest.mark.parametrize("first", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
def test_a_client_that_says_nothing_more_is_dropped_and_disturbs_nobody(
    config, authority, first, caplog
):
    with (
        running_dicom(config(association_timeout_s=1)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as silent,
    ):
        silent.sendall(first)
        assert echoes(server.port, client(authority))
        silent.settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            while silent.recv(100):
                pass
        assert "in time" in reason_of(caplog)


def test_a_client_that_says_nothing_does_not_hold_up_the_end(config):
    with contextlib.ExitStack() as connected:
        with running_dicom(config(association_timeout_s=300)) as server:
            silent = connected.enter_context(
                socket.create_connection(("127.0.0.1", server.port))
            )
            wait_until(lambda: server._associations, what="the connection")
            began = time.monotonic()
        assert time.monotonic() - began < 4
        assert silent.recv(1) == b""


def test_a_connection_that_is_only_a_probe_is_no_warning(config, caplog):
    caplog.set_level("INFO")
    with running_dicom(config()) as server:
        socket.create_connection(("127.0.0.1", server.port)).close()
        wait_until(
            lambda: [one for one in caplog.records if one.message == "association.ended"],
            what="its end",
        )
    assert not [one for one in caplog.records if one.levelname == "WARNING"]


# -- new certificates --------------------------------------------------------------------------


def shown(port, authority) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        client(authority).wrap_socket(raw, server_hostname="localhost") as secured,
    ):
        return secured.getpeercert(binary_form=True)


def test_new_certificates_are_taken_without_a_restart_and_bad_ones_are_not(
    config, authority, caplog
):
    caplog.set_level("INFO")
    pair = authority.issue("changing", dns=("localhost",))
    settings = config(tls_certificate=str(pair.certificate), tls_key=str(pair.key))
    with running_dicom(settings) as server:
        old = shown(server.port, authority)
        going_on = call(server.port, client(authority))
        authority.issue("changing", dns=("localhost",))
        new = shown(server.port, authority)
        assert new != old
        assert "files.reloaded" in [one.message for one in caplog.records]
        pair.certificate.write_text("what is this?")
        assert shown(server.port, authority) == new
        assert "no certificate in PEM" in reason_of(caplog, "files.not-reloaded")
        assert going_on.send_c_echo().Status == 0
        going_on.release()
        authority.issue("changing", dns=("localhost",))
        assert shown(server.port, authority) not in (old, new)


# -- connections of our own --------------------------------------------------------------------


def connect(config, port, peer):
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        call_securely(raw, peer, client_context(config, peer)) as secured,
    ):
        secured.sendall(b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00")
        with contextlib.suppress(TimeoutError):
            secured.settimeout(0.2)
            secured.recv(1)
        return secured.version()


def outgoing(tmp_path, **settings) -> Config:
    return Config(archive=ArchiveSection(data_dir=tmp_path), dimse=DimseSection(**settings))


def test_a_called_peer_is_verified_by_ca_and_host_or_subject(
    config, authority, stranger, tmp_path
):
    trusting = outgoing(tmp_path, tls_peer_ca=str(authority.certificate))
    misled = outgoing(tmp_path, tls_peer_ca=str(stranger.certificate))
    plain = Peer(ae_title="SINK", host="localhost", tls=True)
    by_address = Peer(ae_title="SINK", host="127.0.0.1", tls=True)
    moved = Peer(ae_title="SINK", host="elsewhere.example", tls=True)
    named = moved.model_copy(update={"tls_subject": "CN=fileroom.example,O=Test Hospital"})
    other = moved.model_copy(update={"tls_subject": "somebody.example"})
    with running_dicom(config()) as server:
        for peer in (plain, by_address, named):
            assert connect(trusting, server.port, peer) == "TLSv1.3"
        for settings, peer, why in (
            (trusting, moved, "Hostname mismatch"),
            (trusting, other, "not 'somebody.example'"),
            (misled, plain, "local issuer"),
            (outgoing(tmp_path), plain, "certificate"),
        ):
            with pytest.raises(ssl.SSLError) as failed:
                connect(settings, server.port, peer)
            assert why in tls_fault(failed.value)


def test_our_certificate_is_shown_to_a_peer_that_asks(config, authority, ours, tmp_path):
    showing = outgoing(
        tmp_path,
        tls_peer_ca=str(authority.certificate),
        tls_certificate=str(ours.certificate),
        tls_key=str(ours.key),
    )
    hiding = outgoing(tmp_path, tls_peer_ca=str(authority.certificate))
    peer = Peer(ae_title="SINK", host="localhost", tls=True)
    with running_dicom(config(tls_client_certificates="required")) as server:
        assert connect(showing, server.port, peer) == "TLSv1.3"
        with pytest.raises(ssl.SSLError) as failed:
            connect(hiding, server.port, peer)
        assert "wants a certificate" in tls_fault(failed.value)


def test_associations_of_our_own_go_over_tls(config, authority, engine, tmp_path):
    place = tmp_path / "caller"
    section = DimseSection(engine=engine, tls_peer_ca=str(authority.certificate))
    with (
        running_dicom(config(tls="required")) as server,
        running_archive(make_config(place, dimse=section)) as caller,
    ):
        peer = Peer(ae_title="FILEROOM", host="localhost", port=server.port, tls=True)
        with outgoing_association(caller, peer, [build_context(VERIFICATION)]) as opened:
            assert opened.association.send_c_echo().Status == 0
        plain = peer.model_copy(update={"tls": False})
        with pytest.raises(PeerError):
            outgoing_association(caller, plain, [build_context(VERIFICATION)])
        unknown = peer.model_copy(update={"tls_subject": "CN=somebody"})
        with pytest.raises(PeerError, match="not 'CN=somebody'"):
            outgoing_association(caller, unknown, [build_context(VERIFICATION)])


def test_a_peer_that_wants_a_certificate_is_told_of(config, authority, engine, tmp_path):
    section = DimseSection(engine=engine, tls_peer_ca=str(authority.certificate))
    with (
        running_dicom(config(tls_client_certificates="required")) as server,
        running_archive(make_config(tmp_path / "caller", dimse=section)) as caller,
    ):
        peer = Peer(ae_title="FILEROOM", host="localhost", port=server.port, tls=True)
        with pytest.raises(PeerError, match="tls_certificate"):
            outgoing_association(caller, peer, [build_context(VERIFICATION)])


# -- subjects ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("CN=ct1,OU=Radiology,O=North", True),
        ("CN=CT1,OU=radiology,O=north", True),
        ("CT1", True),
        ("ct1.example", True),
        ("O=North,OU=Radiology,CN=ct1", False),
        ("CN=ct1", False),
        ("CN=ct1,OU=Radiology,O=South", False),
        ("ct", False),
        ("North", False),
        ("=", False),
        ("CN=ct1,,O", False),
    ],
)
def test_a_subject_is_a_whole_name_or_a_common_or_dns_name(wanted, found):
    subject = TlsSubject("CN=ct1,OU=Radiology,O=North", frozenset({"ct1", "ct1.example"}))
    assert subject.matches(wanted) is found
