"""The index made again from the objects alone: the objects are the truth."""

import mmap
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from archive.dicom.parse import parse_instance
from archive.dicom.part10 import read_file_meta
from archive.errors import InvalidInstanceError, storage_translated
from archive.ingest.extract import Arrival, describe, digest_of, new_instance
from archive.ingest.source import decode_source, source_object
from archive.lifecycle.ledger import DELETED, POLICY, RESTORED, Ledger, LedgerEntry
from storage.errors import ObjectMissingError
from storage.index import clock
from storage.index.engine import IndexEngine
from storage.index.insertion import InstanceInserter
from storage.index.lifecycle import Act, InstanceLifecycle
from storage.index.rows import NewInstance, Source
from storage.index.scope import Scope
from storage.objects.base import ObjectStore, StoredObject
from storage.objects.keys import OBJECTS, InstanceKey, parse_instance_key

_EVERYTHING = Scope(collections=None, partitions=None)
_BATCH = 256
_THREADS = 8
_AHEAD = 64
_IN_MEMORY_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
REPLACE = "replace"


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild read.

    Attributes
    ----------
    unreadable
        Objects that could not be indexed, with the reason.
    """

    studies: int = 0
    instances: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Found:
    """An object under an instance's key."""

    key: str
    size_bytes: int
    parts: InstanceKey


class Rebuilder:
    """Fills an empty index from the objects, study by study, in the order of arrival.

    Parameters
    ----------
    engine
        An index without instances, at the current schema.
    objects
        Where the bytes lie.
    """

    def __init__(self, engine: IndexEngine, objects: ObjectStore) -> None:
        self._engine = engine
        self._objects = objects
        self._lifecycle = InstanceLifecycle(engine, describe)
        self._inserters = {
            replace: InstanceInserter(engine, replace=replace) for replace in (False, True)
        }
        self._sources: dict[str, Source] = {}
        self._readers = ThreadPoolExecutor(_THREADS)
        self._policies: list[tuple[int, bool]] = []
        self._acts: dict[str, list[LedgerEntry]] = defaultdict(list)
        self.report = RebuildReport()

    def rebuild(self, *, progress: Callable[[int], None] | None = None) -> RebuildReport:
        """Index everything; ``progress`` is called with the instances of each study."""
        with storage_translated():
            self._read_ledger()
            found = self._iter_found()
            for study, group in groupby(found, key=lambda f: f.parts.study_instance_uid):
                before = self.report.instances
                self._index_study(
                    study, sorted(group, key=lambda f: (f.parts.moment_us, f.key))
                )
                self.report.studies += 1
                if progress is not None:
                    progress(self.report.instances - before)
        return self.report

    def close(self) -> None:
        """Fold everything into the database file, and close it."""
        self._readers.shutdown()
        self._engine.checkpoint()
        self._engine.close()

    def _read_ledger(self) -> None:
        for entry in Ledger(self._objects).entries():
            if entry.act == POLICY:
                self._policies.append((entry.at_us, entry.reason == REPLACE))
            else:
                self._acts[entry.study_instance_uid].append(entry)

    def _iter_found(self) -> Iterator[_Found]:
        for stored in self._objects.walk(OBJECTS):
            parts = parse_instance_key(stored.key)
            if parts is not None:
                yield _Found(stored.key, stored.size_bytes, parts)
            else:
                self._unreadable(stored, "the name is not that of an instance")

    def _index_study(self, study: str, found: list[_Found]) -> None:
        acts = iter(self._acts.get(study, []))
        act = next(acts, None)
        batch: list[NewInstance] = []
        for one, new in zip(found, self._read_all(found), strict=True):
            while act is not None and act.at_us < one.parts.moment_us:
                self._insert(batch)
                self._play(act)
                act = next(acts, None)
            if new is not None:
                batch.append(new)
            if len(batch) >= _BATCH:
                self._insert(batch)
        self._insert(batch)
        for later in (act, *acts):
            if later is not None:
                self._play(later)

    def _insert(self, batch: list[NewInstance]) -> None:
        for replace, group in groupby(batch, key=self._replaces):
            inserted = self._inserters[replace].insert(list(group))
            self.report.instances += sum(done.keep for done in inserted)
        batch.clear()

    def _replaces(self, new: NewInstance) -> bool:
        arrived = clock.to_us(new.instance.received_at)
        in_force = [replace for since, replace in self._policies if since <= arrived]
        return in_force[-1] if in_force else False

    def _play(self, entry: LedgerEntry) -> None:
        act = Act(entry.principal, entry.reason, entry.at_us)
        if entry.act == DELETED:
            self._lifecycle.delete(_EVERYTHING, entry.target, act)
        elif entry.act == RESTORED:
            self._lifecycle.restore(_EVERYTHING, entry.target, act)

    def _read_all(self, found: list[_Found]) -> Iterator[NewInstance | None]:
        """Read several at once, in their order: a bucket answers after a while."""
        for first in range(0, len(found), _AHEAD):
            yield from self._readers.map(self._read, found[first : first + _AHEAD])

    def _read(self, found: _Found) -> NewInstance | None:
        try:
            source = self._source(found.parts.source_key)
            return self._parse(found, source)
        except (InvalidInstanceError, ObjectMissingError) as error:
            self._unreadable(StoredObject(found.key, found.size_bytes, 0.0), str(error))
            return None

    def _parse(self, found: _Found, source: Source) -> NewInstance:
        with self._body(found) as body:
            parsed = parse_instance(body, read_file_meta(body))
            return new_instance(
                parsed,
                Arrival(
                    object_key=found.key,
                    size_bytes=found.size_bytes,
                    digest=digest_of(body, parsed.dataset_offset),
                    received_at=clock.from_us(found.parts.moment_us),
                    source=source,
                    source_key=found.parts.source_key,
                ),
            )

    def _body(self, found: _Found) -> memoryview:
        path = self._objects.local_path(found.key)
        if path is not None and found.size_bytes:
            with Path(path).open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if found.size_bytes <= _IN_MEMORY_BYTES:
            return memoryview(self._objects.read(found.key, 0, found.size_bytes))
        spool = self._objects.new_spool()
        try:
            for chunk in self._objects.iter_chunks(
                found.key, 0, found.size_bytes, _CHUNK_BYTES
            ):
                spool.write(chunk)
            return spool.view()
        finally:
            spool.discard()  # what is mapped of it stays

    def _source(self, key: str) -> Source:
        known = self._sources.get(key)
        if known is None:
            name = source_object(key)
            record = self._objects.read(name, 0, self._objects.size(name))
            known = self._sources[key] = decode_source(record)
        return known

    def _unreadable(self, stored: StoredObject, reason: str) -> None:
        self.report.unreadable.append((stored.key, reason))
