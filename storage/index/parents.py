"""Sources, patients, studies and series: found or made for instances that arrive."""

import threading
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, insert, select

from storage.index.gaps import (
    SERIES_COLUMNS,
    STUDY_COLUMNS,
    fill_series,
    fill_study,
    index_text,
    renew_series,
    renew_study,
)
from storage.index.prepared import Prepared
from storage.index.rows import NewInstance, Source, StudyRow
from storage.index.tables import patient, series, source, study

_SOURCE_COLUMNS = tuple(field.name for field in fields(Source))
_PATIENT_COLUMNS = (
    "issuer_of_patient_id",
    "patient_id",
    "patient_name",
    "patient_name_key",
    "patient_birth_date",
    "patient_sex",
)
_IDENTITY: Final = ("site", "issuer_of_patient_id", "patient_id")

# Built once: building a statement costs SQLAlchemy more than running it costs SQLite.
_FIND_STUDIES: Final = Prepared(
    select(
        study.c.study_instance_uid,
        study.c.id,
        study.c.collection,
        study.c.site,
        study.c.partition,
        study.c.study_date,
    ).where(study.c.study_instance_uid.in_(bindparam("uids", expanding=True)))
)
_FIND_SERIES: Final = Prepared(
    select(
        series.c.study_fk,
        series.c.series_instance_uid,
        series.c.id,
        series.c.collection,
        series.c.site,
        series.c.partition,
    ).where(
        # One at a time: SQLite looks through all series for a list of pairs.
        series.c.study_fk == bindparam("study"),
        series.c.series_instance_uid == bindparam("uid"),
    )
)
_FIND_PATIENT: Final = Prepared(
    select(patient.c.id).where(*(patient.c[name] == bindparam(name) for name in _IDENTITY))
)
_INSERT: Final = {
    table.name: Prepared(insert(table).returning(table.c.id))
    for table in (patient, series, source, study)
}


@dataclass(frozen=True, slots=True)
class Place:
    """A study or series of the index: its key, and what its instances inherit."""

    id: int
    collection: str
    site: str
    partition: str
    study_date: str = ""


class ParentCache:
    """What is known of parents, so that most batches look nothing up.

    Rows of these tables are never removed nor renumbered, so an entry stays true; it is kept
    only after the transaction that made it has committed.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self.sources: dict[str, int] = {}
        self.studies: dict[str, Place] = {}
        self.series: dict[tuple[int, str], Place] = {}
        # What instances said of their study and series, as far as it was looked at.
        self.said: set[tuple[str, int, int]] = set()

    def unsay(self, described: Set[tuple[str, int]]) -> None:
        """Forget what instances said of studies and series that are described anew."""
        with self._lock:
            self.said = {one for one in self.said if one[:2] not in described}

    def learn(self, found: "Parents") -> None:
        """Take over what a committed transaction found or made."""
        with self._lock:
            if max(len(self.series), len(self.said)) > self._limit:
                self.studies = {}
                self.series = {}
                self.said = set()
            self.said |= found.said
            self.sources = self.sources | found.sources
            self.studies.update(found.studies)
            self.series.update(found.series)


class Parents:
    """The parents of one batch, within its transaction."""

    def __init__(self, connection: Connection, cache: ParentCache, at_us: int) -> None:
        self._connection = connection
        self._cache = cache
        self._at_us = at_us
        self.sources: dict[str, int] = {}
        self.studies: dict[str, Place] = {}
        self.series: dict[tuple[int, str], Place] = {}
        self.said: set[tuple[str, int, int]] = set()
        self._made: set[tuple[str, int]] = set()
        # The keys of series that this transaction has made.
        self.made_series: set[int] = set()

    def resolve(self, batch: Sequence[NewInstance]) -> None:
        """Find or make every parent of ``batch``."""
        self._resolve_sources(batch)
        self._resolve_studies(batch)
        self._resolve_series(batch)

    def study_of(self, new: NewInstance) -> Place:
        """Return the study of a resolved instance."""
        return self.studies[new.study.study_instance_uid]

    def series_of(self, new: NewInstance) -> Place:
        """Return the series of a resolved instance."""
        return self.series[self.study_of(new).id, new.series.series_instance_uid]

    # -- sources ---------------------------------------------------------------------------

    def _resolve_sources(self, batch: Sequence[NewInstance]) -> None:
        wanted = {new.source_key: new.source for new in batch}
        self.sources = {
            key: known for key in wanted if (known := self._cache.sources.get(key)) is not None
        }
        missing = [key for key in wanted if key not in self.sources]
        if not missing:
            return
        rows = self._connection.execute(
            select(source.c.source_key, source.c.id).where(source.c.source_key.in_(missing))
        )
        self.sources.update({row.source_key: row.id for row in rows})
        for key in missing:
            if key not in self.sources:
                values = {name: getattr(wanted[key], name) for name in _SOURCE_COLUMNS}
                self.sources[key] = self._insert(source, values | {"source_key": key})

    # -- studies ---------------------------------------------------------------------------

    def _resolve_studies(self, batch: Sequence[NewInstance]) -> None:
        wanted: dict[str, NewInstance] = {}
        for new in batch:
            wanted.setdefault(new.study.study_instance_uid, new)
        self.studies = {
            uid: known for uid in wanted if (known := self._cache.studies.get(uid)) is not None
        }
        missing = [uid for uid in wanted if uid not in self.studies]
        if not missing:
            return
        rows = _FIND_STUDIES.rows(self._connection, {"uids": missing})
        self.studies.update({uid: Place(*place) for uid, *place in rows})
        for uid in missing:
            if uid not in self.studies:
                self.studies[uid] = self._make_study(wanted[uid])

    def _make_study(self, new: NewInstance) -> Place:
        values = {name: getattr(new.study, name) for name in STUDY_COLUMNS}
        values |= self._new_row(new.source.collection, new.source.site, new.partition)
        values["patient_fk"] = patient_key(self._connection, new.study, new.source.site)
        key = self._insert(study, values)
        index_text(self._connection, key, new.study)
        self._made.add(("study", key))
        self._is_news("study", key, new.study.attributes)
        return Place(
            id=key,
            collection=new.source.collection,
            site=new.source.site,
            partition=new.partition,
            study_date=new.study.study_date,
        )

    # -- series ----------------------------------------------------------------------------

    def _resolve_series(self, batch: Sequence[NewInstance]) -> None:
        wanted: dict[tuple[int, str], NewInstance] = {}
        for new in batch:
            wanted.setdefault((self.study_of(new).id, new.series.series_instance_uid), new)
        self.series = {
            key: known for key in wanted if (known := self._cache.series.get(key)) is not None
        }
        missing = [key for key in wanted if key not in self.series]
        self._find_series(missing)
        for key in missing:
            if key not in self.series:
                self.series[key] = self._make_series(wanted[key])

    def _find_series(self, keys: Iterable[tuple[int, str]]) -> None:
        for of_study, uid in keys:
            rows = _FIND_SERIES.rows(self._connection, {"study": of_study, "uid": uid})
            for found_study, found_uid, *place in rows:
                self.series[found_study, found_uid] = Place(*place)

    def _make_series(self, new: NewInstance) -> Place:
        # A series belongs where its study belongs, whoever sent it.
        home = self.study_of(new)
        values = {name: getattr(new.series, name) for name in SERIES_COLUMNS}
        values |= self._new_row(home.collection, new.source.site, home.partition)
        values["study_fk"] = home.id
        key = self._insert(series, values)
        self._made.add(("series", key))
        self.made_series.add(key)
        self._is_news("series", key, new.series.attributes)
        return Place(
            id=key,
            collection=home.collection,
            site=new.source.site,
            partition=home.partition,
        )

    def renew(
        self, visible: Iterable[NewInstance], studies: set[int], appeared: set[int]
    ) -> None:
        """Describe anew what had lost all its instances: by the first that is stored again.

        Parameters
        ----------
        studies, appeared
            The studies and series that had nothing visible before this batch.
        """
        for new in visible:
            of_study, of_series = self.study_of(new).id, self.series_of(new).id
            if of_study in studies and ("study", of_study) not in self._made:
                self._made.add(("study", of_study))
                self._cache.unsay({("study", of_study)})
                patient_fk = patient_key(self._connection, new.study, new.source.site)
                renew_study(self._connection, of_study, new.study, patient_fk)
            if of_series in appeared and ("series", of_series) not in self._made:
                self._made.add(("series", of_series))
                self._cache.unsay({("series", of_series)})
                renew_series(self._connection, of_series, new.series)

    def hear_again(self, returned: Iterable[NewInstance]) -> None:
        """Listen anew to what is said of the studies and series of ``returned``.

        These instances were deleted, by whichever process, and with them what they had said.
        """
        described = {
            place
            for new in returned
            for place in (
                ("study", self.study_of(new).id),
                ("series", self.series_of(new).id),
            )
        }
        if described:
            self._cache.unsay(described)

    def fill_gaps(self, visible: Iterable[NewInstance]) -> None:
        """Fill what studies and series lack with what new visible instances say."""
        for new in visible:
            of_study, of_series = self.study_of(new).id, self.series_of(new).id
            if self._is_news("study", of_study, new.study.attributes):
                fill_study(self._connection, of_study, new.study)
            if self._is_news("series", of_series, new.series.attributes):
                fill_series(self._connection, of_series, new.series)

    def _is_news(self, level: str, key: int, attributes: bytes) -> bool:
        saying = (level, key, hash(attributes))
        if saying in self.said or saying in self._cache.said:
            return False
        self.said.add(saying)
        return True

    # -- both ------------------------------------------------------------------------------

    def _new_row(self, collection: str, site: str, partition: str) -> dict[str, Any]:
        return {
            "collection": collection,
            "site": site,
            "partition": partition,
            "created_at": self._at_us,
            "updated_at": self._at_us,
        }

    def _insert(self, table: Table, values: dict[str, Any]) -> int:
        return _insert(self._connection, table, values)


def patient_key(connection: Connection, row: StudyRow, site: str) -> int:
    """Find or make the patient of a study: one identifier of one issuer at one site."""
    values = {name: getattr(row, name) for name in _PATIENT_COLUMNS} | {"site": site}
    known = _FIND_PATIENT.rows(connection, {name: values[name] for name in _IDENTITY})
    if known:
        key: int = known[0][0]
        return key
    return _insert(connection, patient, values)


def _insert(connection: Connection, table: Table, values: dict[str, Any]) -> int:
    key: int = _INSERT[table.name].value(connection, values)
    return key
