"""Work that may wait: purging what was deleted long ago, keeping the index's log short."""

import threading
from datetime import timedelta
from typing import Final

from archive.assembly import Archive
from archive.auth.principal import OPERATOR
from archive.errors import ArchiveError, storage_translated
from archive.log import get_logger
from storage.index import clock
from storage.index.once import due_here

logger = get_logger(__name__)
_ROUND_S: Final = 60.0
_PURGE_EVERY: Final = timedelta(hours=1)


def keep_up(archive: Archive, stopping: threading.Event) -> None:
    """Do once a minute, and once an hour, what has to be done then; a courier's step."""
    while not stopping.wait(_ROUND_S):
        try:
            archive.lifecycle.sweep()
            archive.engine.checkpoint()
            purge_in_turn(archive)
        except ArchiveError as error:
            logger.warning("background.postponed", extra={"reason": str(error)})


def purge_in_turn(archive: Archive) -> bool:
    """Forget what is over, if no node did in the last hour; return whether this one did."""
    every_us = _PURGE_EVERY // timedelta(microseconds=1)
    with storage_translated():
        mine = due_here(archive.engine, "purge", now_us=clock.now_us(), every_us=every_us)
    if mine:
        _purge(archive)
    return mine


def _purge(archive: Archive) -> None:
    archive.commitments.forget_finished(OPERATOR)
    days = archive.config.archive.keep_deleted_days
    if days:
        archive.lifecycle.purge(OPERATOR, older_than=timedelta(days=days))
