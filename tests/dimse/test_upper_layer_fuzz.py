"""Rubbish of all kinds in every state, with fixed seed and budget; streams split anywhere.

After all of it: nothing hangs, nothing is left (threads, handles, temporary files), memory is
where it was, and a C-ECHO is answered.
"""

import gc
import random
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from archive.auth.principal import OPERATOR
from dimse import messages
from tests.conftest import wait_until
from tests.dimse import wire as w
from tests.dimse.wire import Wire

_CONNECTIONS = 600
# Threads that end only when no work has come for a while (`archive.threads`), or never.
_WAITING = ("idle-search", "idle-association", "discarding")
_BODY = w.small_ct("1.2.3.2.1", "1.2.3.2") + bytes(300)

# What leads into a state; after it comes what is fuzzed.
STATES = {
    "Sta2": b"",
    "Sta6": w.request(),
    "within a message": w.request() + w.store("1.2.3.2.1", _BODY, size=256)[:700],
    "while a find runs": w.request() + w.find(1),
    "after a release": w.request() + w.pdu(w.RELEASE_RQ),
    "after a rejection": w.request(called="SOMEBODY"),
    "after an abort": w.request() + w.pdu(0x55),
}
SEEDS = [
    w.request(),
    w.request(kind=w.AC, contexts=()),
    w.pdu(w.RJ, b"\0\1\1\1"),
    w.echo(),
    w.find(3),
    w.cancel(3),
    w.store("1.2.3.2.1", _BODY, size=200),
    w.data(w.value(w.CT_ID, 0, _BODY[:100])),
    w.data(w.value(w.CT_ID, 2, _BODY)),
    w.pdu(w.RELEASE_RQ),
    w.pdu(w.RELEASE_RP),
    w.pdu(w.ABORT),
    w.pdu(0x42, b"?"),
    w.data(),
]


def mutated(chance: random.Random, raw: bytes) -> bytes:  # noqa: C901 - a table of faults
    """``raw`` with something wrong with it, or nothing."""
    changed = bytearray(raw)
    match chance.randrange(9):
        case 0:
            return raw
        case 1:  # bytes flipped
            for _ in range(chance.randint(1, 8)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
        case 2:  # cut
            del changed[chance.randrange(1, len(changed)) :]
        case 3:  # a piece lost
            at = chance.randrange(len(changed))
            del changed[at : at + chance.randint(1, 20)]
        case 4:  # a piece twice
            at, length = chance.randrange(len(changed)), chance.randint(1, 40)
            changed[at:at] = changed[at : at + length]
        case 5:  # another length
            changed[2:6] = struct.pack(">I", chance.choice((0, 1, 5, 131084, 131085, 2**31)))
        case 6:  # another type
            changed[0] = chance.randrange(12)
        case 7:  # a longer or shorter value
            if len(changed) > 12:
                changed[6:10] = struct.pack(">I", chance.choice((0, 1, 2, 3, 2**16, 2**32 - 1)))
        case 8:  # noise
            changed = bytearray(chance.randbytes(chance.randint(1, 300)))
    return bytes(changed)


def one_connection(port: int, chance: random.Random) -> None:
    """Say a lot of nonsense in some state; read some of what is answered; leave somehow."""
    lead = STATES[chance.choice(list(STATES))]
    pieces = [mutated(chance, chance.choice(SEEDS)) for _ in range(chance.randint(1, 6))]
    chance.shuffle(pieces)
    raw = lead + b"".join(pieces)
    wire = Wire(port)
    try:
        while raw:
            count = chance.choice((1, 7, 100, 5000, len(raw)))
            wire.send(raw[:count])
            raw = raw[count:]
            if chance.random() < 0.1:
                time.sleep(0.002)
        if chance.random() < 0.5:
            wire.socket.shutdown(socket.SHUT_WR)
            while wire.socket.recv(65536):
                pass
    except OSError:
        pass
    finally:
        wire.close()


def some_connections(port: int, chance: random.Random, count: int) -> None:
    """Four at a time."""
    for _ in range(count // 4):
        threads = [
            threading.Thread(target=one_connection, args=(port, random.Random(chance.random())))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), "a connection hangs"


def held() -> tuple[int, int]:
    """Return how many handles and threads there are, but for threads that wait for new work."""
    gc.collect()
    threads = [one for one in threading.enumerate() if one.name not in _WAITING]
    return sum(1 for _ in Path("/proc/self/fd").iterdir()), len(threads)


@pytest.mark.parametrize("seed", [20261125, 7])
def test_nonsense_in_every_state_does_no_harm(engine, tmp_path, seed):
    settings = {"network_timeout_s": 2, "association_timeout_s": 2, "idle_timeout_s": 4}
    chance = random.Random(f"{seed}")
    with w.serving(tmp_path, engine, **settings) as server:
        some_connections(server.port, chance, 40)
        w.echoes(server)
        w.leaves_nothing(server)
        before = held()
        some_connections(server.port, chance, _CONNECTIONS)
        w.leaves_nothing(server)
        wait_until(lambda: held()[1] <= before[1] + 1, what="the end of what ran")
        # The index may open one connection more for each that asks at once: four do.
        assert held()[0] <= before[0] + 12
        w.echoes(server)
        totals = server._archive.changes.totals(OPERATOR)
        assert totals.instances <= 1


# -- split anywhere ----------------------------------------------------------------------------

UID = "1.2.3.3.1"
STREAM = (
    w.echo(1)
    + w.store(UID, w.small_ct(UID, "1.2.3.3"), 2, size=100)
    + w.data(w.value(w.ECHO_ID, 3, w.echo_command(3)), w.value(w.ECHO_ID, 3, w.echo_command(4)))
    + w.cancel(99)
    + w.find(5)
    + w.pdu(w.RELEASE_RQ)
)


def answers(port: int, pieces) -> list[tuple[int, bytes]]:
    with Wire(port) as wire:
        wire.associate()
        for piece in pieces:
            wire.send(piece)
        found = []
        while (got := wire.pdu())[0] == w.DATA:
            found.append(got)
        found.append(got)
    return found


@pytest.fixture(scope="module", params=["direct", "stock"])
def quiet(request, tmp_path_factory):
    with w.serving(tmp_path_factory.mktemp(request.param), request.param) as running:
        yield running


def test_any_split_of_the_stream_gives_the_same_answers(quiet):
    whole = answers(quiet.port, [STREAM])  # stores
    whole = answers(quiet.port, [STREAM])
    assert whole[-1][0] == w.RELEASE_RP
    assert len(whole) >= 6
    chance = random.Random(1)
    splits = [[STREAM[at : at + 1] for at in range(len(STREAM))]]
    splits += [[STREAM[:at], STREAM[at:]] for at in range(1, len(STREAM), 23)]
    for _ in range(20):
        cuts = sorted(chance.sample(range(1, len(STREAM)), chance.randint(1, 40)))
        splits.append(
            [STREAM[a:b] for a, b in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
        )
    for pieces in splits:
        assert answers(quiet.port, pieces) == whole


def test_every_first_byte_of_every_pdu_may_come_alone(quiet):
    """Wherever a header is cut, what came is kept until the rest is there."""
    raw = w.store(UID, w.small_ct(UID, "1.2.3.3"), 2, size=400)
    with Wire(quiet.port) as wire:
        wire.associate()
        for at in range(1, 40):
            wire.send(raw[:at])
            time.sleep(0.001)
            wire.send(raw[at:])
            assert messages.number(wire.command(), messages.STATUS) == 0
