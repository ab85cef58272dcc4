"""Dates and times of any precision and zone (PS3.5 §6.2)."""

import pytest

from archive.dicom.moments import (
    datetime_range,
    datetime_span,
    days_apart,
    parse_offset,
    shifted,
)

HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("+0100", 60),
        ("-0530", -330),
        ("+1400", 840),
        (" 0200", 120),
        ("0100", None),
        ("+1500", None),
        ("+0160", None),
        ("CET", None),
        ("", None),
    ],
)
def test_an_offset_is_read(text, minutes):
    assert parse_offset(text) == minutes


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("2024", 366 * 24 * HOUR),
        ("202402", 29 * 24 * HOUR),
        ("20240131", 24 * HOUR),
        ("2024013110", HOUR),
        ("202401311015", HOUR // 60),
        ("20240131101530", HOUR // 3600),
        ("20240131101530.5", 100_000),
        ("20240131101530.123456", 1),
        ("20241231235959.9+0100", 100_000),
    ],
)
def test_a_value_covers_what_its_precision_leaves_open(text, length):
    low, high = datetime_span(text, 0)
    assert high - low + 1 == length


def test_the_zone_of_the_value_wins_over_the_one_given():
    assert datetime_span("20240101120000+0100", 600) == datetime_span("20240101110000", 0)
    assert datetime_span("20240101120000", 60) == datetime_span("20240101110000", 0)


@pytest.mark.parametrize("text", ["", "abc", "202413", "20240230", "2024-", "20240101T10", "-"])
def test_what_is_no_date_time_has_no_span(text):
    assert datetime_span(text, 0) is None


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2024-2025", "2024", "2025"),
        ("20240101-", "20240101", None),
        ("-20240101", None, "20240101"),
        ("20240101-0500-20240102-0500", "20240101-0500", "20240102-0500"),
        ("202401010000+0100-", "202401010000+0100", None),
    ],
)
def test_a_range_of_date_times_is_split_where_it_is_one(text, low, high):
    expected = (
        None if low is None else datetime_span(low, 0)[0],
        None if high is None else datetime_span(high, 0)[1],
    )
    assert datetime_range(text, 0) == expected


def test_a_year_with_an_offset_is_one_value():
    assert datetime_range("2024-0500", 0) == datetime_span("2024-0500", 0)


def test_a_time_moves_over_midnight_with_its_date():
    assert shifted("20240101", "0030", -60) == ("20231231", "233000.000000")
    assert shifted("20240101", "", 60) is None
    assert days_apart("20240301", -1) == "20240229"
    assert days_apart("none", 1) == "none"
