"""Associations of a node are counted over its workers, and over their deaths."""

import multiprocessing
import os
import signal

from dimse.presence import Presence


def _hold(file, held) -> None:
    presence = Presence(file, 4)
    assert presence.enter("OTHER") is not None
    held.set()
    signal.pause()


def test_slots_are_given_out_and_back(tmp_path):
    presence = Presence(tmp_path / "run" / "associations", 2)
    first, second = presence.enter("A"), presence.enter("B")
    assert {first, second} == {0, 1}
    assert presence.enter("C") is None
    presence.leave(first)
    assert presence.enter("C") == first
    assert presence.count() == 2
    presence.close()
    presence.leave(second)  # the server has stopped already


def test_a_peer_has_a_limit_of_its_own(tmp_path):
    presence = Presence(tmp_path / "associations", 4)
    assert presence.enter("A", limit=1) is not None
    assert presence.enter("A", limit=1) is None
    assert presence.enter("AB", limit=1) is not None
    presence.close()


def test_workers_share_the_count_and_a_killed_one_leaves_nothing(tmp_path):
    file = tmp_path / "associations"
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    worker = context.Process(target=_hold, args=(file, held))
    worker.start()
    assert held.wait(60)
    presence = Presence(file, 2)
    assert presence.enter("A") is not None
    assert presence.enter("OTHER", limit=1) is None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert presence.enter("OTHER", limit=1) is not None
    assert presence.count() == 2
    presence.close()
