"""Fill an index of SQLite with studies of the population, as the archive would write them.

The archive writes for durability: a transaction a batch, every index kept as it goes. Here
nobody waits for an answer: rows are written in order, indexes are made at the end, and ten
million instances take minutes instead of hours. A test holds both to equal tables.

    python -m benchmarks.filling FOLDER/index.db --studies 1000000
"""

import argparse
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from benchmarks.population import instances
from storage.index import clock
from storage.index.changes import Change
from storage.index.engine import IndexEngine
from storage.index.gaps import SERIES_COLUMNS, STUDY_COLUMNS, TRIGRAM_COLUMNS
from storage.index.migrate import migrate
from storage.index.parents import _PATIENT_COLUMNS
from storage.index.rows import InstanceRow, NewInstance, Source
from storage.index.tables import instance
from storage.index.terms import _Known

_BATCH: Final = 2000
_TABLES: Final = (
    "patient", "study", "study_modality", "series", "term", "pair", "instance",
    "instance_detail", "change",
)  # fmt: skip


class Filling:
    """Writes whole studies, one after the other.

    Parameters
    ----------
    path
        The database; made if it is not there, else added to.
    at_us
        The moment at which everything is received.
    """

    def __init__(self, path: Path, *, at_us: int | None = None) -> None:
        engine = IndexEngine(f"sqlite:///{path}")
        migrate(engine)
        engine.close()
        self._at_us = clock.now_us() if at_us is None else at_us
        self._database = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "cache_size = -1500000"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("BEGIN")
        self._database.execute("CREATE TEMP TABLE pair (term_fk, series_fk)")
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
        self._next = {
            name: self._last(name) + 1
            for name in ("patient", "study", "series", "term", "instance")
        }
        self._first_study = self._next["study"]
        self._dropped = self._drop_indexes()
        (self._change,) = self._one("SELECT value FROM counter WHERE name = 'change'")
        self._patients: dict[tuple[str, str, str], int] = {
            (site, issuer, identifier): key
            for site, issuer, identifier, key in self._database.execute(
                "SELECT site, issuer_of_patient_id, patient_id, id FROM patient"
            )
        }
        self._terms: dict[tuple[str, str], int] = {
            (path_, value): key
            for path_, value, key in self._database.execute("SELECT path, value, id FROM term")
        }
        self._sources: dict[str, int] = dict(
            self._database.execute("SELECT source_key, id FROM source")
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
        run = self._database.execute
        run(
            "INSERT INTO series_term (term_fk, series_fk)"
            " SELECT term_fk, series_fk FROM pair ORDER BY 1, 2"
        )
        run("DROP TABLE pair")
        for statement in self._dropped:
            run(statement)
        names = ", ".join(TRIGRAM_COLUMNS)
        run(
            f"INSERT INTO study_text (rowid, {names})"
            f" SELECT id, {names} FROM study WHERE id >= ?",
            (self._first_study,),
        )
        run("UPDATE counter SET value = ? WHERE name = 'change'", (self._change,))
        run("COMMIT")
        run("PRAGMA journal_mode = WAL")
        self._database.close()

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
            values = {field.name: getattr(new.source, field.name) for field in fields(Source)}
            values["source_key"] = new.source_key
            marks = ", ".join(f":{name}" for name in values)
            key = self._database.execute(
                f"INSERT INTO source ({', '.join(values)}) VALUES ({marks}) RETURNING id",
                values,
            ).fetchone()[0]
            self._sources[new.source_key] = key
        return key

    # -- the database --------------------------------------------------------------------------

    def _take(self, name: str) -> int:
        key = self._next[name]
        self._next[name] = key + 1
        return key

    def _one(self, statement: str) -> Any:
        return self._database.execute(statement).fetchone()

    def _last(self, table: str) -> int:
        return self._one(f"SELECT coalesce(max(id), 0) FROM {table}")[0]

    def _write(self) -> None:
        for name in _TABLES:
            rows = self._rows[name]
            if rows:
                names = list(rows[0])
                quoted = ", ".join(f'"{one}"' for one in names)
                marks = ", ".join("?" * len(names))
                self._database.executemany(
                    f"INSERT INTO {name} ({quoted}) VALUES ({marks})",
                    [tuple(row.values()) for row in rows],
                )
                self._rows[name] = []

    def _drop_indexes(self) -> list[str]:
        """Drop what can be made at the end; return how. What is filled already keeps it."""
        if self._next["study"] > 1:
            return []
        tables = ", ".join(f"'{name}'" for name in _INDEXED)
        found = self._database.execute(
            "SELECT name, sql FROM sqlite_master"
            f" WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ({tables})"
        ).fetchall()
        for name, _ in found:
            self._database.execute(f"DROP INDEX {name}")
        return [statement for _, statement in found]


_INDEXED: Final = (
    "patient", "study", "study_modality", "series", "series_term", "instance", "change",
)  # fmt: skip
_OF_INSTANCE: Final = tuple(
    field.name for field in fields(InstanceRow) if field.name in instance.c
)


def population(first: int, count: int) -> Iterator[Iterator[NewInstance]]:
    """Yield ``count`` studies from study ``first`` on."""
    for number in range(first, first + count):
        yield instances(number)


def fill(path: Path, studies: int, *, first: int = 0, say: bool = False) -> float:
    """Add ``studies`` studies of the population to an index; return the seconds it took."""
    started = time.monotonic()
    filling = Filling(path)
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
    parser.add_argument("path", type=Path, help="the index to fill")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first study")
    parser.add_argument(
        "--shape", help="one study more, of series with so many instances: 10000,10000"
    )
    arguments = parser.parse_args()
    if arguments.studies:
        seconds = fill(arguments.path, arguments.studies, first=arguments.first, say=True)
        print(f"{arguments.studies} studies in {seconds:.0f} s")
    if arguments.shape:
        filling = Filling(arguments.path)
        shape = tuple(int(count) for count in arguments.shape.split(","))
        filling.add(instances(9_000_000, shape))
        filling.close()


if __name__ == "__main__":
    main()
