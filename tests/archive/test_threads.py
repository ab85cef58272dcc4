"""Threads that are kept for the next piece of work."""

import threading

from archive import threads
from archive.threads import KeptThreads
from tests.conftest import wait_until


def waiting(name: str) -> int:
    return sum(1 for one in threading.enumerate() if one.name == name)


def test_a_thread_that_is_done_does_the_next_piece_of_work():
    kept, seen = KeptThreads("waits-a"), []
    for number in range(5):
        done = threading.Event()

        def work(done=done):
            seen.append((threading.get_ident(), threading.current_thread().name))
            done.set()

        kept.run(work, f"works-{number}")
        assert done.wait(10)
        wait_until(lambda: waiting("waits-a") == 1, 10, "its end")
    assert len({ident for ident, _ in seen}) == 1
    assert [name for _, name in seen] == [f"works-{number}" for number in range(5)]


def test_no_piece_of_work_waits_for_another():
    kept, go = KeptThreads("waits-b"), threading.Barrier(21)
    for _ in range(20):
        kept.run(lambda: go.wait(10) and None, "works-b")
    go.wait(10)  # all of them are under way at once


def test_few_threads_wait_and_those_not_for_ever(monkeypatch):
    monkeypatch.setattr(threads, "_MOST_IDLE", 3)
    monkeypatch.setattr(threads, "_IDLE_S", 0.2)
    kept, go = KeptThreads("waits-c"), threading.Barrier(11)
    for _ in range(10):
        kept.run(lambda: go.wait(10) and None, "works-c")
    go.wait(10)
    wait_until(lambda: waiting("works-c") == 0, 10, "the end of those that are too many")
    assert waiting("waits-c") <= 3
    wait_until(lambda: waiting("waits-c") == 0, 10, "the end of the others")
    done = threading.Event()
    kept.run(done.set, "works-c")
    assert done.wait(10)


def test_work_that_fails_takes_no_other_with_it():
    kept, failures = KeptThreads("waits-d"), []
    usual, threading.excepthook = threading.excepthook, failures.append
    try:
        kept.run(lambda: 1 / 0, "works-d")
        wait_until(lambda: failures, 10, "the failure")
    finally:
        threading.excepthook = usual
    done = threading.Event()
    kept.run(done.set, "works-d")
    assert done.wait(10)
