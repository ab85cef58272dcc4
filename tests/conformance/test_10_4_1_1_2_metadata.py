"""Metadata in JSON and XML (PS3.18 §10.4.1.1.2, Annex F; PS3.19 §A.1)."""

import re
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests import synthetic
from tests.conformance.multipart import parts_of
from tests.conftest import store

PARTS = 'multipart/related; type="application/dicom+xml"'
DICOM_PARTS = 'multipart/related; type="application/dicom"'
SPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
NUMBERS = {"DS", "FL", "FD", "IS", "SL", "SS", "SV", "UL", "US", "UV"}


def read_data_set(element: ET.Element) -> dict:
    """A NativeDicomModel or Item as DICOM JSON; what the schema forbids fails."""
    found = {}
    for attribute in element:
        assert attribute.tag == SPACE + "DicomAttribute"
        tag, vr = attribute.get("tag"), attribute.get("vr")
        assert re.fullmatch("[0-9A-F]{8}", tag)
        assert re.fullmatch("[A-Z]{2}", vr)
        assert set(attribute.attrib) <= {"tag", "vr", "keyword", "privateCreator"}
        assert not (attribute.text or "").strip()
        found[tag] = {"vr": vr} | read_content(attribute, vr)
    assert list(found) == sorted(found)
    return found


def read_content(attribute: ET.Element, vr: str) -> dict:
    kinds = {child.tag.removeprefix(SPACE) for child in attribute}
    assert len(kinds) <= 1
    if not kinds:
        return {}
    (kind,) = kinds
    if kind == "BulkData":
        return {"BulkDataURI": attribute[0].get("uri")}
    if kind == "InlineBinary":
        return {"InlineBinary": attribute[0].text}
    numbers = [child.get("number") for child in attribute]
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
    assert kind == {"SQ": "Item", "PN": "PersonName"}.get(vr, "Value")
    return {"Value": [read_value(child, vr) for child in attribute]}


def read_value(child: ET.Element, vr: str):
    if vr == "SQ":
        return read_data_set(child)
    if vr == "PN":
        name = {}
        for group in child:
            parts = {part.tag.removeprefix(SPACE): part.text for part in group}
            assert set(parts) <= set(COMPONENTS)
            text = "^".join(parts.get(component, "") for component in COMPONENTS)
            name[group.tag.removeprefix(SPACE)] = text.rstrip("^")
        assert set(name) <= set(GROUPS)
        return name or None
    return child.text


def as_text(attributes: dict) -> dict:
    """DICOM JSON with values as XML writes them."""
    found = {}
    for tag, element in attributes.items():
        found[tag] = dict(element)
        if "Value" in element:
            values = [_text(value, element["vr"]) for value in element["Value"]]
            found[tag]["Value"] = values
            if not values:
                del found[tag]["Value"]
    return found


def _text(value, vr: str):
    if vr == "SQ":
        return as_text(value or {})
    if vr == "PN":
        return {group: name.rstrip("^") for group, name in value.items()} if value else None
    if value is None:
        return None
    text = str(value).replace("\r\n", "\n") if isinstance(value, str) else str(value)
    return {"inf": "INF", "-inf": "-INF"}.get(text, text) if vr in ("FL", "FD") else value if (
        isinstance(value, str)
    ) else text  # fmt: skip


def test_xml_says_what_json_says_of_every_instance(room):
    for name in room.refs:
        (attributes,) = room.get(room.url(name) + "/metadata").json()
        document = room.get(room.url(name) + "/metadata", "application/dicom+xml").content
        root = ET.fromstring(document)
        assert root.tag == SPACE + "NativeDicomModel"
        assert root.get("{http://www.w3.org/XML/1998/namespace}space") == "preserve"
        assert read_data_set(root) == as_text(attributes), name


@pytest.mark.parametrize("level", ["url", "series_url", "study_url"])
def test_xml_of_a_resource_is_a_part_for_each_instance(room, level):
    base = getattr(room, level)("CT_small.dcm")
    parts = parts_of(room.get(base + "/metadata", PARTS))
    metadata = room.get(base + "/metadata").json()
    assert len(parts) == len(metadata)
    for part, attributes in zip(parts, metadata, strict=True):
        uid = attributes["00080018"]["Value"][0]
        assert part.headers["Content-Type"] == "application/dicom+xml"
        assert part.headers["Content-Location"].endswith(f"/instances/{uid}/metadata")
        assert part.content.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
        assert read_data_set(ET.fromstring(part.content)) == as_text(attributes)


@pytest.mark.parametrize("level", ["series_url", "study_url"])
def test_one_xml_document_is_no_form_of_a_series(room, level):
    url = getattr(room, level)("CT_small.dcm") + "/metadata"
    assert room.get(url, "application/dicom+xml").status_code == 406


def test_keywords_and_private_creators_are_named(client, archive):
    dataset = synthetic.data_set(PatientName="Müller^Anna=山^太=やま^た")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    block = dataset.private_block(0x0009, 'ACME "<&>"', create=True)
    block.add_new(0x10, "LO", "a\\b")
    url = synthetic.url(store(archive, synthetic.part10(dataset, "1.2.840.10008.1.2.1")).ref)
    response = client.get(url + "/metadata", headers={"Accept": "application/dicom+xml"})
    root = ET.fromstring(response.content)
    by_tag = {attribute.get("tag"): attribute for attribute in root}
    assert by_tag["00100010"].get("keyword") == "PatientName"
    assert by_tag["00091010"].get("privateCreator") == 'ACME "<&>"'
    assert by_tag["00091010"].get("keyword") is None
    assert by_tag["00090010"].get("privateCreator") is None
    assert [value.text for value in by_tag["00091010"]] == ["a", "b"]
    name = by_tag["00100010"][0]
    assert [group.tag.removeprefix(SPACE) for group in name] == list(GROUPS)
    assert name.find(f"{SPACE}Ideographic/{SPACE}FamilyName").text == "山"


@pytest.mark.parametrize(
    "text",
    ["a\x1bb", "tab\tand\nline", "a\rb", "]]>", "<!--", "&amp;", "\x00\x01\x02", "a\x7fb"],
)
def test_no_text_whatever_breaks_the_document(client, archive, text):
    dataset = synthetic.data_set(ImageComments=text)
    url = synthetic.url(store(archive, synthetic.part10(dataset, "1.2.840.10008.1.2.1")).ref)
    response = client.get(url + "/metadata", headers={"Accept": "application/dicom+xml"})
    root = ET.fromstring(response.content)
    (attributes,) = client.get(url + "/metadata").json()
    expected = attributes["00204000"].get("Value", [""])[0]
    found = root.find(f"{SPACE}DicomAttribute[@tag='00204000']/{SPACE}Value")
    legal = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", expected)
    assert ("" if found is None else found.text or "") == legal


@pytest.mark.parametrize("level", ["url", "series_url", "study_url"])
def test_metadata_is_the_same_at_every_level(room, level):
    ref = room.refs["CT_small.dcm"]
    found = room.get(getattr(room, level)("CT_small.dcm") + "/metadata").json()
    (one,) = room.get(room.url("CT_small.dcm") + "/metadata").json()
    assert one in found
    assert one["00080018"]["Value"] == [ref.sop_instance_uid]
    assert all(attributes["0020000D"] == one["0020000D"] for attributes in found)


def test_a_series_of_hundreds_is_one_array_in_order(client, archive):
    first = synthetic.data_set()
    bodies = [
        synthetic.part10(
            synthetic.data_set(
                StudyInstanceUID=first.StudyInstanceUID,
                SeriesInstanceUID=first.SeriesInstanceUID,
                InstanceNumber=number,
            ),
            "1.2.840.10008.1.2.1",
        )
        for number in range(600, 0, -1)
    ]
    with ThreadPoolExecutor(16) as pool:  # many share a commit
        list(pool.map(partial(store, archive), bodies))
    base = f"/studies/{first.StudyInstanceUID}/series/{first.SeriesInstanceUID}"
    found = client.get(base + "/metadata").json()
    assert [attributes["00200013"]["Value"][0] for attributes in found] == list(range(1, 601))
    assert len(parts_of(client.get(base + "/metadata", headers={"Accept": PARTS}))) == 600
    assert len(parts_of(client.get(base, headers={"Accept": DICOM_PARTS}))) == 600
