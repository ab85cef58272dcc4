"""The state table of PS3.8 §9.2 and the PDUs of §9.3, over sockets, on both engines."""

import gc
import struct
import threading
from pathlib import Path

import pytest

from archive.auth.principal import OPERATOR
from dimse import messages
from dimse.association import ServedAssociation
from tests.conftest import wait_until
from tests.dimse import wire as w
from tests.dimse.wire import Wire

UNKNOWN = w.pdu(0x0B)
EVENTS = {
    "A-ASSOCIATE-RQ": w.request(),
    "A-ASSOCIATE-AC": w.request(kind=w.AC, contexts=()),
    "A-ASSOCIATE-RJ": w.pdu(w.RJ, b"\0\1\1\1"),
    "P-DATA-TF": w.echo(),
    "A-RELEASE-RQ": w.pdu(w.RELEASE_RQ),
    "A-RELEASE-RP": w.pdu(w.RELEASE_RP),
    "A-ABORT": w.pdu(w.ABORT),
    "unrecognized": UNKNOWN,
    "closed": b"",
}
IGNORED, CLOSED, ACCEPTED, ANSWERED = "ignored", "closed", "accepted", "answered"
RELEASED = "RP"
# Source and reason of an A-ABORT (Table 9-26).
BY_USER, UNEXPECTED, UNRECOGNIZED = (0, 0), (2, 2), (2, 1)

# PS3.8 Table 9-10, as far as an acceptor sees it.
TABLE = {
    "Sta2": [ACCEPTED, BY_USER, BY_USER, BY_USER, BY_USER, BY_USER, CLOSED, BY_USER, CLOSED],
    "Sta3": [UNEXPECTED] * 6 + [CLOSED, UNRECOGNIZED, CLOSED],
    "Sta6": [UNEXPECTED] * 3 + [ANSWERED, RELEASED, UNEXPECTED, CLOSED, UNRECOGNIZED, CLOSED],
    "Sta7": [UNEXPECTED] * 3 + [IGNORED, IGNORED, CLOSED, CLOSED, UNRECOGNIZED, CLOSED],
    "Sta10": [UNEXPECTED] * 5 + [RELEASED, CLOSED, UNRECOGNIZED, CLOSED],
    "Sta13": [UNEXPECTED, *[IGNORED] * 5, CLOSED, UNRECOGNIZED, CLOSED],
}
CELLS = [
    pytest.param(state, event, expected, id=f"{state}-{event}")
    for state, row in TABLE.items()
    for event, expected in zip(EVENTS, row, strict=True)
]


@pytest.fixture(scope="module", params=["direct", "stock"])
def server(request, tmp_path_factory):
    with w.serving(tmp_path_factory.mktemp(request.param), request.param) as running:
        yield running


def release_instead(self, msg, context, context_id):
    """Serve a C-ECHO by asking for a release, which an acceptor may do, and seldom does."""
    self.release()


def admit_late(self):
    """Take a while to admit: until something more has come, or the peer has gone."""
    if hasattr(self, "_layer"):
        self._layer.pump(10)
    else:
        wait_until(lambda: self.dul.state != "Sta3", 10)
    return ADMIT(self)


ADMIT = ServedAssociation.admit


def in_state(wire: Wire, state: str, monkeypatch) -> None:
    """Bring the server's side of a connection into a state."""
    match state:
        case "Sta3":
            monkeypatch.setattr(ServedAssociation, "admit", admit_late)
            wire.send(w.request())
        case "Sta6":
            wire.associate()
        case "Sta7" | "Sta10":
            monkeypatch.setattr(ServedAssociation, "_dispatch", release_instead)
            wire.associate().send(w.echo())
            assert wire.pdu()[0] == w.RELEASE_RQ
            if state == "Sta10":
                wire.send(w.pdu(w.RELEASE_RQ))
        case "Sta13":
            wire.send(w.request(called="SOMEBODY"))
            assert wire.pdu() == (w.RJ, b"\0\1\1\7")


@pytest.mark.parametrize(("state", "event", "expected"), CELLS)
def test_every_pdu_in_every_state(server, state, event, expected, monkeypatch):
    with Wire(server.port) as wire:
        in_state(wire, state, monkeypatch)
        if event == "closed":
            wire.close()
        else:
            wire.send(EVENTS[event])
            check(wire, expected)
    w.leaves_nothing(server)


def check(wire: Wire, expected) -> None:
    match expected:
        case "accepted":
            assert wire.pdu()[0] == w.AC
        case "answered":
            assert wire.status() == 0
        case "RP":
            assert wire.pdu()[0] == w.RELEASE_RP
            assert wire.silence()  # it is the peer's to close
        case "closed":
            assert wire.is_closed()
        case "ignored":
            assert wire.silence()
        case source, reason:
            assert wire.pdu() == (w.ABORT, bytes([0, 0, source, reason]))
            assert wire.silence()


def test_the_server_is_well_after_all_that(server):
    w.echoes(server)


def test_a_release_that_both_ask_for_ends_in_a_release(server, monkeypatch):
    monkeypatch.setattr(ServedAssociation, "_dispatch", release_instead)
    with Wire(server.port) as wire:
        wire.associate().send(w.echo())
        assert wire.pdu()[0] == w.RELEASE_RQ
        association = w.the_association(server)
        wire.send(w.pdu(w.RELEASE_RQ) + w.pdu(w.RELEASE_RP))
        assert wire.pdu()[0] == w.RELEASE_RP
    w.leaves_nothing(server)
    assert association.is_released


# -- the request -------------------------------------------------------------------------------


def test_an_unknown_protocol_version_is_rejected(server):
    with Wire(server.port) as wire:
        wire.send(w.request(version=2))
        assert wire.pdu() == (w.RJ, bytes([0, 1, 2, 2]))
    with Wire(server.port) as wire:
        wire.associate(version=3)  # bit 0 is what counts (PS3.8 §9.3.2)


@pytest.mark.parametrize("maximum", [1, 7])
def test_a_peer_that_takes_no_pdu_at_all_is_rejected(server, maximum):
    with Wire(server.port) as wire:
        wire.send(w.request(maximum=maximum))
        assert wire.pdu() == (w.RJ, bytes([0, 1, 2, 1]))
    with Wire(server.port) as wire:
        wire.associate(maximum=8).send(w.echo())
        assert wire.status() == 0


def test_unrecognized_items_are_skipped(server):
    with Wire(server.port) as wire:
        wire.associate(user=w.item(0x5F, b"later"), items=w.item(0x99, b"?" * 300))
        wire.send(w.echo())
        assert wire.status() == 0


@pytest.mark.parametrize(
    "raw",
    [
        w.pdu(w.RQ, b""),
        w.pdu(w.RQ, bytes(67)),
        w.request()[:-1] + b"",
        w.pdu(w.RQ, w.request()[6:-3]),
        w.pdu(w.RQ, w.request()[6:] + b"\x50\0\xff\xff"),
        w.pdu(w.RQ, w.request()[6:74] + w.item(0x20, b"")),
    ],
    ids=[
        "empty",
        "fixed part short",
        "one byte less",
        "item cut",
        "item long",
        "context empty",
    ],
)
def test_a_request_that_cannot_be_read_ends_its_own_connection_only(server, raw):
    with Wire(server.port) as wire:
        wire.send(raw)
        wire.socket.shutdown(1)
        kind, body = wire.pdu()
        assert kind in (0, w.ABORT, w.RJ), (kind, body)
    w.leaves_nothing(server)
    w.echoes(server)


def user_items(accepted: bytes) -> dict[int, bytes]:
    found, position = {}, 68
    while position < len(accepted):
        kind, length = struct.unpack_from(">BxH", accepted, position)
        content = accepted[position + 4 : position + 4 + length]
        if kind == 0x50:
            inner = 0
            while inner < len(content):
                sub, size = struct.unpack_from(">BxH", content, inner)
                found[sub] = content[inner + 4 : inner + 4 + size]
                inner += 4 + size
        position += 4 + length
    return found


@pytest.mark.parametrize("asked", [(0, 0), (1, 1), (8, 4)])
def test_an_asynchronous_window_is_answered_with_one(server, asked):
    with Wire(server.port) as wire:
        wire.associate(user=w.item(0x53, struct.pack(">HH", *asked)))
        assert user_items(wire.accepted)[0x53] == struct.pack(">HH", 1, 1)


def test_who_we_are_and_how_much_we_take_is_said(server):
    with Wire(server.port) as wire:
        items = user_items(wire.associate().accepted)
    assert struct.unpack(">I", items[0x51]) == (messages.MAXIMUM_PDU,)
    assert items[0x52].startswith(b"2.25.") or items[0x52].startswith(b"1.")
    assert items[0x55].startswith(b"FILEROOM")
    assert 0x53 not in items  # nobody asked


# -- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (struct.pack(">BxI", w.DATA, messages.MAXIMUM_PDU + 13), 6),
        (struct.pack(">BxI", w.DATA, 0xFFFFFFFF), 6),
        (struct.pack(">BxI", w.RELEASE_RQ, 0x10000), 6),
        (struct.pack(">BxI", 0x00, 4), 1),
    ],
    ids=["data 13 too long", "data 4 GiB", "release 64 KiB", "type 0"],
)
def test_a_pdu_longer_than_it_may_be_is_refused_before_it_is_read(server, raw, reason):
    with Wire(server.port) as wire:
        wire.associate().send(raw)
        assert wire.pdu() == (w.ABORT, bytes([0, 0, 2, reason]))
    w.leaves_nothing(server)


def test_a_request_of_more_than_a_mebibyte_is_refused(server):
    with Wire(server.port) as wire:
        wire.send(struct.pack(">BxI", w.RQ, 1024**2 + 1))
        assert wire.pdu() == (w.ABORT, bytes(4))


def test_a_pdu_longer_by_the_headers_is_forgiven(server):
    body = w.small_ct("1.2.3.7.9") + padding(messages.MAXIMUM_PDU + 6)
    longest = body[: messages.MAXIMUM_PDU + 6]
    with Wire(server.port) as wire:
        wire.associate().send(w.data(w.value(w.CT_ID, 3, w.store_command("1.2.3.7.9"))))
        wire.send(w.data(w.value(w.CT_ID, 0, longest)))
        wire.send(w.data(w.value(w.CT_ID, 2, body[messages.MAXIMUM_PDU + 6 :])))
        assert wire.status() == 0


def padding(length: int) -> bytes:
    """Data Set Trailing Padding."""
    length -= length % 2
    return struct.pack("<HH2sxxI", 0xFFFC, 0xFFFC, b"OB", length) + bytes(length)


@pytest.mark.parametrize(
    "values",
    [
        [w.value(w.ECHO_ID, w.COMMAND, bytes(30_000))] * 3,
        [w.value(w.FIND_ID, 3, w.find_command())]
        + [w.value(w.FIND_ID, 0, bytes(120_000))] * 36,
    ],
    ids=["command", "identifier"],
)
def test_a_message_that_is_too_long_is_aborted(server, values):
    with Wire(server.port) as wire:
        wire.associate()
        try:
            for value in values:
                wire.send(w.data(value))
        except ConnectionError:
            pass
        else:
            assert wire.pdu() == (w.ABORT, bytes(4))
    w.leaves_nothing(server)


def test_nothing_sent_is_longer_than_the_peer_takes(server):
    for number in range(5):
        uid = f"1.2.3.8.{number}"
        with Wire(server.port) as wire:
            wire.associate().send(w.store(uid, w.small_ct(uid, f"1.2.3.8{number}")))
            assert wire.status() == 0
    for maximum in (64, 101, 130, 1000):
        with Wire(server.port) as wire:
            wire.associate(maximum=maximum)
            wire.send(w.store("1.2.3.8.1", w.small_ct("1.2.3.8.1", "1.2.3.81")))
            wire.send(w.find(2))
            wire.send(w.echo(3))
            wire.send(w.pdu(w.RELEASE_RQ))
            lengths, kind = [], w.DATA
            while kind == w.DATA:
                kind, body = wire.pdu()
                lengths.append(len(body))
            assert kind == w.RELEASE_RP
            assert max(lengths) <= maximum
            assert len(lengths) > 8


# -- messages ----------------------------------------------------------------------------------

CT_BODY = w.small_ct("1.2.3.7.5")
HALF = len(CT_BODY) // 2
STORE_RQ = w.value(w.CT_ID, 3, w.store_command("1.2.3.7.5"))


@pytest.mark.parametrize(
    ("raw", "abort"),
    [
        (w.data(w.value(99, 3, w.echo_command())), (2, 6)),
        (w.data(w.value(w.CT_ID, 2, CT_BODY)), (2, 5)),
        (w.data(STORE_RQ, w.value(w.ECHO_ID, 2, CT_BODY)), (2, 5)),
        (w.data(STORE_RQ, w.value(w.CT_ID, 0, CT_BODY[:HALF]), STORE_RQ), (2, 5)),
        (w.data(STORE_RQ, w.value(w.ECHO_ID, 3, w.echo_command())), (2, 5)),
        (
            w.data(
                w.value(w.ECHO_ID, 1, w.echo_command()[:20]),
                w.value(w.CT_ID, 1, w.store_command("1.2.3")),
            ),
            (2, 5),
        ),
        (w.data(w.value(w.ECHO_ID, 3, w.echo_command()), w.value(w.ECHO_ID, 2, b"ab")), (2, 5)),
        (w.pdu(w.DATA, struct.pack(">I", 0)), (2, 6)),
        (w.pdu(w.DATA, struct.pack(">IBB", 1, w.ECHO_ID, 3)), (2, 6)),
        (w.pdu(w.DATA, struct.pack(">IBB", 100, w.ECHO_ID, 3) + bytes(20)), (2, 6)),
        (w.data(w.value(w.ECHO_ID, 3, b"rubbish rubbish")), (0, 0)),
        (w.data(w.value(w.ECHO_ID, 3, b"")), (0, 0)),
        (w.echo(field=0x0031), (0, 0)),
        (w.echo(field=0x8030), (0, 0)),
        (w.data(w.value(w.CT_ID, 3, w.store_command("1.2")[:-30])), (0, 0)),
    ],
    ids=[
        "context not accepted",
        "data without command",
        "data on another context",
        "command within data",
        "echo within store",
        "commands interleaved",
        "data after a command without",
        "value of no length",
        "value of length 1",
        "value longer than its PDU",
        "no command set",
        "empty command set",
        "unknown command field",
        "answer nobody asked for",
        "command set cut",
    ],
)
def test_what_makes_no_message_is_aborted_with_its_reason(server, raw, abort):
    with Wire(server.port) as wire:
        wire.associate().send(raw)
        assert wire.pdu() == (w.ABORT, bytes([0, 0, *abort]))
    w.leaves_nothing(server)
    assert server._archive.changes.totals(OPERATOR).held == 0


def test_a_command_in_many_fragments_and_empty_ones_is_one_command(server):
    command = w.echo_command()
    with Wire(server.port) as wire:
        wire.associate()
        pieces = [b"", *(command[at : at + 3] for at in range(0, len(command), 3))]
        wire.send(w.data(*(w.value(w.ECHO_ID, 1, piece) for piece in pieces)))
        wire.send(w.pdu(w.DATA, b""))
        wire.send(w.data(w.value(w.ECHO_ID, 3, b"")))
        assert wire.status() == 0


def test_two_commands_in_one_pdu_are_both_answered_in_order(server):
    with Wire(server.port) as wire:
        wire.associate().send(
            w.data(*(w.value(w.ECHO_ID, 3, w.echo_command(number)) for number in (4, 5, 6)))
        )
        answered = [
            messages.number(wire.command(), messages.MESSAGE_ID_RESPONDED_TO) for _ in range(3)
        ]
    assert answered == [4, 5, 6]


def test_requests_sent_before_the_answer_are_answered_in_order(server):
    uids = [f"1.2.3.9.{number}" for number in range(6)]
    raw = b"".join(
        w.store(uid, w.small_ct(uid, "1.2.3.9"), 2 * number) + w.echo(2 * number + 1)
        for number, uid in enumerate(uids)
    )
    with Wire(server.port) as wire:
        wire.associate().send(raw + w.find(12) + w.echo(13))
        answers = [wire.command() for _ in range(12)]
        assert [messages.number(one, messages.STATUS) for one in answers] == [0] * 12
        assert [
            messages.number(one, messages.MESSAGE_ID_RESPONDED_TO) for one in answers
        ] == list(range(12))
        while (last := wire.command()) and messages.number(last, messages.STATUS) == 0xFF00:
            assert messages.number(last, messages.MESSAGE_ID_RESPONDED_TO) == 12
        assert messages.number(last, messages.MESSAGE_ID_RESPONDED_TO) == 12
        assert messages.number(wire.command(), messages.MESSAGE_ID_RESPONDED_TO) == 13


def test_cancels_of_what_nobody_asked_are_left_out(server):
    with Wire(server.port) as wire:
        wire.associate()
        for number in range(100):
            wire.send(w.cancel(number + 1000))
        wire.send(w.echo(7))
        assert wire.status() == 0


def test_a_find_is_cancelled_at_once_even_by_what_comes_with_it(server):
    with Wire(server.port) as wire:
        wire.associate()
        for number in range(60):
            uid = f"1.2.3.6.{number}"
            wire.send(w.store(uid, w.small_ct(uid, f"1.2.3.6{number}")))
            assert wire.status() == 0
        wire.send(w.find(5) + w.cancel(5))
        statuses = [wire.status()]
        while statuses[-1] == 0xFF00:
            statuses.append(wire.status())
        # The stock engine reads on another thread: a batch may be out before it comes to it.
        if server._settings.engine == "direct":
            assert statuses == [0xFE00]
        assert statuses[-1] in (0xFE00, 0)
        # A cancel of an older request of the same number is not one of this.
        wire.send(w.cancel(5) + w.find(5))
        assert wire.status() == 0xFF00


def test_an_interrupted_transfer_leaves_nothing(server):
    body = w.small_ct("1.2.3.5.1", "1.2.3.5") + padding(9 * 1024**2)  # beyond the threshold
    before = server._archive.changes.totals(OPERATOR).instances
    raw = w.store("1.2.3.5.1", body, size=131072)
    w.echoes(server)
    w.leaves_nothing(server)
    # The store opens its journal with the first that is being received, and keeps it.
    server._archive.ingest.new_spool().discard()
    gc.collect()
    handles = sum(1 for _ in Path("/proc/self/fd").iterdir())
    incoming = server._archive.config.archive.data_dir / "incoming"
    between = len(w.data(w.value(w.CT_ID, 3, w.store_command("1.2.3.5.1")))) + 68 * 131078
    for cut in (between, between + 3, between + 7, between + 60_000):
        for end in (w.pdu(w.ABORT), w.pdu(w.RELEASE_RQ), UNKNOWN, b""):
            with Wire(server.port) as wire:
                wire.associate().send(raw[:cut])
                if server._settings.engine == "direct":
                    wait_until(lambda: list(incoming.glob("*")), 20, "the spool")
                wire.send(end)
            w.leaves_nothing(server)
    gc.collect()
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= handles
    assert server._archive.changes.totals(OPERATOR).instances == before


def test_no_thread_is_left(server):
    w.leaves_nothing(server)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("association-")], names
