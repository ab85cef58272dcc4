"""What keeps a node in order: one of its workers does it beside its own work.

Once a minute: what writers that died left, the index's log, and, once an hour over all nodes,
what was deleted long ago. Every three seconds: whether there is something for a courier that
has not been started (docs/decisions/0038).
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from archive.assembly import Archive
from archive.auth.principal import OPERATOR
from archive.errors import ArchiveError, storage_translated
from archive.log import get_logger
from archive.rounds import Rounds, Step
from storage.index import clock
from storage.index.once import due_here

logger = get_logger(__name__)
_ROUND_S: Final = 60.0
_PURGE_EVERY: Final = timedelta(hours=1)
_PARTING_S: Final = 5.0
# How often it is looked for errands: what waits for the first of them waits so much longer.
_LOOK_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class House:
    """What the worker that keeps a node in order has to know.

    Parameters
    ----------
    courier_address
        Where the courier is called, which is not started before; "" on a node that has none, or
        where it runs anyway.
    """

    courier_address: str = ""


@contextlib.contextmanager
def keeping(archive: Archive, house: House | None) -> Iterator[None]:
    """Keep the node in order meanwhile; without a house nothing is done."""
    if house is None:
        yield
        return
    steps: dict[str, Step] = {"background": keep_up}
    if house.courier_address:
        steps["errands"] = _Errands(house.courier_address)
    rounds = Rounds(archive, steps, pause_s=_LOOK_S)
    rounds.start()
    try:
        yield
    finally:
        rounds.stop()
        rounds.join(_PARTING_S)


def keep_up(archive: Archive, stopping: threading.Event) -> None:
    """Do once a minute, and once an hour, what has to be done then."""
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


def has_errands(archive: Archive) -> bool:
    """Tell whether a courier has something to do, or to watch for."""
    return archive.forward.queue.is_wanted() or archive.commitments.is_due(OPERATOR)


def _purge(archive: Archive) -> None:
    archive.commitments.forget_finished(OPERATOR)
    days = archive.config.archive.keep_deleted_days
    if days:
        archive.lifecycle.purge(OPERATOR, older_than=timedelta(days=days))


class _Errands:
    """Calls the courier, once: it stays from then on."""

    def __init__(self, courier_address: str) -> None:
        self._address = courier_address
        self._called = False

    def __call__(self, archive: Archive, _stopping: threading.Event) -> None:
        if self._called or not has_errands(archive):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as calling:
            calling.connect(self._address)
        self._called = True
