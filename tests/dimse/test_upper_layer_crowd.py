"""Many associations: at once, and one after another; none leaves anything behind."""

import gc
import random
import threading
from pathlib import Path

from archive.auth.principal import OPERATOR
from tests.dimse import wire as w
from tests.dimse.wire import Wire

_ENDINGS = 6


def resident_kb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def threads() -> int:
    """How many there are, but for those that wait for new work (`archive.threads`)."""
    return sum(1 for one in threading.enumerate() if not one.name.startswith("idle-"))


def handles() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_two_hundred_rest_while_four_send(tmp_path):
    with w.serving(tmp_path, "direct") as server:
        resting = [Wire(server.port).associate() for _ in range(200)]
        threads_at_rest = threading.active_count()
        failed: list[object] = []

        def send(sender: int) -> None:
            try:
                with Wire(server.port) as wire:
                    wire.associate()
                    for number in range(15):
                        uid = f"1.2.4.{sender}.{number + 1}"
                        wire.send(w.store(uid, w.small_ct(uid, f"1.2.4.{sender}") + b""))
                        assert wire.status() == 0
            except Exception as error:
                failed.append(error)

        senders = [threading.Thread(target=send, args=(number + 1,)) for number in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert failed == []
        assert server._archive.changes.totals(OPERATOR).instances == 60
        assert threads_at_rest < 230
        for wire in resting:
            wire.send(w.echo())
        assert [wire.status() for wire in resting] == [0] * 200
        for wire in resting:
            wire.send(w.pdu(w.RELEASE_RQ))
        assert {wire.pdu()[0] for wire in resting} == {w.RELEASE_RP}
        for wire in resting:
            wire.close()
        w.leaves_nothing(server)


def come_and_go(port: int, number: int) -> None:
    """One association, ended in one of the ways there are."""
    body = w.small_ct("1.2.5.1", "1.2.5") + bytes(20_000)
    with Wire(port) as wire:
        wire.associate().send(w.echo())
        assert wire.status() == 0
        match number % _ENDINGS:
            case 0 | 1:
                wire.send(w.pdu(w.RELEASE_RQ))
                assert wire.pdu()[0] == w.RELEASE_RP
            case 2:
                wire.send(w.pdu(w.ABORT))
            case 3:
                wire.send(w.pdu(0x77))
                assert wire.pdu()[0] == w.ABORT
            case 4:
                wire.send(
                    w.store("1.2.5.1", body)[: random.Random(number).randint(100, 20_000)]
                )
            case 5:
                pass


def test_hundreds_come_and_go_and_leave_nothing(engine, tmp_path):
    with w.serving(tmp_path, engine) as server:
        for number in range(60):
            come_and_go(server.port, number)
        w.leaves_nothing(server)
        gc.collect()
        before = handles(), threads(), resident_kb()
        for number in range(300):
            come_and_go(server.port, number)
        w.leaves_nothing(server)
        gc.collect()
        after = handles(), threads(), resident_kb()
        assert after[0] <= before[0] + 2
        assert after[1] <= before[1] + 1
        # One association kept would be 100 KB and more: 30 MB in all.
        assert after[2] - before[2] < 8 * 1024
