"""Workers of a pool outlive the thread that asked first, and are replaced when they die."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from archive.render.jobs import IconJob
from archive.render.pool import RenderPool, bind_socket
from tests.conftest import wait_until

ROOT = Path(__file__).parents[3]
JOB = IconJob("CT", 16, 16, "image/png")


@pytest.fixture
def pool():
    made = RenderPool(1, timeout_s=10)
    yield made
    made.close()


def test_workers_outlive_the_thread_that_asked_first(pool):
    thread = threading.Thread(target=pool.submit, args=(JOB,))
    thread.start()
    thread.join()
    [process] = pool._processes
    # The kernel tells of a thread's end at once: a worker bound to it would be gone by then.
    with pytest.raises(pytest.fail.Exception):
        wait_until(lambda: process.poll() is not None, timeout_s=0.5)
    assert pool.submit(JOB)
    assert pool._processes == [process]


def test_a_worker_that_died_between_jobs_is_replaced_before_the_next(pool):
    assert pool.submit(JOB)
    [process] = pool._processes
    process.kill()
    process.wait()
    assert pool.submit(JOB)
    assert pool._processes[0].pid != process.pid


def test_a_worker_that_has_done_its_work_ends_when_nothing_more_comes(tmp_path):
    with bind_socket(tmp_path / "jobs") as listening:
        command = [
            sys.executable,
            "-m",
            "archive.render.worker",
            "--fd",
            str(listening.fileno()),
        ]
        command += [
            "--timeout-s",
            "30",
            "--memory-limit-bytes",
            str(2 << 30),
            "--idle-s",
            "0.2",
        ]
        with subprocess.Popen(command, pass_fds=[listening.fileno()], cwd=ROOT) as worker:
            # One that has had no job holds nothing that could be given back.
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(1)
            assert RenderPool.connect(str(tmp_path / "jobs")).submit(JOB)
            assert worker.wait(20) == 0
