"""§10.5.1.4: metadata in JSON or XML, with bulk data in parts of their own."""

import json

import pydicom
import pytest

from archive.auth.principal import OPERATOR
from tests.conformance.stow import (
    copies,
    ct,
    failed,
    others,
    pack,
    post,
    referenced,
    related,
    texts,
    value,
)
from tests.conformance.stow_metadata import (
    ENCAPSULATED_PDF,
    JSON,
    XML,
    as_xml,
    bulk,
    dataset,
    image,
    inline,
    metadata_of,
    metadata_parts,
    part10_of,
    path_of,
    send,
)

PIXELS = bytes(range(24))
BOTH = pytest.mark.parametrize("kind", [JSON, XML])


@pytest.fixture
def client(storing_client):
    return storing_client


def instances(archive) -> int:
    return archive.changes.totals(OPERATOR).instances


# -- what is stored ----------------------------------------------------------------------------


@BOTH
def test_an_image_is_put_together(client, kind):
    made = image()
    response = send(client, made, bulk("pixels", PIXELS), kind=kind)
    assert response.status_code == 200
    assert value(referenced(response)[0], "00081155") == made["00080018"]["Value"][0]
    stored = part10_of(client, made)
    assert stored.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert stored.file_meta.MediaStorageSOPInstanceUID == made["00080018"]["Value"][0]
    assert stored.PixelData == PIXELS
    assert stored.PatientName == "Doe^Jane"
    assert stored.Rows == 4


@BOTH
def test_several_instances_each_find_their_bulk_data(client, kind):
    made = [image(_7FE00010={"vr": "OB", "BulkDataURI": f"p/{n}"}) for n in range(5)]
    parts = [bulk(f"p/{n}", bytes([n]) * 24) for n in reversed(range(5))]
    response = send(client, made, *parts, kind=kind)
    assert response.status_code == 200
    for number, attributes in enumerate(made):
        assert part10_of(client, attributes).PixelData == bytes([number]) * 24


def test_metadata_may_be_one_object_or_the_whole_body(client):
    for content_type, body in (
        (related(JSON)["Content-Type"], pack([({"Content-Type": JSON}, dumped(dataset()))])),
        (JSON, dumped(dataset())),
        (JSON, dumped([dataset(), dataset()])),
        (XML, as_xml(dataset())),
        ("multipart/related; boundary=b0undary", pack(metadata_parts([dataset()]))),
        ("multipart/related; boundary=b0undary", pack(metadata_parts([dataset()], XML))),
        ("multipart/related; type=application/json; boundary=b0undary",
         pack([({"Content-Type": "application/json"}, dumped(dataset()))])),
        (related(JSON)["Content-Type"], pack([({}, dumped(dataset()))])),
    ):  # fmt: skip
        response = client.post("/studies", content=body, headers={"Content-Type": content_type})
        assert response.status_code == 200, (content_type, response.text)


def dumped(value) -> bytes:
    return json.dumps(value).encode()


@BOTH
def test_parts_may_come_in_any_order(client, kind):
    made = image()
    parts = [bulk("pixels", PIXELS), *metadata_parts([made], kind)]
    response = client.post("/studies", content=pack(parts), headers=related(kind))
    assert response.status_code == 200
    assert part10_of(client, made).PixelData == PIXELS


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("pixels", "pixels"),
        ("a/b/c", "a/b/c"),
        ("http://example.org/x?y=z", "http://example.org/x?y=z"),
        ("http://example.org/x", "<http://example.org/x>"),
        ("<pixels>", "pixels"),
        ("a b", "a%20b"),
        ("a%20b", "a b"),
        ("%E4%BD%93", "%e4%bd%93"),
        ("./pixels", "pixels"),
        ("urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",) * 2,
        ("../studies/x/bulkdata/1", "x/bulkdata/1"),
    ],
)
def test_bulk_data_is_found_however_its_location_is_written(client, uri, location):
    made = image(_7FE00010={"vr": "OB", "BulkDataURI": uri})
    response = send(client, made, bulk(location, PIXELS), path="/studies/")
    if response.status_code == 404:
        response = send(client, made, bulk(location, PIXELS))
    assert response.status_code == 200
    assert part10_of(client, made).PixelData == PIXELS


def test_an_absolute_uri_finds_a_relative_location(client):
    uri = f"{client.base_url}studies/bulk/1"
    made = image(_7FE00010={"vr": "OB", "BulkDataURI": uri})
    assert send(client, made, bulk("bulk/1", PIXELS)).status_code == 200


def test_a_content_id_is_found_by_its_cid(client):
    made = image(_7FE00010={"vr": "OB", "BulkDataURI": "cid:a@b"})
    headers = {"Content-Type": "application/octet-stream", "Content-ID": "<a@b>"}
    assert send(client, made, (headers, PIXELS)).status_code == 200


@BOTH
def test_bulk_data_may_be_nested_and_of_any_vr(client, kind):
    nested = {"00420011": {"vr": "OB", "BulkDataURI": "inner"}}
    made = dataset(
        _00091010={"vr": "OW", "BulkDataURI": "words"},
        _00090010={"vr": "LO", "Value": ["OURS"]},
        _00281201={"vr": "OW", "BulkDataURI": "palette"},
        _0040A160={"vr": "UT", "BulkDataURI": "text"},
        _00409210={"vr": "SQ", "Value": [{}, nested]},
    )
    response = send(
        client,
        made,
        bulk("inner", b"abc"),
        bulk("text", "naïve".encode()),
        bulk("words", b"\1\0\2\0"),
        bulk("palette", b"\1\2" * 600),
        kind=kind,
    )
    assert response.status_code == 200
    stored = part10_of(client, made)
    assert stored[0x00091010].value == b"\1\0\2\0"
    assert stored.RedPaletteColorLookupTableData == b"\1\2" * 600
    assert stored[0x00409210].value[1][0x00420011].value == b"abc\0"
    assert len(stored[0x00409210].value) == 2
    assert stored[0x0040A160].value == "naïve"


@BOTH
def test_a_document_is_the_part_of_its_mime_type(client, kind):
    made = dataset(ENCAPSULATED_PDF, _00420011={"vr": "OB", "BulkDataURI": "report"})
    response = send(client, made, bulk("report", b"%PDF-1.7 odd", "application/pdf"), kind=kind)
    assert response.status_code == 200
    stored = part10_of(client, made)
    assert stored.EncapsulatedDocument == b"%PDF-1.7 odd"
    assert stored.MIMETypeOfEncapsulatedDocument == "application/pdf"


def test_a_document_of_odd_length_keeps_its_length(client):
    made = dataset(ENCAPSULATED_PDF, _00420011={"vr": "OB", "BulkDataURI": "report"})
    assert send(client, made, bulk("report", b"%PDF-", "application/pdf")).status_code == 200
    stored = part10_of(client, made)
    assert stored.EncapsulatedDocument == b"%PDF-\0"
    assert stored.EncapsulatedDocumentLength == 5


@BOTH
def test_binary_values_may_stand_in_the_metadata(client, kind):
    made = image(_7FE00010={"vr": "OB", "InlineBinary": inline(PIXELS)})
    assert send(client, made, kind=kind).status_code == 200
    assert part10_of(client, made).PixelData == PIXELS


VALUES = {
    "00080005": ("CS", ["ISO_IR 192"]),
    "00080020": ("DA", ["20240229"]),
    "00080030": ("TM", ["235959.123456"]),
    "0008002A": ("DT", ["20240229235959+0100"]),
    "00080008": ("CS", ["DERIVED", "SECONDARY", None, "X"]),
    "00081190": ("UR", ["https://example.org/a?b=c"]),
    "00100010": ("PN", [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎",
                         "Phonetic": "やまだ^たろう"}]),
    "00101010": ("AS", ["042Y"]),
    "00104000": ("LT", ["line\r\nline \\ back"]),
    "00180050": ("DS", [1.25]),
    "00181150": ("IS", [7]),
    "00189073": ("FD", [1.0e-300]),
    "00189087": ("FD", [0.5]),
    "00200032": ("DS", [-1.5, 2, 3.25]),
    "00281056": ("CS", ["LINEAR"]),
    "00280009": ("AT", ["00181063"]),
    "00281101": ("US", [256, 0, 16]),
    "00286022": ("IS", [1, 2, 3]),
    "00720066": ("AE", ["X"]),
    "0072006C": ("LO", ["ä", "ö"]),
    "00720070": ("UT", ["long"]),
    "00720074": ("FD", [1.5]),
    "00720076": ("FL", [0.25, -2.0]),
    "00720078": ("UL", [4294967295]),
    "0072007A": ("US", [65535]),
    "0072007C": ("SL", [-2147483648]),
    "0072007E": ("SS", [-32768]),
    "00720082": ("SV", ["-9223372036854775808"]),
    "00720083": ("UV", ["18446744073709551615"]),
    "0008010D": ("UI", ["1.2.3"]),
    "00120010": ("LO", []),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("tag", VALUES)
def test_every_value_comes_back_as_it_was_sent(client, kind, tag):
    vr, values = VALUES[tag]
    element = {"vr": vr, "Value": values} if values else {"vr": vr}
    made = dataset(**{f"_{tag}": element})
    response = send(client, made, kind=kind)
    assert response.status_code == 200
    assert metadata_of(client, made)[tag] == element


@BOTH
def test_all_of_the_metadata_comes_back(client, kind):
    made = dataset(
        **{
            f"_{t}": {"vr": vr, "Value": v} if v else {"vr": vr}
            for t, (vr, v) in VALUES.items()
        },
        _00400275={
            "vr": "SQ",
            "Value": [{"00400007": {"vr": "LO", "Value": ["é"]}}, {"00321060": {"vr": "LO"}}],
        },
        _00091001={"vr": "UN", "InlineBinary": "AAE="},
        _00090010={"vr": "LO", "Value": ["OURS"]},
        _00089215={"vr": "SQ"},
    )
    assert send(client, made, kind=kind).status_code == 200
    assert metadata_of(client, made) == dict(sorted(made.items()))


def test_text_is_stored_as_utf_8_and_says_so(client):
    made = dataset(_00100010={"vr": "PN", "Value": [{"Alphabetic": "Müller"}]})
    assert send(client, made).status_code == 200
    stored = part10_of(client, made)
    assert stored.SpecificCharacterSet == "ISO_IR 192"
    assert stored.PatientName == "Müller"


@pytest.mark.parametrize("term", ["ISO_IR 100", "ISO 2022 IR 87"])
def test_another_character_set_in_the_metadata_does_not_stand(client, term):
    made = dataset(
        _00080005={"vr": "CS", "Value": [term]},
        _00100010={"vr": "PN", "Value": [{"Alphabetic": "Müller"}]},
    )
    assert send(client, made).status_code == 200
    assert part10_of(client, made).SpecificCharacterSet == "ISO_IR 192"
    assert part10_of(client, made).PatientName == "Müller"


@pytest.mark.parametrize(
    "claimed", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.2", "nonsense"]
)
def test_a_transfer_syntax_that_is_not_that_of_the_pixels_does_not_stand(client, claimed):
    made = image(_00020010={"vr": "UI", "Value": [claimed]})
    assert send(client, made, bulk("pixels", PIXELS)).status_code == 200
    stored = part10_of(client, made)
    assert stored.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert stored.PixelData == PIXELS
    assert "00020010" not in metadata_of(client, made)


def test_group_lengths_are_left_out(client):
    made = dataset(_00080000={"vr": "UL", "Value": [7]})
    assert send(client, made).status_code == 200
    assert "00080000" not in metadata_of(client, made)


def test_a_large_part_goes_through_a_spool(client, archive):
    made = image(rows=4096, columns=4096)
    pixels = bytes(range(256)) * 65536
    assert send(client, made, bulk("pixels", pixels)).status_code == 200
    assert part10_of(client, made).PixelData == pixels
    assert not list((archive.config.archive.data_dir / "incoming").iterdir())


def test_the_standards_own_example_is_understood(client):
    """PS3.18 §B.23 writes attributes in upper case, and points by a Value."""
    made = image()
    text = as_xml(made).replace(b" tag=", b" Tag=").replace(b" vr=", b" VR=")
    text = text.replace(b'<BulkData uri="pixels"/>', b'<Value number="1">pixels</Value>')
    text = text.replace(b' xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM"', b"")
    body = pack([({"Content-Type": XML}, text), bulk("pixels", PIXELS)])
    assert client.post("/studies", content=body, headers=related(XML)).status_code == 200
    assert part10_of(client, made).PixelData == PIXELS


@pytest.mark.parametrize("block", ["00", "11", "10"])
def test_private_attributes_of_xml_find_their_block(client, block):
    text = as_xml(dataset()).replace(
        b"</NativeDicomModel>",
        b'<DicomAttribute tag="0009%s05" vr="LO" privateCreator="OURS"><Value number="1">x'
        b"</Value></DicomAttribute></NativeDicomModel>" % block.encode(),
    )
    response = client.post("/studies", content=text, headers={"Content-Type": XML})
    assert response.status_code == 200
    url = value(referenced(response)[0], "00081190")
    metadata = client.get(url + "/metadata").json()[0]
    used = "10" if block == "00" else block
    assert metadata[f"000900{used}"]["Value"] == ["OURS"]
    assert metadata[f"0009{used}05"]["Value"] == ["x"]


# -- what is refused ---------------------------------------------------------------------------


@BOTH
def test_bulk_data_that_is_missing_fails_its_instance_alone(client, kind):
    made = [image(), image(_7FE00010={"vr": "OB", "BulkDataURI": "nowhere"})]
    response = send(client, made, bulk("pixels", PIXELS), kind=kind)
    assert response.status_code == 202
    assert len(referenced(response)) == 1
    (item,) = failed(response)
    assert value(item, "00081155") == made[1]["00080018"]["Value"][0]
    assert "Content-Location" in texts(item)
    assert value(value(item, "00741048"), "00720026") == "7FE00010"


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "http://127.0.0.1:1/x", "/etc/passwd"])
def test_bulk_data_is_never_fetched(client, uri):
    response = send(client, image(_7FE00010={"vr": "OB", "BulkDataURI": uri}))
    assert response.status_code == 409
    assert "not fetched" in texts(failed(response)[0])


def test_bulk_data_that_nothing_points_to_is_told(client):
    response = send(client, dataset(), bulk("stray", b"x"), ({"Content-Type": "a/b"}, b"y"))
    assert response.status_code == 202
    assert len(referenced(response)) == 1
    assert len(others(response)) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[1]",
        b'"text"',
        b"null",
        b"[{}, []]",
        b"\xff\xfe",
        b'{"00080016": NaN}',
        b"[" * 100_000,
        b'{"a":' * 5000,
    ],
)
def test_json_that_is_none_is_400(client, body):
    content = pack([({"Content-Type": JSON}, body)])
    response = client.post("/studies", content=content, headers=related(JSON))
    assert response.status_code == 400
    assert "metadata" in response.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<",
        b"<a/>",
        b"<NativeDicomModel>",
        b"<NativeDicomModel><Other/></NativeDicomModel>",
        b'<NativeDicomModel><DicomAttribute vr="LO"/></NativeDicomModel>',
        b'<NativeDicomModel><DicomAttribute tag="0010" vr="LO"/></NativeDicomModel>',
        b'<NativeDicomModel><DicomAttribute tag="00100020" vr="LO"><Value number="0">x</Value>'
        b"</DicomAttribute></NativeDicomModel>",
        b'<NativeDicomModel><DicomAttribute tag="00100020" vr="LO"><Value number="999999">x'
        b"</Value></DicomAttribute></NativeDicomModel>",
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><NativeDicomModel/>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><NativeDicomModel/>',
        b'<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]><NativeDicomModel>&x;'
        b"</NativeDicomModel>",
        b'<?xml version="1.0" encoding="nonsense"?><NativeDicomModel/>',
        b"<NativeDicomModel>" + b'<DicomAttribute tag="00081140" vr="SQ"><Item>' * 5000,
    ],
)
def test_xml_that_is_none_is_400(client, body):
    content = pack([({"Content-Type": XML}, body)])
    response = client.post("/studies", content=content, headers=related(XML))
    assert response.status_code == 400
    assert "metadata" in response.json()["detail"]


@pytest.mark.parametrize(
    ("tag", "element"),
    [
        ("00100020", {}),
        ("00100020", {"Value": ["x"]}),
        ("00100020", {"vr": "XX", "Value": ["x"]}),
        ("00100020", {"vr": 7}),
        ("00100020", {"vr": "LO", "Value": "x"}),
        ("00100020", {"vr": "LO", "Value": [{}]}),
        ("00100020", {"vr": "LO", "Value": [[]]}),
        ("00100020", {"vr": "LO", "Value": [True]}),
        ("00100010", {"vr": "PN", "Value": [{"Other": "x"}]}),
        ("00100010", {"vr": "PN", "Value": [7]}),
        ("00280010", {"vr": "US", "Value": ["x"]}),
        ("00280010", {"vr": "US", "Value": [65536]}),
        ("00280010", {"vr": "US", "Value": [-1]}),
        ("00280010", {"vr": "US", "Value": [1.5]}),
        ("00280010", {"vr": "US", "Value": [None]}),
        ("00189087", {"vr": "FD", "Value": ["x"]}),
        ("00720076", {"vr": "FL", "Value": [1e300]}),
        ("00280009", {"vr": "AT", "Value": ["x"]}),
        ("00081140", {"vr": "SQ", "Value": ["x"]}),
        ("00081140", {"vr": "SQ", "Value": {}}),
        ("00081140", {"vr": "SQ", "BulkDataURI": "x"}),
        ("7FE00010", {"vr": "OB", "Value": ["x"]}),
        ("7FE00010", {"vr": "OB", "InlineBinary": "***"}),
        ("7FE00010", {"vr": "OB", "InlineBinary": 7}),
        ("7FE00010", {"vr": "OB", "BulkDataURI": 7}),
        ("7FE00010", {"vr": "OB", "BulkDataURI": ""}),
        ("7FE00010", {"vr": "OB", "InlineBinary": "AA==", "BulkDataURI": "x"}),
        ("PatientID", {"vr": "LO", "Value": ["x"]}),
        ("0010002", {"vr": "LO", "Value": ["x"]}),
        ("FFFEE000", {"vr": "LO", "Value": ["x"]}),
        ("00100020", []),
        ("00100020", None),
    ],
)
def test_an_attribute_that_is_not_of_the_model_fails_its_instance(client, tag, element):
    made = dataset()
    made[tag] = element
    response = send(client, [made, dataset()])
    assert response.status_code == 202
    (item,) = failed(response)
    assert value(item, "00081155") == made["00080018"]["Value"][0]
    assert 0xC000 <= value(item, "00081197") <= 0xCFFF
    if len(tag) == 8 and tag != "FFFEE000":
        assert value(value(item, "00741048"), "00720026") == tag
    assert len(referenced(response)) == 1


def test_an_attribute_that_is_not_of_the_model_leaves_nothing(client, archive):
    made = image(rows=4096, columns=4096, _7FE10010={"vr": "XX"})
    assert send(client, made, bulk("pixels", bytes(1 << 24))).status_code == 409
    assert instances(archive) == 0
    assert not list((archive.config.archive.data_dir / "incoming").iterdir())


@pytest.mark.parametrize("tag", ["00080016", "00080018", "0020000D", "0020000E"])
@BOTH
def test_a_data_set_without_an_identifier_fails(client, tag, kind):
    made = dataset()
    del made[tag]
    response = send(client, made, kind=kind)
    assert response.status_code == 409
    (item,) = failed(response) or others(response)
    assert value(value(item, "00741048"), "00720026") == tag


@BOTH
def test_metadata_of_another_study_than_the_url_fails(client, kind):
    response = send(client, dataset(), kind=kind, path="/studies/1.2.3")
    assert response.status_code == 409
    assert value(failed(response)[0], "00081197") == 0xA901


def test_a_number_for_a_text_is_kept_and_told(client):
    made = dataset(_00100020={"vr": "LO", "Value": [42]})
    response = send(client, made)
    assert response.status_code == 202
    (item,) = referenced(response)
    assert value(item, "00081196") == 0xB000
    assert value(value(item, "00741048"), "00720026") == "00100020"
    assert metadata_of(client, made)["00100020"]["Value"] == ["42"]


def test_elements_of_a_command_are_left_out_and_told(client):
    response = send(client, dataset(_00000100={"vr": "US", "Value": [1]}))
    assert response.status_code == 202
    assert value(referenced(response)[0], "00081196") == 0xB006


def test_a_body_that_breaks_off_stores_nothing(client, archive):
    body = pack([*metadata_parts([image()]), bulk("pixels", PIXELS)])[:-30]
    response = client.post("/studies", content=body, headers=related(JSON))
    assert response.status_code == 400
    assert instances(archive) == 0
    assert not list((archive.config.archive.data_dir / "incoming").iterdir())


def test_a_body_of_bulk_data_alone_is_400(client):
    body = pack([bulk("pixels", PIXELS)])
    assert client.post("/studies", content=body, headers=related(JSON)).status_code == 400


def test_sequences_nested_too_deep_fail_their_instance(client):
    inner: dict = {}
    for _ in range(80):
        inner = {"00081140": {"vr": "SQ", "Value": [inner]}}
    response = send(client, dataset() | inner)
    assert response.status_code == 409
    assert "deep" in texts(failed(response)[0])


# -- the answer --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [JSON, XML, "application/dicom"])
def test_the_answer_may_be_xml(client, kind):
    accept = {"Accept": XML}
    if kind == "application/dicom":
        response = post(client, ct(), headers=accept)
    else:
        response = send(client, dataset(), kind=kind, headers=accept)
    assert response.status_code == 200
    assert response.headers["content-type"] == XML
    assert b"NativeDicomModel" in response.content
    assert b'tag="00081199"' in response.content
    assert b'keyword="RetrieveURL"' in response.content


def test_an_instance_stored_twice_is_one(client, archive):
    made = image()
    for _ in range(2):
        response = send(client, made, bulk("pixels", PIXELS))
        assert response.status_code == 200
    assert "stored already" in response.headers["warning"]
    assert instances(archive) == 1
    assert path_of(made) in value(referenced(response)[0], "00081190")


def test_pydicoms_json_is_stored(client):
    original = pydicom.dcmread(pydicom.filebase.DicomBytesIO(copies(1)[0]))
    found: list[bytes] = []

    def handler(element):
        found.append(element.value)
        return f"bulk/{len(found)}"

    made = original.to_json_dict(bulk_data_threshold=1024, bulk_data_element_handler=handler)
    parts = [bulk(f"bulk/{n}", raw) for n, raw in enumerate(found, 1)]
    response = send(client, made, *parts)
    assert response.status_code == 200
    assert part10_of(client, made).PixelData == original.PixelData
