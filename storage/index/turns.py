"""Whose turn it is to write: SQLite has one writer, and its own way to wait for it is to sleep.

Processes and threads that write wait here, and are woken by whoever has written. The lock is a
file's and ends with its process. It only saves waiting: SQLite's own lock still decides.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from typing import Final

from storage.errors import IndexBusyError

_LONGEST_WAIT_S: Final = 30.0


class Turns:
    """The turns of one index's writers.

    Parameters
    ----------
    path
        A file beside the index, made when it is missing.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._holder: int | None = None

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Wait for a turn, and have it inside the block; within it the same thread has it.

        Raises
        ------
        IndexBusyError
            If other threads take too long.
        """
        me = threading.get_ident()
        if self._holder == me:
            yield
            return
        if not self._threads.acquire(timeout=_LONGEST_WAIT_S):
            raise IndexBusyError("other threads wait for their turn to write for too long")
        descriptor = None
        try:
            descriptor = self._locked()
            self._holder = me
            yield
        finally:
            self._holder = None
            if descriptor is not None:
                # A process that was forked meanwhile holds the descriptor, too.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)
            self._threads.release()

    def _locked(self) -> int | None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError:  # no place for it: SQLite's lock alone must do
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            os.close(descriptor)
            return None
        return descriptor
