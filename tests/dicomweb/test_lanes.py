"""Lanes: nobody waits without bound, and what has no lane is not held up."""

import anyio
import pytest

from archive.errors import BusyError
from archive.ingest.buffers import BUFFERS
from archive.ingest.growing import Growing
from dicomweb.lanes import Lane

START = {"type": "http.response.start", "status": 200, "headers": []}


class Work:
    """An application that answers when it is told to."""

    def __init__(self):
        self.begun = 0
        self.may_answer = anyio.Event()
        self.may_end = anyio.Event()

    async def __call__(self, scope, receive, send):
        self.begun += 1
        await self.may_answer.wait()
        await send(START)
        await self.may_end.wait()


async def nothing(*_):
    return None


def serving(lane, work):
    return lane.serve(work, {}, nothing, nothing)


def test_more_than_may_wait_are_sent_away_at_once():
    async def crowd():
        lane, work, refused = Lane(1, 1), Work(), []

        async def ask():
            try:
                await serving(lane, work)
            except BusyError:
                refused.append(1)
                work.may_answer.set()
                work.may_end.set()

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
        assert work.begun == 2
        assert len(refused) == 1

    anyio.run(crowd)


def test_nobody_waits_longer_than_the_patience():
    async def wait():
        lane, work = Lane(1, 1, patience_s=0.01), Work()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serving, lane, work)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(BusyError):
                await serving(lane, work)
            work.may_answer.set()
            work.may_end.set()
        await serving(lane, work)  # the place is free again
        assert work.begun == 2

    anyio.run(wait)


def test_who_reads_an_answer_slowly_takes_no_place():
    async def read():
        lane, slow, quick = Lane(1, 0), Work(), Work()
        slow.may_answer.set()
        quick.may_answer.set()
        quick.may_end.set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serving, lane, slow)
            await anyio.wait_all_tasks_blocked()
            await serving(lane, quick)
            assert quick.begun == 1
            slow.may_end.set()

    anyio.run(read)


def test_a_place_comes_back_when_its_request_fails():
    async def fail():
        lane = Lane(1, 0)

        async def failing(*_):
            raise ValueError("broken")

        for _ in range(2):
            with pytest.raises(ValueError, match="broken"):
                await lane.serve(failing, {}, nothing, nothing)

    anyio.run(fail)


def test_with_many_instances_under_way_each_takes_little_memory():
    few = Growing(lambda: None)
    assert not few.gather(bytes(3 << 20))
    taken = [BUFFERS.take() for _ in range(128)]
    try:
        assert BUFFERS.is_scarce
        assert few.gather(b"1")
    finally:
        for buffer in taken:
            BUFFERS.give_back(buffer)
    assert not BUFFERS.is_scarce
    assert not few.gather(b"2")
    few.discard()


def test_memory_that_is_let_go_of_is_not_counted_for_ever():
    for _ in range(200):
        forgotten = Growing(lambda: None)
        forgotten.gather(bytes(1000))
        view = forgotten.finish()
        del forgotten
        assert bytes(view) == bytes(1000)
        del view
    assert not BUFFERS.is_scarce
