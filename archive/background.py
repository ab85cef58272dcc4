"""Work that may wait: purging what was deleted long ago, keeping the index's log short."""

import threading
from datetime import timedelta
from typing import Final

from archive.assembly import Archive
from archive.auth.principal import OPERATOR
from archive.errors import ArchiveError
from archive.log import get_logger

logger = get_logger(__name__)
_ROUND_S: Final = 60.0
_ROUNDS_BETWEEN_PURGES: Final = 60


def keep_up(archive: Archive, stopping: threading.Event) -> None:
    """Do once a minute, and once an hour, what has to be done then; a courier's step."""
    rounds = 0
    while not stopping.wait(_ROUND_S):
        rounds += 1
        try:
            archive.lifecycle.sweep()
            archive.engine.checkpoint()
            if rounds % _ROUNDS_BETWEEN_PURGES == 1:
                _purge(archive)
        except ArchiveError as error:
            logger.warning("background.postponed", extra={"reason": str(error)})


def _purge(archive: Archive) -> None:
    archive.commitments.forget_finished(OPERATOR)
    days = archive.config.archive.keep_deleted_days
    if days:
        archive.lifecycle.purge(OPERATOR, older_than=timedelta(days=days))
