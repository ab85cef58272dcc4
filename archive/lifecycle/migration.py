"""Objects from one store to another, each compared on the way and again at its end.

What is copied is what the index refers to, in whatever state, and the records beside it:
sources and ledger. An object is read once from the old store; the SHA-256 of its data set must
be the index's, so nothing that is broken is carried on. The new store's answer is not taken on
trust either: the object is read back from it, and all its bytes must be those that were read.

Objects never change and keys are unique: the archive may serve, and take in, meanwhile. A
second run copies what arrived during the first, and passes over what is there.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import chain, islice
from typing import Final

from archive.errors import storage_translated
from storage.errors import NoSpaceError, ObjectMissingError, StorageError
from storage.index.lifecycle import InstanceLifecycle
from storage.index.rows import IndexedObject
from storage.objects.base import Buffer, ObjectStore, Spool
from storage.objects.keys import LEDGER, SOURCES

_BATCH: Final = 64
_CHUNK_BYTES: Final = 1 << 20
_IN_MEMORY_BYTES: Final = 8 << 20


class Outcome(StrEnum):
    """What became of an object."""

    COPIED = "copied"
    THERE = "there"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Row:
    """One object, and what became of it.

    Parameters
    ----------
    sha256
        Of all its bytes, in hexadecimal digits; empty where they were not read.
    reason
        Why it failed.
    """

    key: str
    size_bytes: int
    outcome: Outcome
    sha256: str = ""
    reason: str = ""


@dataclass(slots=True)
class MigrationReport:
    """What a migration did; the rows of what failed."""

    copied: int = 0
    there: int = 0
    bytes_: int = 0
    removed: int = 0
    failed: list[Row] = field(default_factory=list)

    def note(self, row: Row) -> None:
        """Count one object."""
        if row.outcome is Outcome.FAILED:
            self.failed.append(row)
        elif row.outcome is Outcome.THERE:
            self.there += 1
        else:
            self.copied += 1
            self.bytes_ += row.size_bytes


class Migration:
    """Copies the objects of an archive to another store.

    Parameters
    ----------
    lifecycle
        The index.
    source, target
        Where they lie, and where they are to lie.
    check
        Whether what the target has already is read and compared as well, not only measured.
    """

    def __init__(
        self,
        lifecycle: InstanceLifecycle,
        source: ObjectStore,
        target: ObjectStore,
        *,
        check: bool = False,
    ) -> None:
        self._lifecycle = lifecycle
        self._source = source.uncached()
        self._target = target
        self._written = target.uncached()
        self._check = check

    def run(
        self, *, threads: int = 8, note: Callable[[list[Row]], None] | None = None
    ) -> MigrationReport:
        """Copy; ``note`` is called with each few objects that are done.

        Raises
        ------
        StorageFullError, UnavailableError
            If the target takes nothing more, or a store or the index does not answer.
        """
        report = MigrationReport()
        with storage_translated(), ThreadPoolExecutor(threads) as pool:
            for batch in _batches(self._wanted()):
                rows = list(pool.map(self._copy, batch))
                keys = [row.key for row in rows if row.outcome is Outcome.COPIED]
                self._target.settle(keys)
                self._target.forget(keys)
                for row in rows:
                    report.note(row)
                if note is not None:
                    note(rows)
        return report

    def remove_source(self) -> int:
        """Remove from the source what the target has; return how many objects."""
        removed = 0
        with storage_translated():
            for batch in _batches(self._wanted()):
                for wanted in batch:
                    if self._written.size(wanted.object_key) == wanted.size_bytes:
                        self._source.delete(wanted.object_key)
                        removed += 1
        return removed

    def _wanted(self) -> Iterator[IndexedObject]:
        # Sources first: an instance whose source is unknown could not be indexed again.
        stored = chain(self._source.walk(SOURCES), self._source.walk(LEDGER))
        records = (IndexedObject(one.key, one.size_bytes, 0, b"") for one in stored)
        return chain(records, self._lifecycle.iter_objects())

    def _copy(self, wanted: IndexedObject) -> Row:
        row = partial(Row, wanted.object_key, wanted.size_bytes)
        try:
            if self._is_there(wanted):
                return row(Outcome.THERE)
            body, digest = self._read(wanted)
            try:
                self._target.put(wanted.object_key, body)
            finally:
                if not isinstance(body, Buffer):
                    body.discard()
            if self._digest(self._written, wanted) != digest:
                self._target.delete(wanted.object_key)
                return row(Outcome.FAILED, reason="other bytes came back from the new store")
            return row(Outcome.COPIED, digest.hex())
        except _BrokenError as error:
            return row(Outcome.FAILED, reason=str(error))
        except NoSpaceError:
            raise
        except StorageError as error:
            return row(Outcome.FAILED, reason=str(error))

    def _is_there(self, wanted: IndexedObject) -> bool:
        try:
            if self._written.size(wanted.object_key) != wanted.size_bytes:
                return False
        except ObjectMissingError:
            return False
        if not self._check:
            return True
        there, here = (self._digest(store, wanted) for store in (self._written, self._source))
        return there == here

    def _read(self, wanted: IndexedObject) -> tuple[Buffer | Spool, bytes]:
        """Return an object of the source, and the SHA-256 of all of it."""
        if wanted.size_bytes <= _IN_MEMORY_BYTES:
            chunks = list(self._chunks(self._source, wanted))
            return b"".join(chunks), _compared(wanted, chunks)
        spool = self._target.new_spool()
        try:
            return spool, _compared(wanted, self._spooled(spool, wanted))
        except BaseException:
            spool.discard()
            raise

    def _spooled(self, spool: Spool, wanted: IndexedObject) -> Iterator[bytes]:
        for chunk in self._chunks(self._source, wanted):
            spool.write(chunk)
            yield chunk

    def _digest(self, store: ObjectStore, wanted: IndexedObject) -> bytes:
        digest = hashlib.sha256()
        for chunk in self._chunks(store, wanted):
            digest.update(chunk)
        return digest.digest()

    @staticmethod
    def _chunks(store: ObjectStore, wanted: IndexedObject) -> Iterator[bytes]:
        return store.iter_chunks(wanted.object_key, 0, wanted.size_bytes, _CHUNK_BYTES)


class _BrokenError(Exception):
    """An object of the source is not what was acknowledged."""


def _compared(wanted: IndexedObject, chunks: Iterable[bytes]) -> bytes:
    """Return the SHA-256 of all bytes, once that of the data set is seen to be the index's."""
    whole, data_set = hashlib.sha256(), hashlib.sha256()
    skipped = wanted.dataset_offset
    for chunk in chunks:
        whole.update(chunk)
        data_set.update(memoryview(chunk)[skipped:])
        skipped -= min(skipped, len(chunk))
    if wanted.digest and data_set.digest() != wanted.digest:
        raise _BrokenError("its data set is not what was acknowledged; it was not copied")
    return whole.digest()


def _batches(wanted: Iterator[IndexedObject]) -> Iterator[list[IndexedObject]]:
    while batch := list(islice(wanted, _BATCH)):
        yield batch
