"""Writers of one SQLite index take turns: threads, and processes that may die at it."""

import os
import signal
import threading

from storage.index.turns import Turns


def wait_for(reader: int) -> None:
    assert os.read(reader, 1) == b"."


def test_threads_have_it_one_after_the_other(tmp_path):
    turns, inside, most = Turns(f"{tmp_path}/turn"), [0], [0]

    def write() -> None:
        for _ in range(50):
            with turns.take(), turns.take():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == ([0], [1])


def test_a_process_that_dies_ends_its_turn(tmp_path):
    turns = Turns(f"{tmp_path}/turn")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with turns.take():
            os.write(writer, b".")
            signal.pause()
        os._exit(0)
    wait_for(reader)
    had_it = threading.Event()

    def write() -> None:
        with turns.take():
            had_it.set()

    thread = threading.Thread(target=write)
    thread.start()
    thread.join(0.2)
    assert not had_it.is_set()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    thread.join()
    assert had_it.is_set()


def test_without_a_place_for_it_nobody_waits(tmp_path):
    with Turns(f"{tmp_path}/missing/turn").take():
        pass
