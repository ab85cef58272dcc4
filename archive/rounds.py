"""Work that is done again and again, each kind on a thread of its own, until it is to end."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from archive.assembly import Archive
from archive.log import get_logger

logger = get_logger(__name__)

# A step gets the archive, and an event that is set when it is to end: what takes long looks at
# it.
Step = Callable[[Archive, threading.Event], None]

_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0


class Rounds:
    """Runs steps again and again until told to stop.

    Each does what is due and returns, or goes on until it is to end; none holds up another. One
    that fails is tried again, ever more rarely.

    Parameters
    ----------
    archive
        What the steps work on.
    steps
        By the names they have in logs.
    pause_s
        Seconds between two rounds of a step.
    """

    def __init__(
        self, archive: Archive, steps: Mapping[str, Step], *, pause_s: float = _PAUSE_S
    ) -> None:
        self._archive = archive
        self._pause_s = pause_s
        self.stopping = threading.Event()
        # A daemon: what hangs in a peer's socket must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._repeat, args=(name, step), name=name, daemon=True)
            for name, step in steps.items()
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def serve(self) -> None:
        """Run until `stop` is called; then let what is under way end, for a while."""
        self.start()
        self.stopping.wait()
        self.join(self._archive.config.archive.drain_timeout_s)

    def stop(self) -> None:
        """Begin nothing more."""
        self.stopping.set()

    def join(self, timeout_s: float) -> None:
        """Wait so long for what is under way."""
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))

    def _repeat(self, name: str, step: Step) -> None:
        failures = 0
        pause = self._pause_s
        while not self.stopping.wait(pause):
            try:
                step(self._archive, self.stopping)
                failures, pause = 0, self._pause_s
            except Exception:
                failures += 1
                pause = min(self._pause_s * 2 ** min(failures, 16), _LONGEST_PAUSE_S)
                # Several nodes that lost one database must not all come back in one moment.
                pause *= random.uniform(0.8, 1.2)  # noqa: S311 - no secret
                logger.exception(
                    "round.failed", extra={"step": name, "again_in_s": round(pause, 1)}
                )
