"""Work that may wait: purging what was deleted long ago, keeping the index's log short."""

import signal
import threading
from datetime import timedelta
from types import FrameType
from typing import Final

from archive.assembly import open_archive
from archive.auth.principal import OPERATOR
from archive.config import Config
from archive.errors import ArchiveError
from archive.log import configure_logging, get_logger

logger = get_logger(__name__)
_CHECKPOINT_S: Final = 60.0
_ROUNDS_BETWEEN_PURGES: Final = 60


def run(config: Config) -> None:
    """Be the background worker until SIGTERM; what the supervisor starts."""
    configure_logging(config.logging.level)
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    with open_archive(config) as archive:
        rounds = 0
        while not stopping.wait(_CHECKPOINT_S):
            rounds += 1
            try:
                archive.lifecycle.sweep()
                archive.engine.checkpoint()
                if rounds % _ROUNDS_BETWEEN_PURGES == 1:
                    archive.commitments.forget_finished(OPERATOR)
                if config.archive.keep_deleted_days and rounds % _ROUNDS_BETWEEN_PURGES == 1:
                    age = timedelta(days=config.archive.keep_deleted_days)
                    archive.lifecycle.purge(OPERATOR, older_than=age)
            except ArchiveError as error:
                logger.warning("background.postponed", extra={"reason": str(error)})
