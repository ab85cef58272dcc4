"""The worker that speaks to peers by itself: reports and studies that are due.

It is started when a node's housekeeper finds something for it to do (`archive.background`), or
at once on a node that is there for it. What is due stands in the index, never in memory: a
courier that dies is replaced and goes on.
"""

import signal
from collections.abc import Mapping
from types import FrameType
from typing import Final

from archive.assembly import open_archive
from archive.background import House, keeping
from archive.config import Config
from archive.log import configure_logging
from archive.rounds import Rounds, Step
from dimse.commitment_delivery import deliver_due as deliver_commitments
from dimse.forwarding import forward_due

STEPS: Final[Mapping[str, Step]] = {
    "commitment": deliver_commitments,
    "forwarding": forward_due,
}


def run(config: Config, *, render_address: str | None, house: House | None = None) -> None:
    """Be the courier until SIGTERM; what the supervisor starts."""
    configure_logging(config.logging.level)
    with (
        open_archive(config, render_address=render_address) as archive,
        keeping(archive, house),
    ):
        rounds = Rounds(archive, STEPS)

        def stop(_number: int, _frame: FrameType | None) -> None:
            rounds.stop()

        signal.signal(signal.SIGTERM, stop)
        rounds.serve()
