"""Group commit: what has queued becomes durable and visible together.

There is no timer: the queue fills while the commit before it runs, so one sender waits for
nothing and many senders share one transaction.
"""

import queue
import threading
from concurrent.futures import Future
from typing import Final

from archive.log import get_logger
from storage.errors import StorageError
from storage.index.insertion import InstanceInserter
from storage.index.rows import Insertion, NewInstance
from storage.objects.base import ObjectStore

_LARGEST_BATCH: Final = 256
_Entry = tuple[NewInstance, "Future[Insertion]"]
logger = get_logger(__name__)


class Committer:
    """One thread that settles objects and inserts their rows, batch by batch.

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
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, new: NewInstance) -> "Future[Insertion]":
        """Queue an instance whose object is written; the future ends after the commit."""
        # The thread starts with the first instance: workers are forked from idle processes.
        if self._thread is None:
            self._start()
        future: Future[Insertion] = Future()
        self._queue.put((new, future))
        return future

    def close(self) -> None:
        """Commit what is queued, and end."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            batch, ended = self._drain(entry)
            self._commit(batch)
            if ended:
                return

    def _drain(self, first: _Entry) -> tuple[list[_Entry], bool]:
        batch = [first]
        while len(batch) < _LARGEST_BATCH:
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                break
            if entry is None:
                return batch, True
            batch.append(entry)
        return batch, False

    def _commit(self, batch: list[_Entry]) -> None:
        keys = [new.instance.object_key for new, _ in batch]
        try:
            self._objects.settle(keys)
            insertions = self._inserter.insert([new for new, _ in batch])
        except Exception as error:
            logger.warning("commit.failed", extra={"instances": len(batch)}, exc_info=error)
            self._remove(keys)
            for _, future in batch:
                future.set_exception(error)
            return
        self._remove([k for k, done in zip(keys, insertions, strict=True) if not done.keep])
        self._objects.forget(keys)
        for (_, future), insertion in zip(batch, insertions, strict=True):
            future.set_result(insertion)

    def _remove(self, keys: list[str]) -> None:
        for key in keys:
            try:
                self._objects.delete(key)
            except StorageError as error:
                # It stays as a stray that the next sweep or `verify` finds.
                logger.warning("object.not-removed", extra={"key": key}, exc_info=error)
        self._objects.forget(keys)
