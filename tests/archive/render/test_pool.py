"""Workers of a pool outlive the thread that asked first, and are replaced when they die."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from archive.dicom.instance import PixelDescription
from archive.errors import InvalidInstanceError
from archive.render.jobs import FrameSource, IconJob, TranscodeJob
from archive.render.pool import RenderPool, bind_socket
from tests.conftest import on_event_loop, wait_until

ROOT = Path(__file__).parents[3]
JOB = IconJob("CT", 16, 16, "image/png")
JPEG, NATIVE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.1"
DESCRIBED = PixelDescription(
    rows=8, columns=8, bits_allocated=8, bits_stored=8, high_bit=7, samples_per_pixel=1
)


@contextlib.contextmanager
def worker_at(listening, *options: str):
    command = [sys.executable, "-m", "archive.render.worker", "--fd", str(listening.fileno())]
    command += ["--timeout-s", "30", "--memory-limit-bytes", str(2 << 30), *options]
    with subprocess.Popen(command, pass_fds=[listening.fileno()], cwd=ROOT) as worker:
        try:
            yield worker
        finally:
            worker.kill()


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
    with (
        bind_socket(tmp_path / "jobs") as listening,
        worker_at(listening, "--idle-s", "0.2") as worker,
    ):
        # One that has had no job holds nothing that could be given back.
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(1)
        assert RenderPool.connect(str(tmp_path / "jobs")).submit(JOB)
        assert worker.wait(20) == 0


def test_an_event_loop_has_a_job_done_while_it_does_other_things(tmp_path):
    with bind_socket(tmp_path / "jobs") as listening, worker_at(listening):
        pool = RenderPool.connect(str(tmp_path / "jobs"))

        async def several() -> list[bytes]:
            return await asyncio.gather(*(pool.submit_soon(JOB) for _ in range(5)))

        assert on_event_loop(several()) == [pool.submit(JOB)] * 5


def test_an_event_loop_is_told_what_a_worker_refused(tmp_path):
    broken = TranscodeJob(FrameSource(None, (), b"none"), DESCRIBED, JPEG, NATIVE)
    with bind_socket(tmp_path / "jobs") as listening, worker_at(listening):
        pool = RenderPool.connect(str(tmp_path / "jobs"))
        with pytest.raises(InvalidInstanceError, match="JPEG"):
            on_event_loop(pool.submit_soon(broken))


def test_an_event_loop_is_told_of_a_worker_that_died_of_a_job(tmp_path):
    with bind_socket(tmp_path / "jobs") as listening:
        pool = RenderPool.connect(str(tmp_path / "jobs"))

        def die() -> None:
            connection, _ = listening.accept()
            connection.recv(10)
            connection.close()

        thread = threading.Thread(target=die)
        thread.start()
        with pytest.raises(InvalidInstanceError, match="crashed, or took longer"):
            on_event_loop(pool.submit_soon(JOB))
        thread.join()


def test_a_pool_of_its_own_serves_event_loops_too(pool):
    assert on_event_loop(pool.submit_soon(JOB)) == pool.submit(JOB)
