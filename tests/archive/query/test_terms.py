"""Terms only narrow: whatever varies within a series, a search finds what the JSON says."""

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.auth.principal import ANONYMOUS
from archive.ingest.columns import COLUMN_TAGS
from archive.ingest.terms import terms_of
from archive.query.columns import COLUMNS
from archive.query.request import Level, SearchKey, SearchRequest
from storage.index.rows import UNLISTED
from storage.index.tables import series
from tests.builders import dataset, part10
from tests.conftest import store


def test_what_has_a_column_needs_no_terms():
    computed = {"00080061", "00080062", "00083002", "00201206", "00201208", "00201209"}
    assert {path[0] for path in COLUMNS} - computed == COLUMN_TAGS


def test_terms_name_paths_values_and_sounds():
    terms = terms_of(
        {
            "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
            "00080050": {"vr": "SH", "Value": ["has a column"]},
            "00081070": {"vr": "PN", "Value": [{"Alphabetic": "Jones^Mary"}]},
            "00180050": {"vr": "DS", "Value": [5.0]},
            "00400275": {
                "vr": "SQ",
                "Value": [{"00400009": {"vr": "SH", "Value": ["A", "B"]}}],
            },
            "00104000": {"vr": "LT", "Value": ["x" * 500]},
            "00280006": {"vr": "US"},
        }
    )
    assert terms["00400275"] == (("00400275.00400009", "a"), ("00400275.00400009", "b"))
    assert terms["00180050"] == (("00180050", "5"),)
    assert terms["00104000"] == (("00104000", UNLISTED),)
    assert ("00081070", "jones^mary") in terms["00081070"]
    assert ("~00081070", "w:mary") in terms["00081070"]
    assert "00080050" not in terms
    assert "00280006" not in terms


_VALUES = st.sampled_from([None, "", "a", "b", "ab", "x" * 200])
_SERIES = st.lists(st.tuples(_VALUES, _VALUES), min_size=1, max_size=4)
_counter = iter(range(1, 1_000_000))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shelves=st.lists(_SERIES, min_size=1, max_size=4), asked=st.sampled_from(["a", "*b", '""'])
)
@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.INSTANCE])
def test_a_search_finds_what_a_look_at_every_instance_finds(archive, level, shelves, asked):
    root = f"1.2.{next(_counter)}"
    expected = {Level.STUDY: set(), Level.SERIES: set(), Level.INSTANCE: set()}
    for number, instances in enumerate(shelves, 1):
        uid = f"{root}.{number}"
        for position, (comment, body) in enumerate(instances, 1):
            made = dataset(root, uid, f"{uid}.{position}", PatientID=root)
            if comment is not None:
                made.ImageComments = comment
            if body is not None:
                made.ScanningSequence = body.upper()[:16]
            store(archive, part10(made))
            held = comment or ""
            if {"a": held == "a", "*b": held.endswith("b"), '""': not held}[asked]:
                expected[Level.STUDY].add(root)
                expected[Level.SERIES].add(uid)
                expected[Level.INSTANCE].add(f"{uid}.{position}")
    request = SearchRequest(
        level,
        keys=(SearchKey(("00100020",), root), SearchKey(("00204000",), asked)),
        empty_values=True,
    )
    tag = {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.INSTANCE: "00080018"}[level]
    found = [match[tag]["Value"][0] for match in archive.query.search(ANONYMOUS, request)]
    assert len(found) == len(set(found))
    assert set(found) == expected[level]
    assert archive.query.count(ANONYMOUS, request) == len(found)


def test_series_from_before_there_were_terms_are_found_all_the_same(archive):
    store(archive, part10(dataset("1.2", "1.2.1", "1.2.1.1", SliceThickness="5")))
    store(archive, part10(dataset("1.3", "1.3.1", "1.3.1.1", SliceThickness="7")))
    with archive.engine.write() as connection:
        connection.exec_driver_sql("DELETE FROM series_term")
        connection.execute(series.update().values(terms_missing=True))
    request = SearchRequest(Level.STUDY, keys=(SearchKey(("00180050",), "5"),))
    (match,) = archive.query.search(ANONYMOUS, request)
    assert match["0020000D"]["Value"] == ["1.2"]
    # One more instance does not make the series' terms complete.
    store(archive, part10(dataset("1.3", "1.3.1", "1.3.1.2", SliceThickness="5")))
    assert archive.query.count(ANONYMOUS, request) == 2
    assert orjson.dumps(match)


def test_instances_sent_by_two_processes_are_known_to_differ(archive, config):
    """Each process remembers what it wrote of a series; neither sees what the other did."""
    from archive.assembly import open_archive

    with open_archive(config) as other:
        store(archive, part10(dataset("1.2", "1.2.1", "1.2.1.1", SliceThickness="1")))
        store(other, part10(dataset("1.2", "1.2.1", "1.2.1.2", SliceThickness="2")))
        store(archive, part10(dataset("1.2", "1.2.1", "1.2.1.3", SliceThickness="1")))
        store(other, part10(dataset("1.2", "1.2.1", "1.2.1.4", SliceThickness="3")))
    for thickness in "123":
        request = SearchRequest(Level.SERIES, keys=(SearchKey(("00180050",), thickness),))
        assert archive.query.count(ANONYMOUS, request) == 1
