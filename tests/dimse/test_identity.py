"""User identity negotiation (PS3.7 §D.3.3.7), on both engines."""

import shutil
import struct
import subprocess
import time

import jwt
import pytest
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.presentation import build_context

from archive.auth.principal import OPERATOR, Right
from archive.config import AuthSection, Peer, Service
from tests.dimse.test_admission import ECHO, answer_of, serving
from tests.dimse.test_services import CT, FIND, read
from tests.dimse.wire import ABORT, RJ, Wire, item, request

PASSWORD = "correct horse"
SECRET = b"0123456789abcdef0123456789abcdef"


def identity(kind: int, first: str, second: str = "", *, answer: bool = False):
    shown = UserIdentityNegotiation()
    shown.user_identity_type = kind
    shown.primary_field = first.encode()
    if second:
        shown.secondary_field = second.encode()
    shown.positive_response_requested = answer
    return shown


def call(server, *items, calling="TEST", contexts=((ECHO,),)):
    return AE(calling).associate(
        "127.0.0.1",
        server.port,
        contexts=[build_context(*context) for context in contexts],
        ae_title="FILEROOM",
        ext_neg=list(items),
    )


@pytest.fixture
def server(engine, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    auth = AuthSection(jwt_key_file=str(secret), jwt_algorithms=("HS256",))
    peer = Peer(ae_title="SENDER", host="127.0.0.1", services=(Service.STORE,))
    with serving(tmp_path, engine, strangers=(), peers=(peer,), auth=auth) as running:
        accounts = running._archive.accounts
        accounts.add(OPERATOR, "anna", PASSWORD, rights=[Right.READ], site="north")
        accounts.add(OPERATOR, "ben", PASSWORD, rights=[Right.WRITE], site="south")
        yield running


def token(**changes) -> str:
    claims = {"sub": "carla", "exp": time.time() + 60, "rights": ["read"]} | changes
    return jwt.encode(claims, SECRET, "HS256")


def test_a_name_and_a_passcode_let_in_whom_no_peer_list_knows(server):
    assert answer_of(call(server)) == (1, 1, 3)
    assert answer_of(call(server, identity(2, "anna", PASSWORD))) is None


@pytest.mark.parametrize(
    "item",
    [
        identity(2, "anna", "wrong horse"),
        identity(2, "nobody", PASSWORD),
        identity(1, "anna"),
        identity(3, "ticket"),
        identity(4, "<assertion/>"),
        identity(5, "a.b.c"),
        identity(5, token(exp=time.time() - 300)),
        identity(5, token(scope="read")[:-2]),
        identity(2, "anna", "x" * 60000),
        identity(2, "", PASSWORD),
    ],
)
def test_what_proves_nothing_is_rejected_without_a_reason(server, item):
    assert answer_of(call(server, item)) == (1, 2, 1)


def test_a_known_peer_with_a_wrong_passcode_is_rejected_too(server):
    wrong = identity(2, "anna", "wrong horse")
    assert answer_of(call(server, wrong, calling="SENDER")) == (1, 2, 1)
    assert answer_of(call(server, calling="SENDER")) is None


def test_a_token_lets_in_whom_it_names(server):
    association = call(server, identity(5, token()))
    (served,) = server._associations
    assert served.principal.name == "user:carla"
    assert answer_of(association) is None


@pytest.mark.parametrize("kind", [2, 5])
def test_a_positive_response_is_given_when_it_is_asked_for(server, kind):
    item = (
        identity(2, "anna", PASSWORD, answer=True)
        if kind == 2
        else identity(5, token(), answer=True)
    )
    association = call(server, item)
    assert association.is_established
    assert association.acceptor.user_identity is not None
    association.release()
    item.positive_response_requested = False
    association = call(server, item)
    assert association.acceptor.user_identity is None
    association.release()


def statuses(server, *items, calling="TEST") -> tuple[int, int]:
    """What a C-STORE and a C-FIND are answered."""
    from pydicom.dataset import Dataset

    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = ""
    association = call(
        server, *items, calling=calling, contexts=((CT, ["1.2.840.10008.1.2.1"]), (FIND,))
    )
    assert association.is_established
    stored = association.send_c_store(read("CT_small.dcm")).Status
    found = list(association.send_c_find(query, FIND))[-1][0].Status
    association.release()
    return stored, found


def test_the_rights_of_the_user_decide_what_is_served(server):
    assert statuses(server, identity(2, "anna", PASSWORD)) == (0x0124, 0)
    assert statuses(server, identity(2, "ben", PASSWORD)) == (0, 0x0124)
    assert statuses(server, identity(5, token(rights=["read", "write"]))) == (0, 0)
    # At a peer, what both may.
    assert statuses(server, identity(2, "ben", PASSWORD), calling="SENDER") == (0, 0x0124)
    assert statuses(server, identity(2, "anna", PASSWORD), calling="SENDER") == (0x0124, 0x0124)


def test_what_a_user_stores_is_the_users_and_of_the_users_site(server):
    statuses(server, identity(2, "ben", PASSWORD))
    (change,) = server._archive.changes.since(OPERATOR, 0)
    assert (change.principal, change.site) == ("user:ben", "south")


def test_an_identity_may_be_required(engine, tmp_path):
    with serving(tmp_path, engine, require_identity=True) as server:
        server._archive.accounts.add(OPERATOR, "anna", PASSWORD, rights=[Right.READ], site="")
        assert answer_of(call(server)) == (1, 2, 1)
        assert answer_of(call(server, identity(2, "anna", PASSWORD))) is None


def test_neither_password_nor_token_is_in_the_log(server, caplog):
    call(server, identity(2, "anna", "wrong horse"))
    call(server, identity(5, token(exp=1)))
    call(server, identity(2, "anna", PASSWORD)).release()
    said = " ".join(str(record.__dict__) for record in caplog.records)
    assert "anna" in said
    assert "horse" not in said
    assert token(exp=1) not in said


def raw(kind: int, first: bytes, second: bytes = b"") -> bytes:
    """A User Identity sub-item as bytes, right or wrong (PS3.7 Table D.3-14)."""
    body = bytes([kind, 0]) + struct.pack(">H", len(first)) + first
    return item(0x58, body + struct.pack(">H", len(second)) + second)


@pytest.mark.parametrize(
    "user",
    [
        raw(2, b"anna", b"\xff\xfe"),
        raw(2, b"\xff", PASSWORD.encode()),
        raw(2, b"anna"),
        raw(5, b"\xff.\xff.\xff"),
        raw(3, b""),
    ],
)
def test_what_is_no_text_is_rejected_alike(server, user):
    with Wire(server.port) as wire:
        wire.send(request(user=user))
        assert wire.pdu() == (RJ, bytes([0, 1, 2, 1]))


@pytest.mark.parametrize("kind", [0, 6, 255])
def test_an_identity_of_no_known_type_lets_nobody_in(server, kind):
    with Wire(server.port) as wire:
        wire.send(request(user=raw(kind, b"anna", PASSWORD.encode())))
        assert wire.pdu()[0] == ABORT
    assert answer_of(call(server, identity(2, "anna", PASSWORD))) is None


def test_another_password_counts_at_once_and_open_associations_go_on(server):
    association = call(server, identity(2, "anna", PASSWORD))
    accounts = server._archive.accounts
    accounts.set_password(OPERATOR, "anna", "another horse")
    assert answer_of(call(server, identity(2, "anna", PASSWORD))) == (1, 2, 1)
    assert answer_of(call(server, identity(2, "anna", "another horse"))) is None
    accounts.remove(OPERATOR, "anna")
    assert answer_of(call(server, identity(2, "anna", "another horse"))) == (1, 2, 1)
    assert association.send_c_echo().Status == 0
    association.release()


def test_who_guesses_waits_and_holds_up_nobody(server):
    began = time.monotonic()
    for number in range(8):
        assert answer_of(call(server, identity(2, "anna", f"guess {number}"))) == (1, 2, 1)
    assert answer_of(call(server, identity(2, "anna", PASSWORD))) == (1, 2, 1)
    assert answer_of(call(server, identity(2, "ben", PASSWORD))) is None
    assert time.monotonic() - began < 15


def test_a_user_without_a_site_speaks_for_that_of_the_peer(engine, tmp_path):
    peer = Peer(ae_title="NORTH", host="127.0.0.1", site="north")
    with serving(tmp_path, engine, peers=(peer,)) as server:
        server._archive.accounts.add(
            OPERATOR, "carl", PASSWORD, rights=[Right.WRITE, Right.READ], site=""
        )
        statuses(server, identity(2, "carl", PASSWORD), calling="NORTH")
        (change,) = server._archive.changes.since(OPERATOR, 0)
        assert (change.principal, change.site) == ("user:carl", "north")


@pytest.mark.interop
@pytest.mark.skipif(
    shutil.which("echoscu") is None,
    reason="NOT TESTED: DCMTK's programs are not installed (Debian package dcmtk)",
)
def test_storescu_proves_its_user(server, wheel_files):
    def send(*options: str) -> subprocess.CompletedProcess[str]:
        (file,) = [path for path in wheel_files if path.name == "CT_small.dcm"]
        return subprocess.run(
            ["storescu", *options, "-aec", "FILEROOM",
             "127.0.0.1", str(server.port), str(file)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    assert send("--user", "ben", "--password", PASSWORD, "-rsp").returncode == 0
    refused = send("--user", "ben", "--password", "wrong horse")
    assert refused.returncode != 0
    assert "Reject" in refused.stderr
    assert send().returncode != 0
