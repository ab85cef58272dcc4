"""The walker and pydicom read the same out of every real file."""

import io
import json
import math
import struct
import tracemalloc
import warnings
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from archive.dicom.frame_table import FrameTable
from archive.dicom.parse import parse_instance
from archive.dicom.part10 import build_file_meta, read_file_meta
from archive.errors import InvalidInstanceError
from tests.conftest import wheel_file

# What pydicom says otherwise, and why ours is kept:
_KNOWN = {
    # an empty value among values is null (PS3.18 §F.2.5), which pydicom writes for numbers only
    # and leaves blanks at the end of each but the last value.
}


def parse(body: bytes):
    return parse_instance(body, read_file_meta(body))


def comparable(attributes: dict) -> dict:
    """DICOM JSON without what the two may say differently."""
    result = {}
    for tag, element in attributes.items():
        vr = str(getattr(element["vr"], "value", element["vr"]))
        if tag == "00080005" or tag.endswith("0000"):
            continue  # ours says UTF-8, which the JSON is; group lengths are left out
        if "InlineBinary" in element or "BulkDataURI" in element:
            result[tag] = (vr, "binary")
        elif vr == "SQ":
            result[tag] = (vr, [comparable(item) for item in element.get("Value") or []])
        else:
            result[tag] = (vr, [_value(value) for value in element.get("Value") or []] or None)
    return result


def _value(value):
    if isinstance(value, str):
        return value.rstrip() or None
    return value


def reference(path_or_file) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path_or_file)
        return comparable(
            dataset.to_json_dict(
                bulk_data_threshold=1024,
                bulk_data_element_handler=lambda _: "x",
                suppress_invalid_tags=True,
            )
        )


def differences(path: Path) -> list[str]:
    mine, theirs = comparable(parse(path.read_bytes()).attributes), reference(path)
    # What pydicom cannot convert it leaves out: that we have it is no difference.
    return [tag for tag in theirs if mine.get(tag) != theirs[tag]]


def test_every_file_of_the_wheel_reads_as_pydicom_reads_it(wheel_files):
    compared = 0
    for path in wheel_files:
        try:
            found = differences(path)
        except InvalidInstanceError:
            continue
        except Exception as error:  # pydicom cannot read it: nothing to compare with
            assert type(error).__module__ != "archive.dicom.walker"
            continue
        assert found == [], path.name
        compared += 1
    assert compared > 70


def test_every_shared_valid_file_is_kept_and_reads_as_pydicom_reads_it(shared_dicom):
    for path in sorted((shared_dicom / "valid").glob("*.dcm")):
        parsed = parse(path.read_bytes())
        assert parsed.read_by == "walker"
        assert differences(path) == [], path.name


def test_every_frame_lies_where_pydicom_finds_it(wheel_files):
    compared = 0
    for path in wheel_files:
        body = path.read_bytes()
        try:
            parsed = parse(body)
        except InvalidInstanceError:
            continue
        table = parsed.frames
        if table is None or table.inflated:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path)
            pixels = dataset.get("PixelData")
            if pixels is None or not dataset["PixelData"].is_undefined_length:
                continue
            expected = list(generate_frames(pixels, number_of_frames=table.number_of_frames))
        again = FrameTable.decode(table.encode())
        for index in range(table.number_of_frames):
            spans = table.spans(index)
            assert again.spans(index) == spans
            frame = b"".join(body[offset : offset + length] for offset, length in spans)
            assert frame.rstrip(b"\0") == expected[index].rstrip(b"\0"), (path.name, index)
            compared += 1
    assert compared > 30


def test_a_frame_of_one_bit_pixels_may_begin_inside_a_byte():
    table = FrameTable.native(start=100, frame_bits=9, number_of_frames=3, inflated=False)
    assert table.spans(0) == ((100, 2),)
    assert (table.spans(1), table.bit_offset(1)) == (((101, 2),), 1)
    assert (table.spans(2), table.bit_offset(2)) == (((102, 2),), 2)
    with pytest.raises(IndexError):
        table.spans(3)


# -- data sets that hypothesis makes -----------------------------------------------------------

_TEXT = st.text(
    st.characters(codec="latin-1", exclude_characters="\\\0\x1b\n\r\f^="), max_size=20
)
_ELEMENTS = st.fixed_dictionaries(
    {},
    optional={
        "PatientName": _TEXT.map(str.strip),
        "StudyDescription": _TEXT.map(str.strip),
        "ImageType": st.lists(st.sampled_from(["ORIGINAL", "PRIMARY", "AXIAL"]), max_size=4),
        "InstanceNumber": st.integers(-(2**31), 2**31 - 1),
        "PixelSpacing": st.lists(st.sampled_from([0.5, 1.25, 300.0]), min_size=2, max_size=2),
        "Rows": st.integers(0, 65535),
        "SliceLocation": st.floats(-1e6, 1e6).map(lambda x: round(x, 3)),
        "TagAngleFirstAxis": st.floats(allow_nan=False, allow_infinity=False, width=32),
        "ReferencePixelX0": st.integers(-(2**31), 2**31 - 1),
        "FrameIncrementPointer": st.just(0x00181063),
        "ICCProfile": st.binary(max_size=40).map(lambda b: b + b"\0" * (len(b) % 2)),
        "RetrieveURL": st.just("http://example.org/a b"),
    },
)
_DATASETS = st.recursive(
    _ELEMENTS,
    lambda inner: st.tuples(_ELEMENTS, st.lists(inner, max_size=2)),
    max_leaves=5,
)


def _built(plan) -> Dataset:
    elements, items = plan if isinstance(plan, tuple) else (plan, None)
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if items is not None:
        dataset.ReferencedStudySequence = Sequence([_built(item) for item in items])
    return dataset


@settings(max_examples=150, deadline=None)
@given(plan=_DATASETS, implicit=st.booleans(), undefined=st.booleans())
def test_what_pydicom_writes_is_read_back_alike(plan, implicit, undefined):
    dataset = _built(plan)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    if "ReferencedStudySequence" in dataset:
        dataset["ReferencedStudySequence"].is_undefined_length = undefined
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    header = build_file_meta(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax_uid=syntax,
    )
    output = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(output, dataset, implicit_vr=implicit, little_endian=True)
    body = header + output.getvalue()
    parsed = parse(body)
    assert parsed.read_by == "walker"
    assert comparable(parsed.attributes) == reference(io.BytesIO(body))
    json.loads(parsed.json)


# -- hostile input -----------------------------------------------------------------------------


def _outcome(body: bytes) -> str:
    try:
        parse(body)
    except InvalidInstanceError as refusal:
        assert str(refusal)
        return "refused"
    return "kept"


def test_a_file_cut_anywhere_is_refused_with_a_place_or_kept_whole():
    body = wheel_file("MR_small_RLE.dcm").read_bytes()
    outcomes = {_outcome(body[:cut]) for cut in range(0, len(body), 7)}
    assert outcomes == {"refused", "kept"}


def test_no_flipped_bits_crash_or_hang_the_parser():
    import random

    random_bits = random.Random(20240131)
    for name in ("CT_small.dcm", "MR_small_RLE.dcm", "rtplan.dcm", "chrH32.dcm"):
        original = wheel_file(name).read_bytes()[:20_000]
        for _ in range(250):
            body = bytearray(original)
            for _ in range(random_bits.choice((1, 5, 50))):
                body[random_bits.randrange(len(body))] ^= 1 << random_bits.randrange(8)
            _outcome(bytes(body))


def _dataset_with(element: bytes) -> bytes:
    base = Dataset()
    base.SOPClassUID, base.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"
    base.StudyInstanceUID, base.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    output = io.BytesIO()
    pydicom.dcmwrite(output, base, implicit_vr=False, little_endian=True)
    header = build_file_meta(
        sop_class_uid="1.2.3",
        sop_instance_uid="1.2.3.4",
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
    )
    return header + output.getvalue() + element


def test_a_length_beyond_the_end_is_refused_at_its_byte_without_taking_memory():
    body = _dataset_with(b"\xe0\x7f\x10\x00OW\0\0\xf0\xff\xff\xff" + b"x" * 10)
    tracemalloc.start()
    with pytest.raises(
        InvalidInstanceError, match=r"4294967280 bytes .* only 10 are left"
    ) as info:
        parse(body)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert info.value.tag == "7FE00010"
    assert info.value.offset == len(body) - 22


def test_two_hundred_nested_sequences_are_refused():
    nested = b""
    for _ in range(200):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(nested)) + nested
        nested = b"\x08\x00\x15\x11SQ\0\0" + struct.pack("<I", len(item)) + item
    # The sequence lies after the UIDs of group 0020 in the file, out of order: it is read.
    with pytest.raises(InvalidInstanceError, match="nested more than"):
        parse(_dataset_with(nested))


def test_a_deflate_bomb_is_refused_before_it_fills_memory():
    import zlib

    bomb = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = build_file_meta(
        sop_class_uid="1.2.3",
        sop_instance_uid="1.2.3.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1.99",
    )
    body += b"".join(bomb.compress(bytes(1 << 20)) for _ in range(200)) + bomb.flush()
    with pytest.raises(InvalidInstanceError, match="grows beyond"):
        parse_instance(body, read_file_meta(body), largest_inflated_bytes=10 << 20)


def test_numbers_that_are_none_are_kept_as_text_with_a_warning():
    body = _dataset_with(
        b"\x20\x00\x13\x00IS\x04\x001x2 "
        + b"\x28\x00\x30\x00DS\x08\x00NaN\\0.5 "
        + b"\x40\x00\x25\x92FD\x08\x00"
        + struct.pack("<d", math.nan)
    )
    parsed = parse(body)
    assert parsed.attributes["00200013"] == {"vr": "IS", "Value": ["1x2"]}
    assert parsed.attributes["00280030"] == {"vr": "DS", "Value": ["NaN", 0.5]}
    assert parsed.attributes["00409225"] == {"vr": "FD", "Value": ["NaN"]}
    assert {warning.tag for warning in parsed.warnings} == {"00200013", "00280030"}
    json.loads(parsed.json)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 300, "PNG"),
        (b"hello world" * 30, "DICM"),
        (bytes(128) + b"DICM", "no transfer syntax"),
    ],
)
def test_what_is_no_dicom_is_refused_with_what_it_looks_like(body, reason):
    with pytest.raises(InvalidInstanceError, match=reason):
        parse(body)


def test_the_manifest_of_malformed_files_is_met(shared_dicom):
    import csv

    rows = list(csv.DictReader((shared_dicom / "manifest.csv").read_text().splitlines()))
    for row in rows:
        if not row["file"].startswith("malformed/"):
            continue
        outcome = _outcome((shared_dicom / row["file"]).read_bytes())
        if row["expect"] == "reject":
            assert outcome == "refused", row["file"]


# -- text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chrFren.dcm", {"Alphabetic": "Buc^Jérôme"}),
        ("chrRuss.dcm", {"Alphabetic": "Люкceмбypг"}),
        ("chrGreek.dcm", {"Alphabetic": "Διονυσιος"}),
        (
            "chrH32.dcm",
            {"Alphabetic": "ﾔﾏﾀﾞ^ﾀﾛｳ", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"},
        ),
        (
            "chrI2.dcm",
            {"Alphabetic": "Hong^Gildong", "Ideographic": "洪^吉洞", "Phonetic": "홍^길동"},
        ),
        ("chrX2.dcm", {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}),
    ],
)
def test_names_of_every_script_become_utf8(name, expected):
    parsed = parse(wheel_file(name).read_bytes())
    assert parsed.attributes["00100010"]["Value"] == [expected]
    assert parsed.attributes["00080005"]["Value"] == ["ISO_IR 192"]


def test_a_fault_of_the_walker_costs_time_and_not_the_image(monkeypatch):
    from archive.dicom import parse as module
    from archive.dicom.walker import Walker

    def stumble(self, start):
        raise ZeroDivisionError

    body = wheel_file("MR_small_RLE.dcm").read_bytes()
    walked = parse(body)
    monkeypatch.setattr(Walker, "walk", stumble)
    parsed = module.parse_instance(body, read_file_meta(body))
    assert parsed.read_by == "pydicom"
    assert comparable(parsed.attributes) == comparable(walked.attributes)
    assert parsed.frames.spans(0) == walked.frames.spans(0)
