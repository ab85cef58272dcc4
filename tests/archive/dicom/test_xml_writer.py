"""The Native DICOM Model (PS3.19 §A.1): whatever JSON holds, the document is well formed."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.dicom.xml_writer import NAMESPACE, encode_xml

SPACE = f"{{{NAMESPACE}}}"


def root_of(attributes) -> ET.Element:
    return ET.fromstring(encode_xml(attributes))


def test_an_empty_data_set_is_an_empty_model():
    root = root_of({})
    assert root.tag == SPACE + "NativeDicomModel"
    assert len(root) == 0


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ({"vr": "LO", "Value": ["a", None, "b"]}, ["a", None, "b"]),
        ({"vr": "IS", "Value": [1, -2]}, ["1", "-2"]),
        ({"vr": "DS", "Value": [0.5, "x"]}, ["0.5", "x"]),
        (
            {"vr": "FD", "Value": ["NaN", "inf", "-inf", 1e300]},
            ["NaN", "INF", "-INF", "1e+300"],
        ),
        ({"vr": "LO", "Value": ["inf"]}, ["inf"]),
        ({"vr": "UV", "Value": ["18446744073709551615"]}, ["18446744073709551615"]),
        ({"vr": "LT", "Value": ["a\r\nb\rc\td"]}, ["a\r\nb\rc\td"]),
        ({"vr": "LO", "Value": []}, []),
        ({"vr": "LO"}, []),
    ],
)
def test_values_are_numbered_and_keep_their_places(element, expected):
    (attribute,) = root_of({"00204000": element})
    assert [value.text for value in attribute] == expected
    assert [value.get("number") for value in attribute] == [
        str(number) for number in range(1, len(expected) + 1)
    ]


def test_names_are_divided_into_their_components():
    name = {"Alphabetic": "Family^Given^Middle^Prefix^Suffix", "Phonetic": "^^^Dr."}
    (attribute,) = root_of({"00100010": {"vr": "PN", "Value": [name]}})
    alphabetic, phonetic = attribute[0]
    assert [part.text for part in alphabetic] == [
        "Family",
        "Given",
        "Middle",
        "Prefix",
        "Suffix",
    ]
    assert [part.tag for part in phonetic] == [SPACE + "NamePrefix"]


def test_items_nest_and_may_be_empty():
    inner = {"00080100": {"vr": "SH", "Value": ["x"]}}
    (attribute,) = root_of({"00082218": {"vr": "SQ", "Value": [{}, inner]}})
    empty, full = attribute
    assert (empty.get("number"), len(empty)) == ("1", 0)
    assert full[0].get("keyword") == "CodeValue"


@pytest.mark.parametrize(
    ("tag", "keyword"),
    [
        ("7FE00010", "PixelData"),
        ("60023000", "OverlayData"),
        ("00090010", None),
        ("12345678", None),
    ],
)
def test_public_attributes_carry_their_keyword(tag, keyword):
    (attribute,) = root_of({tag: {"vr": "OW", "BulkDataURI": "http://x/?a&b"}})
    assert attribute.get("keyword") == keyword
    assert attribute[0].get("uri") == "http://x/?a&b"


def test_private_attributes_name_who_made_them_in_their_own_item():
    creator = {"00090010": {"vr": "LO", "Value": ["OUTER"]}}
    item = {"00090010": {"vr": "LO", "Value": ["INNER"]},
            "00091001": {"vr": "LO", "Value": ["x"]}}  # fmt: skip
    root = root_of(creator | {"00091002": {"vr": "SQ", "Value": [item]},
                              "00091101": {"vr": "LO", "Value": ["nobody's"]}})  # fmt: skip
    names = {a.get("tag"): a.get("privateCreator") for a in root.iter(SPACE + "DicomAttribute")}
    assert names["00091002"] == "OUTER"
    assert names["00091001"] == "INNER"
    assert names["00091101"] is None


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.integers(0, 2**32 - 1).map(lambda tag: f"{tag:08X}"),
        st.builds(
            lambda vr, values: {"vr": vr, "Value": values},
            st.sampled_from(["LO", "LT", "DS", "FD", "UI"]),
            st.lists(st.one_of(st.none(), st.text(max_size=30), st.floats(), st.integers())),
        ),
        max_size=6,
    )
)
def test_whatever_is_held_gives_a_well_formed_document(attributes):
    root = root_of(attributes)
    assert [attribute.get("tag") for attribute in root] == sorted(attributes)
