"""The cache of what was made: bounded, each value made once, failures not kept."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from archive.errors import NotAcceptableError, UnavailableError
from archive.render.cache import BoundedCache
from tests.conftest import on_event_loop


def test_a_value_is_made_once_however_many_ask_at_the_same_time():
    cache, begun, go = BoundedCache(1000), threading.Event(), threading.Event()
    made = []

    def make() -> bytes:
        begun.set()
        go.wait(10)
        made.append(1)
        return b"frame"

    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(cache.get_or_make, "key", make) for _ in range(8)]
        begun.wait(10)
        go.set()
        assert {future.result(10) for future in asked} == {b"frame"}
    assert made == [1]


def test_what_making_raises_reaches_everyone_who_waits_and_is_not_kept():
    cache, begun, go = BoundedCache(1000), threading.Event(), threading.Event()

    def fail() -> bytes:
        begun.set()
        go.wait(10)
        raise NotAcceptableError("broken")

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(cache.get_or_make, "key", fail) for _ in range(4)]
        begun.wait(10)
        go.set()
        for future in asked:
            with pytest.raises(NotAcceptableError, match="broken"):
                future.result(10)
    assert cache.get_or_make("key", lambda: b"now") == b"now"


def test_one_who_is_stopped_while_making_leaves_nothing_behind():
    cache = BoundedCache(1000)

    def stopped() -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get_or_make("key", stopped)
    assert cache.get_or_make("key", lambda: b"later") == b"later"


def test_the_oldest_go_first_and_the_bound_holds():
    cache = BoundedCache(10)
    for key in "abc":
        cache.get_or_make(key, lambda key=key: key.encode() * 4)
    assert cache.size_bytes == 8
    assert cache.get_or_make("b", lambda: b"made again") == b"bbbb"
    assert cache.get_or_make("a", lambda: b"again") == b"again"


def test_a_value_larger_than_the_bound_is_returned_but_not_kept():
    cache = BoundedCache(3)
    assert cache.get_or_make("key", lambda: b"large") == b"large"
    assert cache.size_bytes == 0


def test_event_loops_and_threads_that_ask_at_once_cost_one_making():
    cache, count = BoundedCache(1000), 0

    async def make() -> bytes:
        nonlocal count
        count += 1
        await asyncio.sleep(0.05)
        return b"made"

    async def ask() -> list[bytes]:
        here = [cache.get_or_await("key", make) for _ in range(5)]
        elsewhere = asyncio.to_thread(cache.get_or_make, "key", lambda: b"made by a thread")
        return await asyncio.gather(*here, elsewhere)

    assert on_event_loop(ask()) == [b"made"] * 6
    assert count == 1
    assert cache.get("key") == b"made"


def test_who_waited_for_one_that_went_away_is_told_to_ask_again():
    cache = BoundedCache(1000)

    async def forever() -> bytes:
        await asyncio.sleep(60)
        return b""

    async def now() -> bytes:
        return b"now"

    async def ask() -> bytes:
        maker = asyncio.create_task(cache.get_or_await("key", forever))
        await asyncio.sleep(0)
        waiter = asyncio.create_task(cache.get_or_await("key", now))
        await asyncio.sleep(0)
        maker.cancel()
        with pytest.raises(UnavailableError):
            await waiter
        return await cache.get_or_await("key", now)

    assert on_event_loop(ask()) == b"now"
