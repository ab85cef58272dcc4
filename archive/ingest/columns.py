"""The columns of the index, taken from the DICOM JSON of one instance.

Every sender's values come through here, so nothing may fail: a value that is missing, of
another VR, of another type or too large becomes the empty value of its column, and the
attributes as sent stay in the stored JSON.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from archive.dicom.attributes import LEVEL_OF, Level
from archive.dicom.normalise import name_key, normalise_date, normalise_text, normalise_time
from storage.index.rows import SeriesRow, StudyRow

Attributes = Mapping[str, Mapping[str, Any]]

# Both databases count in signed 64 bits; four columns of `instance` hold 32.
_INT64 = 1 << 63
_INT32 = 1 << 31

# The attributes whose values are columns: nothing else of them need be kept for searches.
COLUMN_TAGS = frozenset([
    "0020000D", "00100010", "00100020", "00100021", "00100030", "00100040", "00080020",
    "00080030", "00080050", "00200010", "00081030", "00080090", "0020000E", "00080060",
    "00200011", "0008103E", "00080021", "00080031", "00180015", "00181030", "00081010",
    "00080070", "00400244", "00400245", "00400253", "00080018", "00080016", "00200013",
    "00080023", "00080033", "00080022", "00200012", "00280010", "00280011", "00280100",
    "00280008",
])  # fmt: skip

_STUDY_TAGS = tuple(
    sorted(tag for tag, level in LEVEL_OF.items() if level in (Level.PATIENT, Level.STUDY))
)
_SERIES_TAGS = tuple(sorted(tag for tag, level in LEVEL_OF.items() if level is Level.SERIES))
# What the instance before said: nine in ten say the same of their study and series.
_last = threading.local()


@dataclass(frozen=True, slots=True)
class InstanceColumns:
    """What the index keeps of an instance's own attributes; see `InstanceRow`."""

    instance_number: int | None
    content_date: str
    content_time: str
    acquisition_date: str
    acquisition_number: int | None
    rows: int | None
    columns: int | None
    bits_allocated: int | None
    number_of_frames: int | None


def study_row(attributes: Attributes) -> StudyRow:
    """Return the study columns of an instance (PS3.3 §C.7.1.1, §C.7.2.1).

    Parameters
    ----------
    attributes
        DICOM JSON of the instance (PS3.18 Annex F).
    """
    elements = tuple(map(attributes.get, _STUDY_TAGS))
    if elements != getattr(_last, "study_elements", None):
        _last.study_row, _last.study_elements = _new_study_row(attributes), elements
    row: StudyRow = _last.study_row
    return row


def _new_study_row(attributes: Attributes) -> StudyRow:
    name = _person_name(attributes, "00100010")
    description = _string(attributes, "00081030")
    return StudyRow(
        study_instance_uid=_string(attributes, "0020000D"),
        patient_id=_string(attributes, "00100020"),
        issuer_of_patient_id=_string(attributes, "00100021"),
        patient_name=name,
        patient_name_key=name_key(name),
        patient_birth_date=normalise_date(_string(attributes, "00100030")),
        patient_sex=_string(attributes, "00100040"),
        study_date=normalise_date(_string(attributes, "00080020")),
        study_time=normalise_time(_string(attributes, "00080030")),
        accession_number=_string(attributes, "00080050"),
        study_id=_string(attributes, "00200010"),
        study_description=description,
        study_description_key=normalise_text(description),
        referring_physician_name_key=name_key(_person_name(attributes, "00080090")),
        attributes=_encode(attributes, _STUDY_TAGS),
    )


def series_row(attributes: Attributes) -> SeriesRow:
    """Return the series columns of an instance (PS3.3 §C.7.3.1, §C.7.5.1).

    Parameters
    ----------
    attributes
        DICOM JSON of the instance (PS3.18 Annex F).
    """
    elements = tuple(map(attributes.get, _SERIES_TAGS))
    if elements != getattr(_last, "series_elements", None):
        _last.series_row, _last.series_elements = _new_series_row(attributes), elements
    row: SeriesRow = _last.series_row
    return row


def _new_series_row(attributes: Attributes) -> SeriesRow:
    description = _string(attributes, "0008103E")
    return SeriesRow(
        series_instance_uid=_string(attributes, "0020000E"),
        modality=_string(attributes, "00080060"),
        series_number=_integer(attributes, "00200011"),
        series_description=description,
        series_description_key=normalise_text(description),
        series_date=normalise_date(_string(attributes, "00080021")),
        series_time=normalise_time(_string(attributes, "00080031")),
        body_part_examined=_string(attributes, "00180015"),
        protocol_name_key=normalise_text(_string(attributes, "00181030")),
        station_name=_string(attributes, "00081010"),
        manufacturer_key=normalise_text(_string(attributes, "00080070")),
        procedure_step_start_date=normalise_date(_string(attributes, "00400244")),
        procedure_step_start_time=normalise_time(_string(attributes, "00400245")),
        procedure_step_id=_string(attributes, "00400253"),
        attributes=_encode(attributes, _SERIES_TAGS),
    )


def instance_columns(attributes: Attributes) -> InstanceColumns:
    """Return the columns of an instance's own attributes.

    Parameters
    ----------
    attributes
        DICOM JSON of the instance (PS3.18 Annex F).
    """
    return InstanceColumns(
        instance_number=_integer(attributes, "00200013"),
        content_date=normalise_date(_string(attributes, "00080023")),
        content_time=normalise_time(_string(attributes, "00080033")),
        acquisition_date=normalise_date(_string(attributes, "00080022")),
        acquisition_number=_integer(attributes, "00200012"),
        rows=_integer(attributes, "00280010", bound=_INT32),
        columns=_integer(attributes, "00280011", bound=_INT32),
        bits_allocated=_integer(attributes, "00280100", bound=_INT32),
        number_of_frames=_integer(attributes, "00280008", bound=_INT32),
    )


def _encode(attributes: Attributes, tags: tuple[str, ...]) -> bytes:
    return orjson.dumps({tag: attributes[tag] for tag in tags if tag in attributes})


def _first(attributes: Attributes, tag: str) -> Any:  # noqa: ANN401 - a JSON value
    element = attributes.get(tag)
    if element is None:
        return None
    values = element.get("Value")
    return values[0] if isinstance(values, list) and values else None


def _string(attributes: Attributes, tag: str) -> str:
    value = _first(attributes, tag)
    if value is None:
        return ""
    # PostgreSQL's text holds no NUL; leading and trailing spaces carry no meaning (PS3.5 §6.2).
    if isinstance(value, str):
        return value.replace("\0", "").strip(" ") if value else ""
    return str(value) if isinstance(value, int | float) else ""


def _person_name(attributes: Attributes, tag: str) -> str:
    """Return the component groups joined with ``=``, as in PS3.5 §6.2.1."""
    value = _first(attributes, tag)
    if isinstance(value, str):
        return value.replace("\0", "").strip(" ")
    if not isinstance(value, dict):
        return ""
    groups = [value.get(group) for group in ("Alphabetic", "Ideographic", "Phonetic")]
    joined = "=".join(group if isinstance(group, str) else "" for group in groups)
    return joined.replace("\0", "").strip(" ").rstrip("=")


def _integer(attributes: Attributes, tag: str, *, bound: int = _INT64) -> int | None:
    value = _first(attributes, tag)
    if isinstance(value, str):
        try:
            value = int(value.strip())
        except ValueError:
            return None
    elif isinstance(value, float):
        if not value.is_integer():
            return None
        value = int(value)
    elif not isinstance(value, int):
        return None
    return value if -bound <= value < bound else None
