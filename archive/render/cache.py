"""Rendered and transcoded bytes that were asked for before, bounded in size."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Future

from archive.errors import UnavailableError


class BoundedCache:
    """The most recently used values, at most so many bytes, each made once at a time.

    Thread-safe. While one thread makes a value, others that ask for it wait for that one:
    twenty viewers that open the same slice cost one decoding.

    Parameters
    ----------
    max_bytes
        The values kept never add up to more; a larger value is returned but not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._values: OrderedDict[Hashable, bytes] = OrderedDict()
        self._making: dict[Hashable, Future[bytes]] = {}
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """What the values kept add up to."""
        return self._size_bytes

    def get(self, key: Hashable) -> bytes | None:
        """Return the value of ``key`` if it is kept; waits for nobody."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def get_or_make(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return the value of ``key``, made by ``make`` unless it is kept.

        Parameters
        ----------
        key
            Everything the value depends on.
        make
            Called in this thread. What it raises is raised in every thread that waited for
            it, and nothing is kept: the next asker tries again.
        """
        value, future, is_maker = self._claim(key)
        if value is not None:
            return value
        if not is_maker:
            return future.result()
        try:
            value = make()
        except BaseException as error:
            self._failed(key, future, error)
            raise
        self._done(key, future, value)
        return value

    async def get_or_await(
        self, key: Hashable, make: Callable[[], Coroutine[None, None, bytes]]
    ) -> bytes:
        """Return the value of ``key`` on an event loop, which waits for no thread."""
        value, future, is_maker = self._claim(key)
        if value is not None:
            return value
        if not is_maker:
            # Who goes away while he waits takes nothing from the others.
            return await asyncio.shield(asyncio.wrap_future(future))
        try:
            value = await make()
        except BaseException as error:
            self._failed(key, future, error)
            raise
        self._done(key, future, value)
        return value

    def _claim(self, key: Hashable) -> tuple[bytes | None, Future[bytes], bool]:
        """Return the value if it is kept, who makes it, and whether that is the caller."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            future = self._making.get(key)
            is_maker = value is None and future is None
            if future is None:
                future = Future()
            if is_maker:
                self._making[key] = future
            return value, future, is_maker

    def _failed(self, key: Hashable, future: Future[bytes], error: BaseException) -> None:
        with self._lock:
            del self._making[key]
        if isinstance(error, Exception):
            future.set_exception(error)
        else:  # who made it was sent home, which is no reason for those who wait
            future.set_exception(UnavailableError("it was not made; try again"))

    def _done(self, key: Hashable, future: Future[bytes], value: bytes) -> None:
        with self._lock:
            del self._making[key]
            self._keep(key, value)
        future.set_result(value)

    def _keep(self, key: Hashable, value: bytes) -> None:
        if len(value) > self._max_bytes:
            return
        self._values[key] = value
        self._size_bytes += len(value)
        while self._size_bytes > self._max_bytes:
            _, evicted = self._values.popitem(last=False)
            self._size_bytes -= len(evicted)
