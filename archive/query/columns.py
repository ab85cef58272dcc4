"""Which attributes the index has a column for, and how each is matched."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from archive.query.request import Level


class Matching(Enum):
    """How a key's value is compared (PS3.4 §C.2.2.2)."""

    UID = auto()
    DATE = auto()
    TIME = auto()
    NAME = auto()
    NUMBER = auto()
    CODE = auto()  # exact, wildcards, lists by comma too
    EXACT = auto()  # exact, wildcards
    TEXT = auto()  # without regard to case and accents, wildcards


@dataclass(frozen=True, slots=True)
class IndexColumn:
    """The column of one attribute."""

    name: str
    matching: Matching


Path = tuple[str, ...]

_STUDY: Final[dict[Path, IndexColumn]] = {
    ("0020000D",): IndexColumn("study.study_instance_uid", Matching.UID),
    ("00100010",): IndexColumn("study.patient_name_key", Matching.NAME),
    ("00100020",): IndexColumn("study.patient_id", Matching.EXACT),
    ("00100021",): IndexColumn("study.issuer_of_patient_id", Matching.EXACT),
    ("00100030",): IndexColumn("study.patient_birth_date", Matching.DATE),
    ("00100040",): IndexColumn("study.patient_sex", Matching.CODE),
    ("00080020",): IndexColumn("study.study_date", Matching.DATE),
    ("00080030",): IndexColumn("study.study_time", Matching.TIME),
    ("00080050",): IndexColumn("study.accession_number", Matching.EXACT),
    ("00200010",): IndexColumn("study.study_id", Matching.EXACT),
    ("00081030",): IndexColumn("study.study_description_key", Matching.TEXT),
    ("00080090",): IndexColumn("study.referring_physician_name_key", Matching.NAME),
    ("00080061",): IndexColumn("study_modality.modality", Matching.CODE),
    ("00080062",): IndexColumn("instance.sop_class_uid", Matching.UID),
    ("00201206",): IndexColumn("study.number_of_series", Matching.NUMBER),
    ("00201208",): IndexColumn("study.number_of_instances", Matching.NUMBER),
}
_SERIES: Final[dict[Path, IndexColumn]] = {
    ("0020000E",): IndexColumn("series.series_instance_uid", Matching.UID),
    ("00080060",): IndexColumn("series.modality", Matching.CODE),
    ("00200011",): IndexColumn("series.series_number", Matching.NUMBER),
    ("0008103E",): IndexColumn("series.series_description_key", Matching.TEXT),
    ("00080021",): IndexColumn("series.series_date", Matching.DATE),
    ("00080031",): IndexColumn("series.series_time", Matching.TIME),
    ("00180015",): IndexColumn("series.body_part_examined", Matching.CODE),
    ("00181030",): IndexColumn("series.protocol_name_key", Matching.TEXT),
    ("00081010",): IndexColumn("series.station_name", Matching.EXACT),
    ("00080070",): IndexColumn("series.manufacturer_key", Matching.TEXT),
    ("00400244",): IndexColumn("series.procedure_step_start_date", Matching.DATE),
    ("00400245",): IndexColumn("series.procedure_step_start_time", Matching.TIME),
    ("00400253",): IndexColumn("series.procedure_step_id", Matching.EXACT),
    ("00201209",): IndexColumn("series.number_of_instances", Matching.NUMBER),
}
_INSTANCE: Final[dict[Path, IndexColumn]] = {
    ("00080018",): IndexColumn("instance.sop_instance_uid", Matching.UID),
    ("00080016",): IndexColumn("instance.sop_class_uid", Matching.UID),
    ("00083002",): IndexColumn("instance.transfer_syntax_uid", Matching.UID),
    ("00200013",): IndexColumn("instance.instance_number", Matching.NUMBER),
    ("00080023",): IndexColumn("instance.content_date", Matching.DATE),
    ("00080033",): IndexColumn("instance.content_time", Matching.TIME),
    ("00080022",): IndexColumn("instance.acquisition_date", Matching.DATE),
    ("00200012",): IndexColumn("instance.acquisition_number", Matching.NUMBER),
    ("00280010",): IndexColumn("instance.rows", Matching.NUMBER),
    ("00280011",): IndexColumn("instance.columns", Matching.NUMBER),
    ("00280100",): IndexColumn("instance.bits_allocated", Matching.NUMBER),
    ("00280008",): IndexColumn("instance.number_of_frames", Matching.NUMBER),
}
COLUMNS: Final = _STUDY | _SERIES | _INSTANCE

# What is matched as the study or the series says it, whatever an instance says.
STUDY_TAGS: Final = frozenset(path[0] for path in _STUDY if len(path) == 1)
SERIES_TAGS: Final = frozenset(path[0] for path in _SERIES if len(path) == 1)

# At patient level these are the patient's own, whatever a single study says.
PATIENT_COLUMNS: Final[dict[Path, IndexColumn]] = {
    ("00100010",): IndexColumn("patient.patient_name_key", Matching.NAME),
    ("00100020",): IndexColumn("patient.patient_id", Matching.EXACT),
    ("00100021",): IndexColumn("patient.issuer_of_patient_id", Matching.EXACT),
    ("00100030",): IndexColumn("patient.patient_birth_date", Matching.DATE),
    ("00100040",): IndexColumn("patient.patient_sex", Matching.CODE),
}

# The same for everything that is stored here: Instance Availability.
COMPUTED: Final = {"00080056": "ONLINE"}
# Never matched, wherever they are given: they say how others are written, or where to retrieve
# (PS3.4 §C.2.2.2, §C.4.1.1.3).
NEVER_MATCHED: Final = frozenset({"00080005", "00080052", "00080054", "00080201", "00081190"})

# Made when a match is answered, or never: no stored value could decide (PS3.4 Table C.3-1).
UNMATCHED: Final = frozenset({"00201200", "00201202", "00201204", "00083001", "00080063"})

# Dates and the times that belong to them, for combined matching.
DATE_TIME_PAIRS: Final = (
    ("study.study_date", "study.study_time"),
    ("series.series_date", "series.series_time"),
    ("series.procedure_step_start_date", "series.procedure_step_start_time"),
    ("instance.content_date", "instance.content_time"),
)

# The tables whose columns matches of a level can be sorted by.
ORDER_COLUMNS: Final = {
    Level.PATIENT: frozenset({"patient"}),
    Level.STUDY: frozenset({"study"}),
    Level.SERIES: frozenset({"study", "series"}),
    Level.INSTANCE: frozenset({"study", "series", "instance"}),
}
