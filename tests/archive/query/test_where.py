"""Searches that are written down: what takes no part in matching is an error."""

import pytest

from archive.errors import InvalidRequestError
from archive.query.parameters import parse_search
from archive.query.request import Level
from archive.query.where import parse_where


@pytest.mark.parametrize(
    "text",
    [
        "Modality=CT&StudyDate=20240101-",
        "00081030=*CHEST*",
        "PatientName=Doe&fuzzymatching=true&TimezoneOffsetFromUTC=%2B0100",
        "RequestAttributesSequence.RequestedProcedureID=R7",
        'AccessionNumber=""&emptyvaluematching=true',
    ],
)
def test_keys_are_those_of_a_search(text):
    from urllib.parse import parse_qsl

    asked = parse_search(parse_qsl(text), Level.STUDY, ()).request
    read = parse_where(text)
    for name in ("level", "keys", "combined_date_time", "fuzzy", "empty_values", "zone"):
        assert getattr(read, name) == getattr(asked, name)
    assert read.limit is None


def test_nothing_written_matches_everything():
    assert parse_where("").keys == ()
    assert parse_where("?Modality=CT").keys == parse_where(" Modality=CT ").keys


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Modalty=CT", "did you mean Modality?"),
        ("Xyzzy=1", "keyword or tag"),
        ("StudyDate=yesterday", "StudyDate|00080020"),
        ("Modality=", "matches everything"),
        ("Modality=*", "matches everything"),
        ("Modality", "matches everything"),
        ("limit=5", "leave it out"),
        ("includefield=PatientName", "leave it out"),
        ("PixelData=1", "7FE00010"),
        ("fuzzymatching=perhaps", "neither true nor false"),
        ("StudyInstanceUID=abc", "UID"),
    ],
)
def test_what_would_be_ignored_is_an_error(text, told):
    with pytest.raises(InvalidRequestError, match=told):
        parse_where(text)
