"""Fixity: every object read again, and compared with what was acknowledged."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Final

from archive.errors import storage_translated
from storage.errors import ObjectMissingError, ObjectUnreadableError, StoreUnavailableError
from storage.index.lifecycle import InstanceLifecycle
from storage.index.rows import IndexedObject
from storage.objects.base import ObjectStore
from storage.objects.keys import OBJECTS

_CHUNK_BYTES: Final = 1 << 20
_BATCH: Final = 256


class Fault(StrEnum):
    """What is wrong with an object."""

    NONE = ""
    LOST = "lost"
    CORRUPT = "corrupt"


def check_object(objects: ObjectStore, wanted: IndexedObject) -> Generator[None, None, Fault]:
    """Read an object again and compare it with what was acknowledged.

    A generator, which yields between pieces of the object so that its caller may do something
    else meanwhile, and returns what is wrong.

    Raises
    ------
    StoreUnavailableError
        If it cannot be read now, which says nothing about the object.
    """
    try:
        if objects.size(wanted.object_key) != wanted.size_bytes:
            return Fault.CORRUPT
        digest = hashlib.sha256()
        length = wanted.size_bytes - wanted.dataset_offset
        for chunk in objects.iter_chunks(
            wanted.object_key, wanted.dataset_offset, length, _CHUNK_BYTES
        ):
            digest.update(chunk)
            yield
    except StoreUnavailableError:
        raise
    except ObjectMissingError:
        return Fault.LOST
    except ObjectUnreadableError:
        return Fault.CORRUPT
    return Fault.NONE if digest.digest() == wanted.digest else Fault.CORRUPT


def _finish(check: Generator[None, None, Fault]) -> Fault:
    while True:
        try:
            next(check)
        except StopIteration as end:
            fault: Fault = end.value
            return fault


@dataclass(slots=True)
class VerifyReport:
    """What a verification found.

    Attributes
    ----------
    lost
        Objects that the index names and the store does not have.
    corrupt
        Objects whose length or SHA-256 is not what was acknowledged.
    orphans
        Objects that no instance of the index refers to.
    removed
        How many of these were removed.
    """

    objects: int = 0
    bytes_: int = 0
    lost: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    removed: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.corrupt or len(self.orphans) > self.removed)


class Verifier:
    """Compares the object store with the index, both ways.

    Parameters
    ----------
    lifecycle
        The index.
    objects
        Where the bytes lie.
    """

    def __init__(self, lifecycle: InstanceLifecycle, objects: ObjectStore) -> None:
        self._lifecycle = lifecycle
        self._objects = objects

    def verify(
        self,
        *,
        progress: Callable[[int, int], None] | None = None,
        threads: int = 4,
        grace_s: float = 60.0,
        remove_orphans: bool = False,
    ) -> VerifyReport:
        """Read every object again.

        Parameters
        ----------
        progress
            Called with the objects and bytes read since its last call.
        threads
            How many objects are read at once.
        grace_s
            Objects younger than this are no orphans yet: an instance that is just arriving
            lies there before the index names it.
        remove_orphans
            Whether they are removed: what a node left that never comes back.
        """
        report = VerifyReport()
        with storage_translated(), ThreadPoolExecutor(threads) as pool:
            indexed = self._lifecycle.iter_objects()
            while batch := list(islice(indexed, _BATCH)):
                for wanted, fault in zip(batch, pool.map(self._fault, batch), strict=True):
                    _note(report, wanted, fault)
                if progress is not None:
                    progress(len(batch), sum(wanted.size_bytes for wanted in batch))
            report.orphans.extend(self._orphans(grace_s))
            if remove_orphans:
                # Asked once more: it takes a while to look at everything.
                for key in self._lifecycle.unindexed(report.orphans):
                    report.removed += self._objects.discard_stray(key)
        return report

    def _fault(self, wanted: IndexedObject) -> Fault:
        return _finish(check_object(self._objects, wanted))

    def _orphans(self, grace_s: float) -> Iterator[str]:
        stored = self._objects.walk(OBJECTS)
        while batch := list(islice(stored, _BATCH)):
            unindexed = set(self._lifecycle.unindexed([entry.key for entry in batch]))
            yield from (
                entry.key
                for entry in batch
                if entry.key in unindexed and entry.age_s >= grace_s
            )


def _note(report: VerifyReport, wanted: IndexedObject, fault: Fault) -> None:
    report.objects += 1
    report.bytes_ += wanted.size_bytes
    if fault is Fault.LOST:
        report.lost.append(wanted.object_key)
    elif fault is Fault.CORRUPT:
        report.corrupt.append(wanted.object_key)
