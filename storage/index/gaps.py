"""What the first instance of a study or series left empty, filled in from later ones.

A report or a segmentation often says less of its study than the images do, and may come first.
What has a value is never changed: where instances disagree, the first one stays. Only what lost
its instances is described anew, by the first that is left or that comes after.
"""

from dataclasses import fields
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, select, text, update

from storage.index.prepared import Prepared
from storage.index.rows import SeriesRow, StudyRow
from storage.index.tables import patient, series, study, study_modality

# What the trigram table of SQLite indexes; PostgreSQL has indexes on `study` itself.
TRIGRAM_COLUMNS: Final = (
    "patient_name_key",
    "patient_id",
    "accession_number",
    "study_description_key",
)
# Which patient a study belongs to is decided once, by its first instance.
_IDENTITY: Final = frozenset({"patient_id", "issuer_of_patient_id"})
_PATIENT_TAGS: Final = frozenset({"00100020", "00100021"})
_OF_PATIENT: Final = ("patient_name", "patient_name_key", "patient_birth_date", "patient_sex")
STUDY_COLUMNS: Final = tuple(f.name for f in fields(StudyRow) if f.name in study.c)
SERIES_COLUMNS: Final = tuple(f.name for f in fields(SeriesRow) if f.name in series.c)
_NAMES: Final = ", ".join(TRIGRAM_COLUMNS)
_MARKS: Final = ", ".join(f":{name}" for name in TRIGRAM_COLUMNS)
_ADD_TEXT: Final = Prepared(
    text(f"INSERT INTO study_text (rowid, {_NAMES}) VALUES (:id, {_MARKS})")  # noqa: S608 - constants
)
_REMOVE_TEXT: Final = Prepared(
    text(
        f"INSERT INTO study_text (study_text, rowid, {_NAMES}) "  # noqa: S608 - constants
        f"VALUES ('delete', :id, {_MARKS})"
    )
)


def fill_study(connection: Connection, key: int, row: StudyRow) -> None:
    """Fill what study ``key`` lacks with what ``row`` says of it."""
    known = connection.execute(select(study).where(study.c.id == key)).one()
    same_patient = (known.patient_id, known.issuer_of_patient_id) == (
        row.patient_id,
        row.issuer_of_patient_id,
    )
    if not same_patient:
        return
    values = _missing(known, row, STUDY_COLUMNS, kept=_IDENTITY)
    if not values:
        return
    connection.execute(update(study).where(study.c.id == key).values(**values))
    if "study_date" in values:
        _date_modalities(connection, key, values["study_date"])
    _fill_patient(connection, known.patient_fk, row)
    if any(name in values for name in TRIGRAM_COLUMNS):
        filled = connection.execute(select(study).where(study.c.id == key)).one()
        index_text(connection, key, known, remove=True)
        index_text(connection, key, filled)


def fill_series(connection: Connection, key: int, row: SeriesRow) -> None:
    """Fill what series ``key`` lacks with what ``row`` says of it."""
    known = connection.execute(select(series).where(series.c.id == key)).one()
    values = _missing(known, row, SERIES_COLUMNS, kept=frozenset())
    if values:
        connection.execute(update(series).where(series.c.id == key).values(**values))


def renew_study(connection: Connection, key: int, row: StudyRow, patient_fk: int) -> None:
    """Let study ``key`` say what ``row`` says, and nothing of what it said before."""
    known = connection.execute(select(study).where(study.c.id == key)).one()
    values = {name: getattr(row, name) for name in STUDY_COLUMNS} | {"patient_fk": patient_fk}
    connection.execute(update(study).where(study.c.id == key).values(**values))
    _date_modalities(connection, key, row.study_date)
    index_text(connection, key, known, remove=True)
    index_text(connection, key, row)


def renew_series(connection: Connection, key: int, row: SeriesRow) -> None:
    """Let series ``key`` say what ``row`` says, and nothing of what it said before."""
    values = {name: getattr(row, name) for name in SERIES_COLUMNS}
    connection.execute(update(series).where(series.c.id == key).values(**values))


def _date_modalities(connection: Connection, key: int, study_date: str) -> None:
    connection.execute(
        update(study_modality)
        .where(study_modality.c.study_fk == key)
        .values(study_date=study_date)
    )


def index_text(
    connection: Connection, key: int, row: StudyRow | Row[Any], *, remove: bool = False
) -> None:
    """Put a study's text into SQLite's trigram table, or take out what was put in."""
    if connection.dialect.name != "sqlite":
        return
    statement = _REMOVE_TEXT if remove else _ADD_TEXT
    values = {"id": key} | {name: getattr(row, name) for name in TRIGRAM_COLUMNS}
    statement.run(connection, [values])


def _fill_patient(connection: Connection, key: int, row: StudyRow) -> None:
    known = connection.execute(select(patient).where(patient.c.id == key)).one()
    values = {
        name: getattr(row, name)
        for name in _OF_PATIENT
        if not getattr(known, name) and getattr(row, name)
    }
    if values:
        connection.execute(update(patient).where(patient.c.id == key).values(**values))


def _missing(
    known: Row[Any], row: StudyRow | SeriesRow, names: tuple[str, ...], *, kept: frozenset[str]
) -> dict[str, Any]:
    """Return the columns that ``row`` has a value for and ``known`` has none."""
    values: dict[str, Any] = {
        name: getattr(row, name)
        for name in names
        if name not in kept
        and name != "attributes"
        and getattr(known, name) in ("", None)
        and getattr(row, name) not in ("", None)
    }
    attributes = _merged(known.attributes, row.attributes)
    if attributes is not None:
        values["attributes"] = attributes
    return values


def _merged(known: bytes, new: bytes) -> bytes | None:
    """Return the attributes with what was empty filled in; None when nothing was."""
    held, more = orjson.loads(known), orjson.loads(new)
    filled = {
        tag: element
        for tag, element in more.items()
        if _has_value(element) and not _has_value(held.get(tag)) and tag not in _PATIENT_TAGS
    }
    return orjson.dumps(dict(sorted((held | filled).items()))) if filled else None


def _has_value(element: dict[str, Any] | None) -> bool:
    return element is not None and len(element) > 1
