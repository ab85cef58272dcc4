"""Group commit: what has queued becomes durable and visible together.

There is no timer and no thread of its own: who finds nobody at it does it for all that have
queued; the others wait, and find theirs done when it is their turn. So one sender waits for
nothing, and many senders share the syncs of folders, and then one transaction.
"""

import threading
from collections import deque
from typing import Final

from archive.log import get_logger
from storage.errors import IndexInDoubtError, StorageError
from storage.index.insertion import InstanceInserter
from storage.index.rows import Insertion, NewInstance
from storage.objects.base import ObjectStore

_LARGEST_BATCH: Final = 256
logger = get_logger(__name__)


class Pending:
    """An instance whose object is written, and what becomes of it.

    ``is_settled`` once the name of its object is durable, or could not be made so.
    """

    __slots__ = ("error", "insertion", "is_settled", "new")

    def __init__(self, new: NewInstance) -> None:
        self.new = new
        self.is_settled = False
        self.insertion: Insertion | None = None
        self.error: Exception | None = None

    @property
    def key(self) -> str:
        """The address of its object."""
        return self.new.instance.object_key

    @property
    def is_done(self) -> bool:
        """Whether it was committed, or could not be."""
        return self.insertion is not None or self.error is not None

    def outcome(self) -> Insertion:
        """Return what became of it, or raise why it could not be committed."""
        if self.insertion is None:
            raise self.error or RuntimeError("it is not committed yet")
        return self.insertion


class Committer:
    """Settles objects and inserts their rows, batch by batch.

    Parameters
    ----------
    objects
        Where the objects lie, written but not settled.
    inserter
        The index's way in.
    """

    def __init__(self, objects: ObjectStore, inserter: InstanceInserter) -> None:
        self._objects = objects
        self._inserter = inserter
        self._written: deque[Pending] = deque()
        self._settling = threading.Lock()
        self._settled: deque[Pending] = deque()
        self._committing = threading.Lock()

    def submit(self, new: NewInstance) -> Pending:
        """Queue an instance whose object is written: none that comes later is before it."""
        pending = Pending(new)
        self._written.append(pending)
        return pending

    def result(self, pending: Pending) -> Insertion:
        """Return what became of an instance, once it is durable and visible.

        Raises
        ------
        StorageError
            If it, and all that were to be committed with it, could not be.
        """
        while not pending.is_settled:
            with self._settling:
                if not pending.is_settled:
                    self._settle(_drained(self._written))
        while not pending.is_done:
            with self._committing:
                if not pending.is_done:
                    self._commit()
        return pending.outcome()

    def close(self) -> None:
        """Wait for what is being committed."""
        with self._settling, self._committing:
            pass

    def _settle(self, batch: list[Pending]) -> None:
        try:
            self._objects.settle([pending.key for pending in batch])
        except Exception as error:  # noqa: BLE001 - told to whoever sent them
            self._fail(batch, error)
        else:
            self._settled.extend(batch)
        for pending in batch:
            pending.is_settled = True

    def _commit(self) -> None:
        try:
            # What is settled while others' turns last is inserted with the rest.
            with self._inserter.turn():
                self._insert(_drained(self._settled))
        except StorageError as error:  # others took too long
            self._fail(_drained(self._settled), error)

    def _insert(self, batch: list[Pending]) -> None:
        keys = [pending.key for pending in batch]
        try:
            insertions = self._inserter.insert([pending.new for pending in batch])
        except Exception as error:  # noqa: BLE001 - told to whoever sent them
            self._fail(batch, error)
            return
        self._remove([k for k, done in zip(keys, insertions, strict=True) if not done.keep])
        self._objects.forget(keys)
        for pending, insertion in zip(batch, insertions, strict=True):
            pending.insertion = insertion

    def _fail(self, batch: list[Pending], error: Exception) -> None:
        logger.warning("commit.failed", extra={"instances": len(batch)}, exc_info=error)
        # What may have been committed keeps its bytes: were they gone, the sender's next
        # attempt would be a duplicate of nothing. The sweep removes them if it was not.
        if not isinstance(error, IndexInDoubtError):
            self._remove([pending.key for pending in batch])
        for pending in batch:
            pending.error = error

    def _remove(self, keys: list[str]) -> None:
        for key in self._objects.discard(keys) if keys else ():
            # It stays as a stray that the next sweep or `verify` finds.
            logger.warning("object.not-removed", extra={"key": key})


def _drained(queue: deque[Pending]) -> list[Pending]:
    count = min(len(queue), _LARGEST_BATCH)
    return [queue.popleft() for _ in range(count)]
