"""Workers of a pool outlive the thread that asked first, and are replaced when they die."""

import threading

import pytest

from archive.render.jobs import IconJob
from archive.render.pool import RenderPool
from tests.conftest import wait_until

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
