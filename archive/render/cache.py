"""Rendered and transcoded bytes that were asked for before, bounded in size."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future


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
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
                return value
            future = self._making.get(key)
            is_maker = future is None
            if future is None:
                future = self._making[key] = Future()
        if not is_maker:
            return future.result()
        return self._make(key, make, future)

    def _make(self, key: Hashable, make: Callable[[], bytes], future: Future[bytes]) -> bytes:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._keep(key, value)
        future.set_result(value)
        return value

    def _keep(self, key: Hashable, value: bytes) -> None:
        if len(value) > self._max_bytes:
            return
        self._values[key] = value
        self._size_bytes += len(value)
        while self._size_bytes > self._max_bytes:
            _, evicted = self._values.popitem(last=False)
            self._size_bytes -= len(evicted)
