"""Rows as ingest hands them to the index, made up."""

from datetime import UTC, datetime

from storage.index.rows import InstanceRow, NewInstance, SeriesRow, Source, StudyRow

SOURCE = Source(site="north", collection="default", protocol="C-STORE", principal="ae:CT1")


def new(
    sop: str,
    *,
    study: str = "1.1",
    series: str = "1.1.1",
    content: str = "a",
    modality: str = "CT",
    size: int = 100,
    source: Source = SOURCE,
) -> NewInstance:
    new.count += 1
    return NewInstance(
        study=StudyRow(
            study_instance_uid=study,
            patient_id="P1",
            issuer_of_patient_id="",
            patient_name="Doe^Jane",
            patient_name_key="doe^jane",
            patient_birth_date="19700101",
            patient_sex="F",
            study_date="20240131",
            study_time="101500.000000",
            accession_number="A1",
            study_id="S1",
            study_description="Chest",
            study_description_key="chest",
            referring_physician_name_key="",
            attributes=b"{}",
        ),
        series=SeriesRow(
            series_instance_uid=series,
            modality=modality,
            series_number=1,
            series_description="",
            series_description_key="",
            series_date="",
            series_time="",
            body_part_examined="",
            protocol_name_key="",
            station_name="",
            manufacturer_key="",
            procedure_step_start_date="",
            procedure_step_start_time="",
            procedure_step_id="",
            attributes=b"{}",
        ),
        instance=InstanceRow(
            sop_instance_uid=sop,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            instance_number=int(sop.rpartition(".")[2]),
            content_date="",
            content_time="",
            acquisition_date="",
            acquisition_number=None,
            rows=1,
            columns=1,
            bits_allocated=16,
            number_of_frames=1,
            object_key=f"objects/{new.count}",
            size_bytes=size,
            dataset_offset=132,
            digest=content.encode().ljust(32),
            received_at=datetime(2026, 1, 1, tzinfo=UTC),
            warnings=0,
            metadata=b"m",
            bulk=b"b",
            frames=b"f",
        ),
        source=source,
        source_key=str(hash(source)),
    )


new.count = 0
