"""What is answered to a request a second time is what was answered the first, to the byte."""

import socket
import struct

import pytest
from pynetdicom.dimse_messages import C_ECHO_RSP
from pynetdicom.dimse_primitives import C_ECHO

from archive.dicom.transfer_syntax import TRANSFER_SYNTAXES
from dimse.agreements import Agreement, Agreements
from dimse.verification import EchoRequest
from tests.dimse.raw import CT, EXPLICIT, IMPLICIT, RELEASE, associate_request, item, proposal
from tests.dimse.wire import echo, leaves_nothing, serving

VERIFICATION = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
GET = "1.2.840.10008.5.1.4.1.2.2.3"


def request_of(*items: bytes, user: bytes = b"", called: bytes = b"FILEROOM") -> bytes:
    titles = called.ljust(16) + b"AGAIN".ljust(16) + bytes(range(32))
    user = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4") + user
    context = item(0x10, b"1.2.840.10008.3.1.1.1")
    body = struct.pack(">HH", 1, 0) + titles + context + b"".join(items) + item(0x50, user)
    return struct.pack(">BxI", 1, len(body)) + body


def uid_item(kind: int, uid: str, rest: bytes) -> bytes:
    return item(kind, struct.pack(">H", len(uid)) + uid.encode() + rest)


ECHO = proposal(1, VERIFICATION, IMPLICIT)
REQUESTS = {
    "one": request_of(ECHO),
    "as-pynetdicom-asks": associate_request([(VERIFICATION, (IMPLICIT,)), (CT, (EXPLICIT,))]),
    "refused-in-part": request_of(
        ECHO, proposal(3, "1.2.840.10008.5.1.4.31", EXPLICIT), proposal(5, VERIFICATION, CT)
    ),
    "odd": request_of(item(0x99, b"what"), ECHO, proposal(2, CT, EXPLICIT), proposal(3, CT)),
    "roles": request_of(
        ECHO,
        proposal(3, GET, EXPLICIT),
        proposal(5, CT, EXPLICIT),
        user=uid_item(0x54, CT, b"\0\1") + uid_item(0x54, GET, b"\1\1"),
    ),
    "extended": request_of(
        ECHO,
        proposal(3, FIND, EXPLICIT, IMPLICIT),
        user=uid_item(0x56, FIND, b"\1\1\1\1\1\1\1") + uid_item(0x56, CT, b"\1"),
    ),
    "window": request_of(ECHO, user=item(0x53, struct.pack(">HH", 1, 1))),
    "wide-window": request_of(ECHO, user=item(0x53, struct.pack(">HH", 0, 8))),
    "many": request_of(
        ECHO, *(proposal(2 * n + 3, CT, uid) for n, uid in enumerate(TRANSFER_SYNTAXES))
    ),
    "for-somebody-else": request_of(ECHO, called=b"OTHER"),
}


def read_pdu(connection: socket.socket) -> bytes:
    header = connection.recv(6, socket.MSG_WAITALL)
    length = struct.unpack_from(">I", header, 2)[0] if len(header) == 6 else 0
    return header + connection.recv(length, socket.MSG_WAITALL)


def talk(server, request: bytes) -> list[bytes]:
    """What a server says to a request, and to a C-ECHO and a release after it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request)
        said = [read_pdu(connection)]
        if said[0][:1] == b"\x02":
            for message in (echo(7), RELEASE):
                connection.sendall(message)
                said.append(read_pdu(connection))
        return said


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreements")
    with serving(folder / "direct") as direct, serving(folder / "stock", "stock") as stock:
        yield direct, stock


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_answered_again_as_pynetdicom_answers_it(servers, name):
    direct, stock = servers
    first = talk(direct, REQUESTS[name])
    assert first[0][0] == (3 if name == "for-somebody-else" else 2)
    assert talk(direct, REQUESTS[name]) == first
    assert talk(stock, REQUESTS[name]) == first


def test_a_request_with_a_secret_is_not_remembered(tmp_path):
    identity = item(
        0x58, b"\2\0" + struct.pack(">H", 4) + b"root" + struct.pack(">H", 2) + b"no"
    )
    with serving(tmp_path) as direct:
        known = direct._agreements
        for _ in range(2):
            assert talk(direct, request_of(ECHO, user=identity))[0][:1] == b"\x03"
        assert not known._known
        talk(direct, request_of(ECHO))
        assert list(known._known) == [request_of(ECHO)]


def test_who_is_let_in_is_decided_each_time(tmp_path):
    with serving(tmp_path, max_associations=1) as direct:
        assert talk(direct, REQUESTS["one"])[0][:1] == b"\x02"
        leaves_nothing(direct)
        with socket.create_connection(("127.0.0.1", direct.port), timeout=20) as holds:
            holds.sendall(REQUESTS["one"])
            assert read_pdu(holds)[:1] == b"\x02"
            assert talk(direct, REQUESTS["one"])[0][:1] == b"\x03"


def test_what_was_used_least_recently_is_forgotten():
    agreements = Agreements()
    agreement = Agreement(None, None, {}, [], {}, b"")
    for number in range(64):
        agreements.keep(b"%d" % number, agreement)
    assert agreements.find(b"0") is agreement
    agreements.keep(b"new", agreement)
    agreements.keep(bytes(40_000), agreement)
    assert agreements.find(b"0") is agreement
    assert agreements.find(b"1") is None
    assert agreements.find(bytes(40_000)) is None


def test_an_echo_is_answered_as_pynetdicom_answers_it():
    response = C_ECHO()
    response.MessageIDBeingRespondedTo, response.Status = 7, 0x0000
    response.AffectedSOPClassUID = VERIFICATION
    message = C_ECHO_RSP()
    message.primitive_to_message(response)
    (fragment,) = message.encode_msg(1, 16384)
    ((_, encoded),) = fragment.presentation_data_value_list
    assert encoded[1:] == EchoRequest(7, VERIFICATION).answer()


def test_an_echo_that_is_not_whole_is_left_to_pynetdicom():
    whole = {0x0002: b"1.2.840.10008.1.1\0", 0x0110: b"\7\0", 0x0800: b"\1\1"}
    assert EchoRequest.can_be(whole)
    assert EchoRequest.of(whole) == EchoRequest(7, "1.2.840.10008.1.1")
    for missing in whole:
        assert not EchoRequest.can_be({k: v for k, v in whole.items() if k != missing})
    assert not EchoRequest.can_be(whole | {0x0800: b"\0\0"})
