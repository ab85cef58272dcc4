"""What the walker remembers of earlier data sets changes nothing but its speed."""

import copy
import io
import random
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from archive.dicom.charset import decoder
from archive.dicom.memory import memory_of
from archive.dicom.parse import parse_instance
from archive.dicom.part10 import build_file_meta, read_file_meta
from archive.errors import ArchiveError
from tests.conftest import wheel_file


def every_file() -> list[Path]:
    root = Path(wheel_file("CT_small.dcm")).parent.parent
    shared = Path(__file__).parents[4] / "shared" / "data" / "dicom"
    return sorted([*root.rglob("*.dcm"), *shared.rglob("*.dcm")])


def parsed(body: bytes):
    try:
        found = parse_instance(body, read_file_meta(body))
    except ArchiveError as error:
        return str(error)
    return found.json, found.bulk, found.warnings, found.attributes


def test_every_real_file_reads_the_same_whatever_was_read_before():
    bodies = [path.read_bytes() for path in every_file()]
    alone = []
    for body in bodies:
        memory_of.cache_clear()
        alone.append(copy.deepcopy(parsed(body)))
    order = list(range(len(bodies))) * 2
    random.Random(4).shuffle(order)
    memory_of.cache_clear()
    for number in order:
        assert parsed(bodies[number]) == alone[number]
    assert len(bodies) > 50


def item(**values) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def encoded(syntax=ExplicitVRLittleEndian, **values) -> bytes:
    dataset = item(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
        SOPInstanceUID="1.2.3",
        StudyInstanceUID="1.2.4",
        SeriesInstanceUID="1.2.5",
        **values,
    )
    header = build_file_meta(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax_uid=str(syntax),
    )
    output = io.BytesIO()
    pydicom.dcmwrite(
        output,
        dataset,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
    )
    return header + output.getvalue()


def attributes_of(body: bytes) -> dict:
    return parse_instance(body, read_file_meta(body)).attributes


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_the_same_bytes_under_another_character_set_are_other_text(syntax):
    # 5C is a yen sign in one of them, and AF half a katakana or half of a letter.
    for character_set, name in [("ISO_IR 13", "ｯ"),
                                ("ISO_IR 100", "¯")] * 2:  # fmt: skip
        body = encoded(
            syntax,
            SpecificCharacterSet=character_set,
            PatientID=name,
            ReferencedStudySequence=Sequence([item(StudyDescription=name)]),
        )
        found = attributes_of(body)
        assert found["00100020"]["Value"] == [name]
        assert found["00081110"]["Value"][0]["00081030"]["Value"] == [name]


def test_a_sequence_that_differs_in_one_byte_is_read_anew():
    for number in range(6):
        sequence = Sequence([item(CodeValue=str(number), CodingSchemeDesignator="99X")])
        (read,) = attributes_of(encoded(ProcedureCodeSequence=sequence))["00081032"]["Value"]
        assert read["00080100"]["Value"] == [str(number)]


def test_a_sequence_with_a_warning_warns_every_time():
    body = encoded(ReferencedSeriesSequence=Sequence([item(SeriesNumber="7")]))
    body = body.replace(b"IS\x02\x007 ", b"IS\x02\x00x ")
    first = parse_instance(body, read_file_meta(body)).warnings
    assert len(first) == 1
    assert parse_instance(body, read_file_meta(body)).warnings == first


def test_a_sequence_with_bulk_data_refers_to_its_own_bytes():
    inner = item()
    inner.add_new(0x00420011, "OB", b"\1" * 2000)
    for filler in ("A", "LONGER"):
        body = encoded(PatientID=filler, IconImageSequence=Sequence([inner]))
        (bulk,) = parse_instance(body, read_file_meta(body)).bulk
        assert body[bulk.offset : bulk.offset + bulk.length] == b"\1" * 2000


def test_what_is_remembered_is_bounded():
    for number in range(20_000):
        memory = memory_of(decoder(()), "<", False, False)
        memory.keep(number.to_bytes(4, "big"), "00100020", {"vr": "LO"})
        memory.keep_sequence(number, b"x" * 100, {"vr": "SQ"})
        memory.keep_sequence(1, number.to_bytes(4, "big"), {"vr": "SQ"})
    assert len(memory.elements) <= 4096
    assert len(memory._sequences) <= 512
    assert len(memory._sequences[1]) <= 4
