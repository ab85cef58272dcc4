"""Threads that are kept for a while, for work that comes in small pieces and must not wait.

To start a thread costs more than many a piece of work: 0.1 ms, and as much again to hand over
through `queue.Queue`.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

_IDLE_S: Final = 10.0
_MOST_IDLE: Final = 32

Work = Callable[[], None]


class KeptThreads:
    """Carries out each piece of work at once, on a thread that has nothing to do, or a new one.

    A thread ends when nothing has come for a while, or when enough others wait.

    Parameters
    ----------
    idle_name
        What threads are called that wait.
    """

    def __init__(self, idle_name: str) -> None:
        self._idle_name = idle_name
        self._idle: deque[_KeptThread] = deque()

    def run(self, work: Work, name: str) -> None:
        """Begin a piece of work, on a thread of that name."""
        try:
            thread = self._idle.pop()
        except IndexError:
            thread = _KeptThread(self)
        thread.do(work, name)

    def wait(self, thread: "_KeptThread") -> bool:
        """Let a thread wait for work; False when enough do."""
        if len(self._idle) >= _MOST_IDLE:
            return False
        thread.name = self._idle_name
        self._idle.append(thread)
        return True

    def retire(self, thread: "_KeptThread") -> bool:
        """Let a thread end; False when it was given something to do in this moment."""
        try:
            self._idle.remove(thread)
        except ValueError:
            return False
        return True


class _KeptThread(threading.Thread):
    """A thread that carries out one piece of work after another."""

    def __init__(self, among: KeptThreads) -> None:
        super().__init__(daemon=True)
        self._among = among
        self._work: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self.start()

    def do(self, work: Work, name: str) -> None:
        self.name = name
        self._work.put(work)

    def run(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=_IDLE_S)
            except queue.Empty:
                if self._among.retire(self):
                    return
                work = self._work.get()
            work()
            del work  # and with it what it found
            if not self._among.wait(self):
                return
