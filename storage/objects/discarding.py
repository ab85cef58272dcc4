"""Objects that are to go, removed beside the work: a server takes its time for each."""

import queue
import threading
from collections.abc import Callable

from storage.errors import StorageError


class Discarding:
    """Removes objects one after the other, on a thread that begins when there are some.

    What it has not come to when its process ends, or cannot remove, is in the journal still.

    Parameters
    ----------
    delete
        Removes one.
    done
        Called with each that is gone.
    """

    def __init__(self, delete: Callable[[str], None], done: Callable[[str], None]) -> None:
        self._delete = delete
        self._done = done
        self._keys: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending: set[str] = set()
        self._runs = False

    def add(self, keys: list[str]) -> None:
        """Have ``keys`` removed."""
        with self._lock:
            self._pending.update(keys)
            for key in keys:
                self._keys.put(key)
            if keys and not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="discarding", daemon=True).start()

    def without(self, keys: list[str]) -> list[str]:
        """Return those of ``keys`` that are not being removed."""
        if not self._pending:
            return keys
        with self._lock:
            return [key for key in keys if key not in self._pending]

    def _run(self) -> None:
        while True:
            key = self._keys.get()
            try:
                self._delete(key)
            except StorageError:
                continue  # a sweep asks for it again
            with self._lock:
                self._pending.discard(key)
            self._done(key)
