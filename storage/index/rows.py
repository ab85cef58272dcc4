"""The values that go into and come out of the index."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

# Dotted path and value of everything below one attribute of a data set, by its tag.
Terms = Mapping[str, tuple[tuple[str, str], ...]]
# Marks in the place of a value: the instances of the series differ at this path; and: not every
# value is listed, so that any may be there.
VARIES = "\x01"
UNLISTED = "\x02"


@dataclass(frozen=True, slots=True)
class Source:
    """Where instances came from: the same for all of one sender.

    Parameters
    ----------
    site
        The contributing site, by the authenticated sender, never by a tag.
    collection
        The curated set the instances go to.
    protocol
        "C-STORE", "STOW-RS" or "import".
    principal
        Who sent, as `Principal.name`.
    calling_ae_title, called_ae_title
        AE titles of the association; empty for other protocols.
    remote
        Network address of the sender; empty for imports.
    """

    site: str
    collection: str
    protocol: str
    principal: str
    calling_ae_title: str = ""
    called_ae_title: str = ""
    remote: str = ""


@dataclass(frozen=True, slots=True)
class StudyRow:
    """What the index keeps of a study: taken from its first instance."""

    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_name_key: str
    patient_birth_date: str
    patient_sex: str
    study_date: str
    study_time: str
    accession_number: str
    study_id: str
    study_description: str
    study_description_key: str
    referring_physician_name_key: str
    attributes: bytes


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """What the index keeps of a series: taken from its first instance."""

    series_instance_uid: str
    modality: str
    series_number: int | None
    series_description: str
    series_description_key: str
    series_date: str
    series_time: str
    body_part_examined: str
    protocol_name_key: str
    station_name: str
    manufacturer_key: str
    procedure_step_start_date: str
    procedure_step_start_time: str
    procedure_step_id: str
    attributes: bytes


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """What the index keeps of an instance."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    content_date: str
    content_time: str
    acquisition_date: str
    acquisition_number: int | None
    rows: int | None
    columns: int | None
    bits_allocated: int | None
    number_of_frames: int | None
    object_key: str
    size_bytes: int
    dataset_offset: int
    digest: bytes
    received_at: datetime
    warnings: int
    metadata: bytes
    bulk: bytes
    frames: bytes


@dataclass(frozen=True, slots=True)
class NewInstance:
    """One instance with its parents, ready to be inserted.

    Parameters
    ----------
    terms
        What its attributes without a column hold, for searches.
    """

    study: StudyRow
    series: SeriesRow
    instance: InstanceRow
    source: Source
    source_key: str
    partition: str = "public"
    terms: Terms = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListedInstance:
    """An instance in short: enough to name it, and to know how it could be sent."""

    instance_id: int
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str


class StoredInstance(NamedTuple):
    """An instance as the index knows it: enough to send its bytes.

    A tuple, because one is made for every instance of every series that is sent.

    Parameters
    ----------
    instance_id
        Primary key; leads to the details.
    object_key
        Address of the whole Part 10 object in the object store.
    dataset_offset
        Where the data set begins in it, in bytes.
    digest
        SHA-256 of the data set.
    change
        Sequence of the last change of this instance: a version for validators.
    """

    instance_id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    number_of_frames: int | None
    object_key: str
    size_bytes: int
    dataset_offset: int
    digest: bytes
    received_at: datetime
    change: int


@dataclass(frozen=True, slots=True)
class InstanceDetail:
    """What ingest worked out once, so that no read parses the object again.

    Parameters
    ----------
    metadata
        DICOM JSON of the data set without bulk values, zstd.
    bulk
        Where each left-out value lies, as `archive.retrieve.bulk` encodes it.
    frames
        The frame table, as `FrameTable.encode` wrote it; empty when there are no frames.
    """

    metadata: bytes
    bulk: bytes
    frames: bytes


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One line of the change feed."""

    sequence: int
    at: datetime
    kind: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    version: int
    digest: bytes
    site: str
    collection: str
    principal: str
    reason: str


@dataclass(frozen=True, slots=True)
class Insertion:
    """What became of a `NewInstance`.

    Parameters
    ----------
    kind
        "stored", "duplicate", "held" or "replaced".
    keep
        Whether the index refers to the object; if not, its bytes are stored already.
    elsewhere
        "study/series" of another place where the same SOP Instance UID is stored;
        empty when there is none.
    """

    kind: str
    keep: bool
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """How much the archive holds."""

    patients: int = 0
    studies: int = 0
    series: int = 0
    instances: int = 0
    bytes_: int = 0
    held: int = 0
    deleted: int = 0
    duplicates: int = 0
    elsewhere: int = 0
    last_change: int = 0
    by_source: tuple[tuple[str, int], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class IndexedObject:
    """An object the index refers to, and what it must be."""

    object_key: str
    size_bytes: int
    dataset_offset: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class UnusualInstance:
    """An instance an operator should look at."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    version: int
    why: str
    site: str
    received_at: datetime
