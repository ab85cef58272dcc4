"""What an instance can be shown as, and how long its frames are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.render.report import read_report
from archive.render.report_writing import write_report
from archive.render.subject import document_length, document_types, frame_durations


def numbers(tag: str, *values) -> dict:
    return {tag: {"vr": "DS", "Value": list(values)}}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, (100, 100, 100)),
        (numbers("00181063", 33.3), (33.3, 33.3, 33.3)),
        (numbers("00181063", "40"), (40, 40, 40)),
        (numbers("00181065", 0, 20, 30), (20, 30, 25)),
        (numbers("00180040", 25), (40, 40, 40)),
        (numbers("00082144", 10) | numbers("00180040", 25), (100, 100, 100)),
        (numbers("00181063", 0) | numbers("00180040", 50), (20, 20, 20)),
        (numbers("00181063", -5), (100, 100, 100)),
        (numbers("00181063", 1e9), (10000, 10000, 10000)),
        (numbers("00181065", "x"), (100, 100, 100)),
    ],
)
def test_frames_are_shown_as_long_as_the_data_set_says(attributes, expected):
    assert frame_durations(attributes, [1, 2, 3]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("said", "sop_class", "expected"),
    [
        ("application/pdf", "x", "application/pdf"),
        ("Application/PDF ", "x", "application/pdf"),
        ("text/xml; charset=utf-8", "x", "text/xml"),
        ("", "1.2.840.10008.5.1.4.1.1.104.1", "application/pdf"),
        ("", "1.2.840.10008.5.1.4.1.1.104.5", "model/mtl"),
        ("text/html\r\nX: y", "x", "application/octet-stream"),
        ("nonsense", "x", "application/octet-stream"),
    ],
)
def test_a_document_is_what_it_says_where_that_is_a_media_type(said, sop_class, expected):
    attributes = {"00420012": {"vr": "LO", "Value": [said]}}
    assert document_types(attributes, sop_class)[0] == expected


@pytest.mark.parametrize(
    ("said", "stored", "last", "expected"),
    [(9, 10, b"\0", 9), (10, 10, b"\0", 10), (3, 10, b"\0", 10), (None, 10, b"\0", 9),
     (None, 10, b"x", 10), (9, 10, b"x", 9)],
)  # fmt: skip
def test_only_one_byte_of_padding_is_cut(said, stored, last, expected):
    attributes = {} if said is None else {"00420015": {"vr": "UL", "Value": [said]}}
    assert document_length(attributes, stored, last) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["0040A730", "0040A040", "0040A043", "0040A160", "0040A300", "Value",
                         "0040A30A", "004008EA", "00081199", "00081155", "00080104", "vr",
                         "Alphabetic"]),
        inner, max_size=4,
    ),
    max_leaves=25,
)  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["0040A730", "0040A043", "00100010", "00080006"]), JSON))
def test_whatever_is_in_a_report_it_can_be_written(attributes):
    report = read_report(attributes)
    for media_type in ("text/html", "text/xml", "text/plain"):
        assert write_report(report, media_type, "utf-8", lambda _: "")


def test_a_report_that_nests_without_end_is_cut():
    content = {"0040A040": {"Value": ["CONTAINER"]}}
    for _ in range(200):
        content = {"0040A040": {"Value": ["CONTAINER"]}, "0040A730": {"Value": [content]}}
    report = read_report(content)
    assert report.is_cut
    assert b"longer than is shown" in write_report(report, "text/html", "utf-8", lambda _: "")
