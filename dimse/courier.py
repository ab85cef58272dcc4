"""The worker that acts by itself: what this archive has to say, to send, to tidy up.

One a node, started by the supervisor. Each of its steps does what is due and returns, or goes
on until it is told to stop; it has a thread of its own, so that a peer who does not answer one
of them holds up no other.

What is due stands in the index, never in memory: a courier that dies is replaced and goes on.
"""

import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Final

from archive.assembly import Archive, open_archive
from archive.background import keep_up
from archive.config import Config
from archive.log import configure_logging, get_logger
from dimse.commitment_delivery import deliver_due as deliver_commitments
from dimse.forwarding import forward_due

logger = get_logger(__name__)

# A step gets the archive, and an event that is set when the courier is to end: what takes
# long looks at it.
Step = Callable[[Archive, threading.Event], None]

STEPS: Final[Mapping[str, Step]] = {
    "commitment": deliver_commitments,
    "forwarding": forward_due,
    "background": keep_up,
}

_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0


class Courier:
    """Runs steps again and again until it is told to stop.

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
        self, archive: Archive, steps: Mapping[str, Step] = STEPS, *, pause_s: float = _PAUSE_S
    ) -> None:
        self._archive = archive
        self._pause_s = pause_s
        self._stopping = threading.Event()
        # A daemon: what hangs in a peer's socket must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._repeat, args=(name, step), name=name, daemon=True)
            for name, step in steps.items()
        ]

    def serve(self) -> None:
        """Run until `stop` is called; then let what is under way end, for a while."""
        for thread in self._threads:
            thread.start()
        self._stopping.wait()
        end = time.monotonic() + self._archive.config.archive.drain_timeout_s
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    def _repeat(self, name: str, step: Step) -> None:
        failures = 0
        pause = self._pause_s
        while not self._stopping.wait(pause):
            try:
                step(self._archive, self._stopping)
                failures, pause = 0, self._pause_s
            except Exception:
                failures += 1
                pause = min(self._pause_s * 2**failures, _LONGEST_PAUSE_S)
                # Several nodes that lost one database must not all come back in one moment.
                pause *= random.uniform(0.8, 1.2)  # noqa: S311 - no secret
                logger.exception(
                    "courier.failed", extra={"step": name, "again_in_s": round(pause, 1)}
                )


def run(config: Config, *, render_address: str | None) -> None:
    """Be the courier until SIGTERM; what the supervisor starts."""
    configure_logging(config.logging.level)
    with open_archive(config, render_address=render_address) as archive:
        courier = Courier(archive)

        def stop(_number: int, _frame: FrameType | None) -> None:
            courier.stop()

        signal.signal(signal.SIGTERM, stop)
        courier.serve()
