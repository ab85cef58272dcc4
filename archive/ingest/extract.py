"""From a received object to the row the index takes: everything is worked out here, once."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from archive.dicom.bulk_table import BulkTable
from archive.dicom.compression import compress, decompress
from archive.dicom.instance import ParsedInstance
from archive.dicom.transfer_syntax import transfer_syntax
from archive.ingest.columns import instance_columns, series_row, study_row
from archive.ingest.terms import terms_of
from storage.index.rows import InstanceRow, NewInstance, SeriesRow, Source, StudyRow
from storage.objects.base import Buffer, Spool

_HASH_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of an instance beyond its content."""

    object_key: str
    size_bytes: int
    digest: bytes
    received_at: datetime
    source: Source
    source_key: str


def digest_of(body: Buffer | Spool, dataset_offset: int) -> bytes:
    """Return the SHA-256 of the data set, which begins at ``dataset_offset``.

    A spool is read in pieces rather than mapped: mapped pages would count as memory.
    """
    if isinstance(body, bytes | bytearray | memoryview):
        return hashlib.sha256(memoryview(body)[dataset_offset:]).digest()
    digest = hashlib.sha256()
    offset = dataset_offset
    while chunk := body.read(offset, _HASH_CHUNK_BYTES):
        digest.update(chunk)
        offset += len(chunk)
    return digest.digest()


def describe(metadata: bytes) -> tuple[StudyRow, SeriesRow]:
    """Return what an instance says of its study and series, from its compressed metadata."""
    attributes = orjson.loads(decompress(metadata))
    return study_row(attributes), series_row(attributes)


def new_instance(parsed: ParsedInstance, arrival: Arrival) -> NewInstance:
    """Return the rows of one instance, ready to be inserted."""
    columns = instance_columns(parsed.attributes)
    inflated = transfer_syntax(parsed.transfer_syntax_uid).deflated
    return NewInstance(
        study=study_row(parsed.attributes),
        series=series_row(parsed.attributes),
        instance=InstanceRow(
            sop_instance_uid=parsed.sop_instance_uid,
            sop_class_uid=parsed.sop_class_uid,
            transfer_syntax_uid=parsed.transfer_syntax_uid,
            instance_number=columns.instance_number,
            content_date=columns.content_date,
            content_time=columns.content_time,
            acquisition_date=columns.acquisition_date,
            acquisition_number=columns.acquisition_number,
            rows=columns.rows,
            columns=columns.columns,
            bits_allocated=columns.bits_allocated,
            number_of_frames=columns.number_of_frames,
            object_key=arrival.object_key,
            size_bytes=arrival.size_bytes,
            dataset_offset=parsed.dataset_offset,
            digest=arrival.digest,
            received_at=arrival.received_at,
            warnings=len(parsed.warnings),
            metadata=compress(parsed.json),
            bulk=BulkTable.of(parsed.bulk, inflated=inflated).encode(),
            frames=b"" if parsed.frames is None else parsed.frames.encode(),
        ),
        source=arrival.source,
        source_key=arrival.source_key,
        terms=terms_of(parsed.attributes),
    )
