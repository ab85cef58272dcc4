"""What waits: done once over all nodes, and again when it is due again."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from archive.assembly import open_archive, prepare
from archive.background import purge_in_turn
from storage.index import clock
from storage.index.once import due_here
from tests.conftest import make_config, new_database

HOUR_US = 3_600_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
def archives(request, tmp_path):
    """Two archives over one index."""
    index = {}
    if request.param == "postgresql":
        index = {"index": {"url": new_database(request.getfixturevalue("postgres_cluster"))}}
    config = make_config(tmp_path / "data", **index)
    prepare(config)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(open_archive(config)) for _ in range(2)]


def side_by_side(calls):
    barrier = Barrier(len(calls))

    def run(call):
        barrier.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_of_nodes_that_would_purge_at_the_same_time_one_does(archives):
    did = side_by_side([lambda one=one: purge_in_turn(one) for one in archives * 4])
    assert sum(did) == 1
    assert not any(map(purge_in_turn, archives))


def test_a_turn_comes_again_for_one_when_it_is_due(archives):
    now = clock.now_us()
    for later in range(3):

        def turn(one, at=now + later * HOUR_US):
            return due_here(one.engine, "tidy", now_us=at, every_us=HOUR_US)

        assert sum(side_by_side([lambda one=one: turn(one) for one in archives * 4])) == 1
    assert due_here(archives[0].engine, "other", now_us=now, every_us=HOUR_US)
