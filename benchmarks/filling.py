"""Fill an index with studies of the population, as the archive would write them.

The archive writes for durability: a transaction a batch, every index kept as it goes. Here
nobody waits for an answer: rows are written in order, indexes are made at the end, and ten
million instances take minutes instead of hours. A test holds both to equal tables.

    python -m benchmarks.filling FOLDER/index.db --studies 1000000
    python -m benchmarks.filling postgresql://postgres@127.0.0.1/filled --studies 100000
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from benchmarks.population import instances
from benchmarks.sinks import open_sink
from storage.index import clock
from storage.index.changes import Change
from storage.index.gaps import SERIES_COLUMNS, STUDY_COLUMNS
from storage.index.parents import _PATIENT_COLUMNS
from storage.index.rows import InstanceRow, NewInstance, Source
from storage.index.tables import instance
from storage.index.terms import _Known

_BATCH: Final = 2000
_TABLES: Final = (
    "source", "patient", "study", "study_modality", "series", "term", "pair", "instance",
    "instance_detail", "change",
)  # fmt: skip


class Filling:
    """Writes whole studies, one after the other.

    Parameters
    ----------
    place
        The file of SQLite, made if it is not there, or the URL of a database of PostgreSQL;
        what it holds is added to.
    at_us
        The moment at which everything is received.
    """

    def __init__(self, place: Path | str, *, at_us: int | None = None) -> None:
        self._sink = open_sink(place)
        self._at_us = clock.now_us() if at_us is None else at_us
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
        self._next = {
            name: self._last(name) + 1
            for name in ("source", "patient", "study", "series", "term", "instance")
        }
        self._first_study = self._next["study"]
        if self._first_study == 1:
            # What is filled already keeps its indexes.
            self._sink.set_indexes_aside()
        ((self._change,),) = self._sink.rows("SELECT value FROM counter WHERE name = 'change'")
        self._patients: dict[tuple[str, str, str], int] = {
            (site, issuer, identifier): key
            for site, issuer, identifier, key in self._sink.rows(
                "SELECT site, issuer_of_patient_id, patient_id, id FROM patient"
            )
        }
        self._terms: dict[tuple[str, str], int] = {
            (path_, value): key
            for path_, value, key in self._sink.rows("SELECT path, value, id FROM term")
        }
        self._sources: dict[str, int] = dict(
            self._sink.rows("SELECT source_key, id FROM source")
        )

    def add(self, study: Iterable[NewInstance]) -> None:
        """Write the instances of one study that is not there yet, series by series."""
        batch = list(study)
        first = batch[0]
        last = self._change + len(batch)
        key = self._take("study")
        classes = {new.instance.sop_class_uid for new in batch}
        modalities = {new.series.modality for new in batch}
        of_series: dict[str, list[NewInstance]] = {}
        for new in batch:
            of_series.setdefault(new.series.series_instance_uid, []).append(new)
        series = {uid: self._add_series(of, key, last) for uid, of in of_series.items()}
        self._rows["study"].append(
            {name: getattr(first.study, name) for name in STUDY_COLUMNS}
            | self._row(first)
            | {
                "id": key,
                "patient_fk": self._patient(first),
                "modalities": "\\".join(sorted(modalities)),
                "sop_classes": "\\".join(sorted(classes)),
                "number_of_series": len(series),
                "number_of_instances": len(batch),
                "size_bytes": sum(new.instance.size_bytes for new in batch),
                "change": last,
            }
        )
        for modality in sorted(modalities):
            self._rows["study_modality"].append(
                {"modality": modality, "study_fk": key, "study_date": first.study.study_date}
            )
        for new in batch:
            self._add_instance(new, key, series[new.series.series_instance_uid])
        if len(self._rows["instance"]) >= _BATCH:
            self._write()

    def close(self) -> None:
        """Write what is left, make the indexes, commit."""
        self._write()
        self._sink.close(first_study=self._first_study, change=self._change)

    # -- rows --------------------------------------------------------------------------------

    def _add_series(self, batch: list[NewInstance], study: int, change: int) -> int:
        first = batch[0]
        key = self._take("series")
        self._rows["series"].append(
            {name: getattr(first.series, name) for name in SERIES_COLUMNS}
            | self._row(first)
            | {
                "id": key,
                "study_fk": study,
                "number_of_instances": len(batch),
                "size_bytes": sum(new.instance.size_bytes for new in batch),
                "change": change,
                "terms_missing": False,
            }
        )
        known = _Known()
        pairs = dict.fromkeys(pair for new in batch for pair in known.take(new.terms))
        self._rows["pair"] += [
            {"term_fk": self._term(pair), "series_fk": key} for pair in pairs
        ]
        return key

    def _add_instance(self, new: NewInstance, study: int, series: int) -> None:
        key = self._take("instance")
        self._change += 1
        received = clock.to_us(new.instance.received_at)
        row = {name: getattr(new.instance, name) for name in _OF_INSTANCE}
        row |= {
            "id": key,
            "series_fk": series,
            "study_fk": study,
            "version": 1,
            "state": "released",
            "reason": "",
            "collection": new.source.collection,
            "site": new.source.site,
            "partition": new.partition,
            "source_fk": self._source(new),
            "received_at": received,
            "state_at": received,
            "change": self._change,
            "duplicates": 0,
            "uid_elsewhere": False,
        }
        self._rows["instance"].append(row)
        self._rows["instance_detail"].append(
            {
                "instance_fk": key,
                "metadata": new.instance.metadata,
                "bulk": new.instance.bulk,
                "frames": new.instance.frames,
            }
        )
        change = Change(
            kind="stored",
            study_instance_uid=new.study.study_instance_uid,
            series_instance_uid=new.series.series_instance_uid,
            sop_instance_uid=new.instance.sop_instance_uid,
            version=1,
            digest=new.instance.digest,
            site=new.source.site,
            collection=new.source.collection,
            partition=new.partition,
            principal=new.source.principal,
        )
        self._rows["change"].append(
            {"sequence": self._change, "at": self._at_us}
            | {name: getattr(change, name) for name in Change.__slots__}
        )

    def _row(self, new: NewInstance) -> dict[str, Any]:
        return {
            "collection": new.source.collection,
            "site": new.source.site,
            "partition": new.partition,
            "created_at": self._at_us,
            "updated_at": self._at_us,
        }

    def _patient(self, new: NewInstance) -> int:
        identity = (new.source.site, new.study.issuer_of_patient_id, new.study.patient_id)
        key = self._patients.get(identity)
        if key is None:
            key = self._patients[identity] = self._take("patient")
            values = {name: getattr(new.study, name) for name in _PATIENT_COLUMNS}
            self._rows["patient"].append(values | {"id": key, "site": new.source.site})
        return key

    def _term(self, pair: tuple[str, str]) -> int:
        key = self._terms.get(pair)
        if key is None:
            key = self._terms[pair] = self._take("term")
            self._rows["term"].append({"id": key, "path": pair[0], "value": pair[1]})
        return key

    def _source(self, new: NewInstance) -> int:
        key = self._sources.get(new.source_key)
        if key is None:
            key = self._sources[new.source_key] = self._take("source")
            values = {field.name: getattr(new.source, field.name) for field in fields(Source)}
            self._rows["source"].append(values | {"id": key, "source_key": new.source_key})
        return key

    # -- the database --------------------------------------------------------------------------

    def _take(self, name: str) -> int:
        key = self._next[name]
        self._next[name] = key + 1
        return key

    def _last(self, table: str) -> int:
        ((last,),) = self._sink.rows(f"SELECT coalesce(max(id), 0) FROM {table}")
        return last

    def _write(self) -> None:
        for name in _TABLES:
            if rows := self._rows[name]:
                self._sink.write(name, rows)
                self._rows[name] = []


_OF_INSTANCE: Final = tuple(
    field.name for field in fields(InstanceRow) if field.name in instance.c
)


def population(first: int, count: int) -> Iterator[Iterator[NewInstance]]:
    """Yield ``count`` studies from study ``first`` on."""
    for number in range(first, first + count):
        yield instances(number)


def fill(place: Path | str, studies: int, *, first: int = 0, say: bool = False) -> float:
    """Add ``studies`` studies of the population to an index; return the seconds it took."""
    started = time.monotonic()
    filling = Filling(place)
    for done, study in enumerate(population(first, studies), 1):
        filling.add(study)
        if say and done % 20_000 == 0:
            print(f"{done} studies, {time.monotonic() - started:.0f} s", flush=True)
    if say:
        print(f"indexes from {time.monotonic() - started:.0f} s on", flush=True)
    filling.close()
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.filling", description=__doc__)
    parser.add_argument("place", help="the file of SQLite, or postgresql://...")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first study")
    parser.add_argument(
        "--shape", help="one study more, of series with so many instances: 10000,10000"
    )
    arguments = parser.parse_args()
    place = arguments.place if "://" in arguments.place else Path(arguments.place)
    if arguments.studies:
        seconds = fill(place, arguments.studies, first=arguments.first, say=True)
        print(f"{arguments.studies} studies in {seconds:.0f} s")
    if arguments.shape:
        filling = Filling(place)
        shape = tuple(int(count) for count in arguments.shape.split(","))
        filling.add(instances(9_000_000, shape))
        filling.close()


if __name__ == "__main__":
    main()
