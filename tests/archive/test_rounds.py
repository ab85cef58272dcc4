"""Rounds: steps run again and again, whatever one of them does."""

import contextlib
import logging
import threading

from archive.rounds import Rounds
from tests.conftest import wait_until


@contextlib.contextmanager
def serving(archive, steps):
    rounds = Rounds(archive, steps, pause_s=0.01)
    thread = threading.Thread(target=rounds.serve)
    thread.start()
    try:
        yield rounds
    finally:
        rounds.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_a_step_that_fails_is_tried_again_and_hinders_no_other(archive, caplog):
    failed, fine = [], []

    def failing(_archive, _stopping):
        failed.append(1)
        if len(failed) < 3:
            raise RuntimeError("the peer is on fire")

    with serving(archive, {"failing": failing, "fine": lambda *_: fine.append(1)}):
        wait_until(lambda: len(failed) > 3 and len(fine) > 3, what="both steps")
    told = [record for record in caplog.records if record.message == "round.failed"]
    assert len(told) == 2
    assert {record.step for record in told} == {"failing"}
    assert all(record.levelno == logging.ERROR for record in told)


def test_a_step_that_waits_for_its_peer_holds_up_no_other_and_is_told_to_stop(archive):
    waiting, fine = threading.Event(), []

    def long(_archive, stopping):
        waiting.set()
        assert stopping.wait(60)

    with serving(archive, {"long": long, "fine": lambda *_: fine.append(1)}):
        assert waiting.wait(10)
        count = len(fine)
        wait_until(lambda: len(fine) > count + 3, what="the other step")


def test_a_step_may_fail_for_days(archive, monkeypatch):
    monkeypatch.setattr("archive.rounds._LONGEST_PAUSE_S", 0.0001)
    failed = []

    def failing(_archive, _stopping):
        failed.append(1)
        raise RuntimeError("nobody is there")

    with serving(archive, {"failing": failing}):
        wait_until(lambda: len(failed) > 1100, 60, "as many tries")  # 2**1024 is no number
