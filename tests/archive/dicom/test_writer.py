"""Data sets written from the DICOM JSON Model: pydicom reads what was meant."""

import io

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.dicom.encode_values import ModelError, encode_values
from archive.dicom.writer import Content, DataSetWriter
from archive.errors import InvalidInstanceError

_TEXT = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\\"), max_size=20
).map(str.strip)
_VALUES = {
    "US": st.integers(0, 2**16 - 1),
    "SS": st.integers(-(2**15), 2**15 - 1),
    "UL": st.integers(0, 2**32 - 1),
    "SL": st.integers(-(2**31), 2**31 - 1),
    "FD": st.floats(allow_nan=False, allow_infinity=False),
    "FL": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "IS": st.integers(-(2**31), 2**31 - 1),
    "DS": st.floats(allow_nan=False, allow_infinity=False),
    "LO": _TEXT.filter(bool),
    "UC": _TEXT.filter(bool),
}


def written(attributes: dict) -> bytes:
    pieces: list[bytes] = []
    DataSetWriter(lambda piece: pieces.append(bytes(piece)), missing).write(attributes)
    return b"".join(pieces)


def missing(path: str, _vr: str, _uri: str) -> Content:
    raise InvalidInstanceError("no such part", tag=path[-8:])


def read(raw: bytes) -> pydicom.Dataset:
    return pydicom.filereader.read_dataset(
        io.BytesIO(raw), is_implicit_VR=False, is_little_endian=True
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_values_of_every_kind_are_read_as_they_were(data):
    vr = data.draw(st.sampled_from(sorted(_VALUES)))
    values = data.draw(st.lists(_VALUES[vr], min_size=1, max_size=4))
    dataset = read(
        written(
            {
                "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
                "00091001": {"vr": vr, "Value": values},
            }
        )
    )
    found = dataset[0x00091001].value
    found = list(found) if len(values) > 1 else [found]
    expected = [float(value) for value in values] if vr == "DS" else values
    assert [float(value) for value in found] == expected if vr == "DS" else found == expected


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (0.5, "0.5"),
        (-0.123456789012345, "-.123456789012345"),
        (0.123456789012345, ".123456789012345"),
        (1e16, "1e+16"),
        (1.5e-7, "1.5e-07"),
        (123456789012345.6, "123456789012345.6"),
        (1.23456789012345e-12, "123456789012345E-26"),
    ],
)
def test_decimals_are_spelt_as_shortly_as_they_can_be(number, text):
    assert encode_values("DS", [number]) == (text.encode(), "")
    assert float(text) == number


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["vr", "Value", "00081140"]), inner, max_size=3),
        ),
        max_leaves=8,
    ),
    st.sampled_from(["LO", "PN", "US", "FL", "DS", "IS", "AT", "SQ", "OB", "UT", "XX", ""]),
)  # fmt: skip
def test_nonsense_is_refused_by_name_and_never_crashes(value, vr):
    try:
        raw = written({"00091001": {"vr": vr, "Value": value}})
    except InvalidInstanceError as error:
        assert error.tag is None or len(error.tag) == 8
    else:
        assert len(raw) % 2 == 0


def test_a_short_vr_with_a_long_value_is_written_as_un():
    dataset = read(written({"00091001": {"vr": "LO", "Value": ["x" * 70_000]}}))
    assert dataset[0x00091001].VR in ("UN", "LO")
    assert len(dataset[0x00091001].value) == 70_000


def test_empty_sequences_items_and_values_stay():
    dataset = read(
        written(
            {
                "00081140": {"vr": "SQ"},
                "00082112": {"vr": "SQ", "Value": [{}, None, {"00100020": {"vr": "LO"}}]},
                "00100010": {"vr": "PN"},
            }
        )
    )
    assert len(dataset.ReferencedImageSequence) == 0
    assert [len(item) for item in dataset.SourceImageSequence] == [0, 0, 1]
    assert dataset.PatientName == ""


def test_a_message_never_holds_a_value():
    for vr, value in (("US", "secret"), ("FD", "secret"), ("AT", "secret"), ("DS", ["secret"])):
        with pytest.raises(ModelError) as caught:
            encode_values(vr, [value])
        assert "secret" not in str(caught.value)
