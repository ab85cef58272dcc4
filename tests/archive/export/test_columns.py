"""Types of columns follow from PS3.6; whatever a file holds, nothing is forced or lost."""

from collections import Counter
from datetime import date, datetime, time

import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom._dicom_dict import DicomDictionary

from archive.export.columns import column_of
from archive.export.rows import OTHER, SeriesRows

MOMENT = datetime(2024, 2, 29, 9, 30, 1, 1)  # noqa: DTZ001 - as on the wall
EVERY = [column for tag in DicomDictionary if (column := column_of(f"{tag:08X}")) is not None]

_texts = st.text("0123456789.:+-^=\\ aNé山", max_size=12) | st.sampled_from(
    ["20240229", "2024.02.29", "20230229", "00000000", "235960", "2359", "23", "12:30:01.5", "",
     "20240101120000+0100", "2024", "NaN", "inf", "1_000", "9223372036854775808", "12", "MR"]
)  # fmt: skip
_values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)  # what JSON that was read may hold
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts
    | st.dictionaries(st.sampled_from(["Alphabetic", "Ideographic", "x"]), _texts, max_size=2)
)
_elements = st.fixed_dictionaries(
    {"vr": st.just("UN")}, optional={"Value": st.lists(_values, max_size=3)}
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(EVERY), _elements)
def test_any_value_becomes_one_of_the_columns_type_or_stays_beside_it(column, element):
    unconverted = Counter()
    row = SeriesRows({column.tag: column}, unconverted).take({column.tag: element})
    if column.name in row:
        pa.array([row[column.name]], column.arrow)  # raises if it were of another type
        assert OTHER not in row
        assert not unconverted
    elif OTHER in row:
        assert set(orjson.loads(row[OTHER])) == {column.tag}
        assert unconverted == {column.name: 1}
    else:
        assert not element.get("Value") or element["Value"] == [None]


def converted(keyword: str, *values: object) -> object:
    column = next(column for column in EVERY if column.name == keyword)
    return column.convert({"vr": column.vr, "Value": list(values)})


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [
        ("StudyDate", "20240229", date(2024, 2, 29)),
        ("StudyDate", "1997.04.24", date(1997, 4, 24)),
        ("StudyTime", "0930", time(9, 30)),
        ("StudyTime", "093001.25", time(9, 30, 1, 250_000)),
        ("AcquisitionDateTime", "20240229093001.000001", MOMENT),
        ("SeriesNumber", 7, 7),
        ("SeriesNumber", 7.0, 7),
        ("SelectorUVValue", "9007199254740993", [9007199254740993]),
        ("SliceThickness", 1, 1.0),
        ("PixelSpacing", 0.5, [0.5]),
        ("PatientName", {"Alphabetic": "Doe^J", "Ideographic": "山"}, "Doe^J=山"),
        ("ReferencedImageSequence", {"00081155": {"vr": "UI", "Value": ["1.2"]}},
         '[{"00081155":{"vr":"UI","Value":["1.2"]}}]'),
    ],
)  # fmt: skip
def test_what_becomes_of_values(keyword, value, kept):
    result = converted(keyword, value)
    assert result == kept
    assert type(result) is type(kept)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("StudyDate", ["20230229"]),
        ("StudyDate", ["20240101-20241231"]),
        ("StudyTime", ["235960"]),  # a leap second is no time of day
        ("StudyTime", ["09"]),  # which minute?
        ("AcquisitionDateTime", ["2024"]),
        ("AcquisitionDateTime", ["20240229093001+0100"]),  # a moment elsewhere
        ("SeriesNumber", ["seven"]),
        ("SeriesNumber", ["1_000"]),
        ("SeriesNumber", [2**64]),
        ("SliceThickness", ["NaN"]),
        ("Modality", ["CT", "MR"]),  # one value by PS3.6
        ("Modality", [5]),
    ],
)
def test_what_is_never_forced(keyword, values):
    with pytest.raises((ValueError, TypeError)):
        converted(keyword, *values)


def test_bytes_and_unknown_attributes_have_no_column():
    assert column_of("7FE00010") is None
    assert column_of("00091001") is None
    assert column_of("60003000") is None


def test_no_two_columns_have_names_that_differ_in_case_alone():
    names = Counter(column.name.lower() for column in EVERY)
    assert [name for name, count in names.items() if count > 1] == []


def test_a_series_has_what_all_its_instances_share():
    columns = {tag: column_of(tag) for tag in ("00080018", "00080060", "00180050", "00200013")}
    modality = {"00080060": {"vr": "CS", "Value": ["CT"]}}
    private = {"00091001": {"vr": "LO", "Value": ["mine"]}}
    series = SeriesRows(columns, Counter())
    for number in (1, 2, 3):
        numbered = {"00200013": {"vr": "IS", "Value": [number]}}
        thick = {"00180050": {"vr": "DS", "Value": [5]}} if number > 1 else {}
        row = series.take(modality | numbered | thick | private)
        assert row["InstanceNumber"] == number
        assert ("SliceThickness" in row) == (number > 1)
    shared = series.constant()
    assert shared.pop("varying_attributes") == ["InstanceNumber", "SliceThickness"]
    assert orjson.loads(shared.pop(OTHER)) == private
    assert shared == {"Modality": "CT"}
