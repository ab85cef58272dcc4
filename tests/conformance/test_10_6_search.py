"""The search transaction (PS3.18 §10.6): resources, what is returned, pages, media types."""

import csv
import email
import email.policy
import io
import xml.etree.ElementTree as ET

import orjson
import pytest

from tests.builders import dataset, item, part10
from tests.conftest import http_client, make_config, running_archive, store

NAMESPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"

# PS3.18 Tables 10.6.3-3, -4 and -5: what is there must be returned unasked.
STUDY_TAGS = [
    "00080005", "00080020", "00080030", "00080050", "00080056", "00080061", "00080090",
    "00081190", "00100010", "00100020", "00100030", "00100040", "0020000D", "00200010",
    "00201206", "00201208",
]  # fmt: skip
SERIES_TAGS = [
    "00080005", "00080056", "00080060", "0008103E", "00081190", "0020000E", "00200011",
    "00201209", "00400244", "00400245", "00400275",
]  # fmt: skip
INSTANCE_TAGS = [
    "00080005", "00080016", "00080018", "00080056", "00081190", "00083002", "00200013",
    "00280010", "00280011", "00280100", "00280008",
]  # fmt: skip


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A client of an archive with 25 studies of two series, the first of two instances."""
    config = make_config(tmp_path_factory.mktemp("shelf") / "data")
    with running_archive(config) as archive, http_client(archive) as client:
        for number in range(1, 26):
            study = f"1.2.{number}"
            for series, instance in ((1, 1), (1, 2), (2, 1)):
                store(
                    archive,
                    part10(
                        dataset(
                            study,
                            f"{study}.{series}",
                            f"{study}.{series}.{instance}",
                            PatientName=f"Name{number % 5}^X",
                            PatientID=f"P{number % 5}",
                            PatientBirthDate="19700101",
                            PatientSex="O",
                            StudyDate=f"202401{1 + number % 7:02}",
                            StudyTime="101010",
                            StudyID=f"S{number}",
                            AccessionNumber=f"A{number:03}",
                            StudyDescription="=1+1" if number == 1 else f"Study {number}",
                            ReferringPhysicianName="Ref^Er",
                            Modality="CT" if series == 1 else "SR",
                            SeriesNumber=series,
                            SeriesDescription=f"Series {series}",
                            PerformedProcedureStepStartDate="20240101",
                            PerformedProcedureStepStartTime="101010",
                            InstanceNumber=instance,
                            Rows=4,
                            Columns=6,
                            BitsAllocated=16,
                            NumberOfFrames=3,
                            SliceThickness="1.5",
                            PatientWeight="70",
                            RequestAttributesSequence=[item(ScheduledProcedureStepID="X")],
                        )
                    ),
                )
        yield client


def values(match, tag):
    return match[tag].get("Value")


@pytest.mark.parametrize(
    ("resource", "count", "total"),
    [
        ("/studies", 25, 25),
        ("/series", 50, 50),
        ("/instances", 75, 75),
        ("/studies/1.2.7/series", 2, 2),
        ("/studies/1.2.7/instances", 3, 3),
        ("/studies/1.2.7/series/1.2.7.1/instances", 2, 2),
        ("/studies/1.2.7/series/1.2.8.1/instances", 0, 0),
        ("/studies/1.2.999/series", 0, 0),
        ("/patients", 5, 5),
    ],
)
def test_every_resource_answers_200_with_what_it_holds(shelf, resource, count, total):
    response = shelf.get(f"{resource}?count=true")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    assert len(response.json()) == count
    assert response.headers["x-total-count"] == str(total)


def test_no_match_is_200_and_an_empty_array(shelf):
    response = shelf.get("/studies?PatientID=nobody")
    assert (response.status_code, response.content) == (200, b"[]")


@pytest.mark.parametrize("resource", ["/studies", "/series", "/instances", "/patients"])
def test_head_tells_what_get_would_without_a_body(shelf, resource):
    got, head = shelf.get(resource), shelf.head(resource)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("content-type", "content-length", "etag", "vary"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    ("resource", "tags"),
    [
        ("/studies?limit=3", STUDY_TAGS),
        ("/studies/1.2.7/series", SERIES_TAGS),
        ("/studies/1.2.7/series/1.2.7.1/instances", INSTANCE_TAGS),
        ("/studies/1.2.7/instances", [*INSTANCE_TAGS, *SERIES_TAGS]),
        ("/series?limit=3", [*SERIES_TAGS, *STUDY_TAGS]),
        ("/instances?limit=3", [*INSTANCE_TAGS, *SERIES_TAGS, *STUDY_TAGS]),
    ],
)
def test_the_attributes_of_the_tables_are_returned(shelf, resource, tags):
    for match in shelf.get(resource).json():
        assert set(tags) <= set(match)
        assert list(match) == sorted(match)
        assert values(match, "00080005") == ["ISO_IR 192"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A client of an archive with one instance that says next to nothing, and one of a zone."""
    config = make_config(tmp_path_factory.mktemp("bare") / "data")
    with running_archive(config) as archive, http_client(archive) as client:
        nothing = dataset("1.3", "1.3.1", "1.3.1.1")
        for keyword in ("PatientName", "PatientID", "Modality"):
            delattr(nothing, keyword)
        store(archive, part10(nothing))
        zoned = dataset("1.4", "1.4.1", "1.4.1.1", TimezoneOffsetFromUTC="+0100")
        block = zoned.private_block(0x0099, "FILEROOM TEST", create=True)
        block.add_new(0x01, "LO", "secret")
        block.add_new(0x02, "SQ", [item(PatientComments="x")])
        store(archive, part10(zoned))
        yield client


REQUIRED_OF_STUDY = [
    "00080020", "00080030", "00080050", "00080090", "00100010", "00100020", "00100030",
    "00100040", "00200010",
]  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "tags"),
    [
        ("/studies?StudyInstanceUID=1.3", REQUIRED_OF_STUDY),
        ("/studies/1.3/series", ["00080060", "00200011"]),
        ("/series?Modality=&SOPClassUID=&orderby=SeriesNumber", REQUIRED_OF_STUDY),
        ("/studies/1.3/instances", ["00080060", "00200011"]),
        ("/instances?orderby=SeriesNumber", [*REQUIRED_OF_STUDY, "00080060", "00200011"]),
    ],
)
def test_what_is_required_and_unknown_is_returned_empty(bare, resource, tags):
    (match,) = (m for m in bare.get(resource).json() if values(m, "0020000D") == ["1.3"])
    assert {tag: len(match[tag]) for tag in tags} == dict.fromkeys(tags, 1)
    assert "00080061" not in match


@pytest.mark.parametrize("resource", ["/studies", "/series", "/instances"])
def test_the_zone_is_returned_at_every_level(bare, resource):
    (match,) = bare.get(f"{resource}?StudyInstanceUID=1.4").json()
    assert values(match, "00080201") == ["+0100"]


@pytest.mark.parametrize("tag", ["00991001", "00991002", "00991002.00104000"])
@pytest.mark.parametrize("resource", ["/studies", "/series", "/instances"])
@pytest.mark.parametrize("name", ["includefield={}", "{}=*"])
def test_a_private_field_comes_with_its_creator(bare, resource, name, tag):
    (match,) = bare.get(f"{resource}?StudyInstanceUID=1.4&{name.format(tag)}").json()
    assert list(match) == sorted(match)
    assert values(match, "00990010") == ["FILEROOM TEST"]
    assert values(match, tag[:8])


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("limit=7", "There are 18 additional results that can be requested"),
        ("limit=7&offset=14", "There are 4 additional results that can be requested"),
        ("Modality=CT&limit=24", "There are 1 additional results that can be requested"),
        ("PatientWeight=70&limit=7", "There are additional results that can be requested"),
    ],
)
def test_a_warning_says_how_many_results_remain(shelf, query, text):
    response = shelf.get(f"/studies?{query}")
    assert response.headers["warning"] == f'299 {shelf.base_url.netloc.decode()} "{text}"'


def test_a_match_has_the_value_it_was_found_by_where_instances_disagree(client, archive):
    for number, name in enumerate(("First", "Other"), 1):
        made = dataset(
            "1.5", "1.5.1", f"1.5.1.{number}", PatientName=name, SeriesDescription=name,
            SliceThickness=number, InstanceNumber=number,
        )  # fmt: skip
        store(archive, part10(made))
    asked = "PatientName=First&SeriesDescription=First&includefield=SliceThickness"
    for resource in (
        "/instances",
        "/studies/1.5/instances",
        "/studies/1.5/series/1.5.1/instances",
    ):
        matches = client.get(f"{resource}?{asked}").json()
        assert [values(m, "00100010") for m in matches] == [[{"Alphabetic": "First"}]] * 2
        assert [values(m, "0008103E") for m in matches] == [["First"]] * 2
        assert [values(m, "00180050") for m in matches] == [[1], [2]]
        assert client.get(f"{resource}?PatientName=Other").json() == []
    everything = client.get("/instances?includefield=all").json()
    assert [values(m, "00100010") for m in everything] == [[{"Alphabetic": "First"}]] * 2


def test_a_study_does_not_have_the_modality_of_one_series(shelf):
    for match in shelf.get("/studies?ModalitiesInStudy=SR").json():
        assert "00080060" not in match
        assert values(match, "00080061") == ["CT", "SR"]


def test_counts_and_links_are_right(shelf):
    (study,) = shelf.get("/studies?StudyInstanceUID=1.2.7").json()
    assert values(study, "00201206") == [2]
    assert values(study, "00201208") == [3]
    assert values(study, "00081190") == [f"{shelf.base_url}studies/1.2.7"]
    series = shelf.get("/studies/1.2.7/series").json()
    assert [values(match, "00201209") for match in series] == [[2], [1]]
    instance = shelf.get("/studies/1.2.7/series/1.2.7.1/instances").json()[0]
    url = values(instance, "00081190")[0]
    assert shelf.get(f"{url}/metadata").status_code == 200


def test_a_parent_that_is_named_is_not_repeated(shelf):
    match = shelf.get("/studies/1.2.7/series").json()[0]
    assert values(match, "0020000D") == ["1.2.7"]
    assert "00100010" not in match


@pytest.mark.parametrize(
    "field",
    [
        "PatientWeight",
        "00101030",
        "patientweight,PatientWeight",
        "StudyDescription,PatientWeight",
        "PatientWeight%2CStudyDescription",
    ],
)
def test_a_field_that_is_asked_for_is_returned(shelf, field):
    (match,) = shelf.get(f"/studies?StudyInstanceUID=1.2.7&includefield={field}").json()
    assert values(match, "00101030") == [70]


def test_fields_may_be_repeated_and_known_ones_without_value_are_empty(shelf):
    query = "includefield=StudyDescription&includefield=PatientComments"
    (match,) = shelf.get(f"/studies?StudyInstanceUID=1.2.7&{query}").json()
    assert values(match, "00081030") == ["Study 7"]
    assert match["00104000"] == {"vr": "LT"}


@pytest.mark.parametrize("field", ["00080060", "SliceThickness", "Rows", "NumberOfFrames"])
def test_a_field_of_a_lower_level_is_tolerated(shelf, field):
    response = shelf.get(f"/studies?limit=1&includefield={field}")
    assert response.status_code == 200
    assert len(response.json()) == 1
    assert "warning" not in response.headers or field not in response.headers["warning"]


def test_a_field_of_a_higher_level_is_returned(shelf):
    match = shelf.get("/studies/1.2.7/series?includefield=PatientName").json()[0]
    assert values(match, "00100010") == [{"Alphabetic": "Name2^X"}]


def test_a_sequence_can_be_included_whole_or_by_a_path(shelf):
    for field in ("RequestAttributesSequence", "00400275.00400009"):
        match = shelf.get(f"/studies/1.2.7/series?includefield={field}").json()[0]
        assert values(match, "00400275") == [{"00400009": {"vr": "SH", "Value": ["X"]}}]


@pytest.mark.parametrize("word", ["all", "ALL"])
def test_all_returns_everything_of_the_level(shelf, word):
    url = f"/studies/1.2.7/series/1.2.7.1/instances?includefield={word}"
    match = shelf.get(url).json()[0]
    assert {"00180050", "00101030", "00081030", "00280010", "00080060"} <= set(match)
    assert "00101030" in shelf.get(f"/studies?limit=1&includefield={word}").json()[0]


def test_a_key_that_matches_is_returned(shelf):
    match = shelf.get("/studies/1.2.7/series/1.2.7.1/instances?SliceThickness=1.5").json()[0]
    assert values(match, "00180050") == [1.5]


def test_an_unknown_field_is_passed_over_with_a_warning(shelf):
    response = shelf.get("/studies?limit=1&includefield=NoSuchField")
    assert "NoSuchField" in str(response.headers.get_list("warning"))


@pytest.mark.parametrize("field", ["*", "", ",", "%20"])
def test_a_field_that_names_nothing_is_passed_over(shelf, field):
    response = shelf.get(f"/studies?limit=25&includefield={field}")
    assert len(response.json()) == 25
    assert "warning" not in response.headers


# -- pages -------------------------------------------------------------------------------------


def uids(response):
    return [values(match, "0020000D")[0] for match in response.json()]


@pytest.mark.parametrize("query", ["", "StudyDescription=*", "PatientWeight=70", "Modality=CT"])
def test_pages_put_together_are_the_whole_in_a_stable_order(shelf, query):
    whole = uids(shelf.get(f"/studies?{query}&limit=100"))
    assert len(set(whole)) == 25
    pages = []
    for offset in range(0, 30, 7):
        response = shelf.get(f"/studies?{query}&limit=7&offset={offset}")
        more = "additional results" in str(response.headers.get_list("warning"))
        assert more == (offset + 7 < 25)
        pages += uids(response)
    assert pages == whole


@pytest.mark.parametrize(
    ("limit", "count"), [("0", 0), ("1", 1), ("25", 25), ("26", 25), ("99999999", 25), ("", 25)]
)
def test_a_limit_is_kept(shelf, limit, count):
    assert len(shelf.get(f"/studies?limit={limit}").json()) == count


def test_an_offset_behind_the_end_is_empty(shelf):
    assert shelf.get("/studies?offset=1000").json() == []
    assert shelf.get("/studies?offset=9999999999999").json() == []


def test_newest_studies_come_first_and_series_by_number(shelf):
    dates = [values(m, "00080020")[0] for m in shelf.get("/studies").json()]
    assert dates == sorted(dates, reverse=True)
    numbers = [values(m, "00200011")[0] for m in shelf.get("/studies/1.2.7/series").json()]
    assert numbers == [1, 2]


@pytest.mark.parametrize(
    ("order", "tag", "reverse"),
    [
        ("AccessionNumber", "00080050", False),
        ("-AccessionNumber", "00080050", True),
        ("StudyDate,-AccessionNumber", "00080020", False),
        ("PatientID,StudyDate", "00100020", False),
    ],
)
@pytest.mark.parametrize("query", ["", "PatientWeight=70&"])
def test_matches_can_be_sorted(shelf, query, order, tag, reverse):
    found = [values(m, tag)[0] for m in shelf.get(f"/studies?{query}orderby={order}").json()]
    assert len(found) == 25
    assert found == sorted(found, reverse=reverse)


@pytest.mark.parametrize(
    ("resource", "count"),
    [
        ("/studies/count", 25),
        ("/series/count?Modality=CT", 25),
        ("/instances/count?PatientWeight=70", 75),
        ("/studies/count?PatientID=P1", 5),
    ],
)
def test_matches_can_be_counted(shelf, resource, count):
    assert shelf.get(resource).json() == {"count": count}


# -- media types -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/dicom+json"),
        ("*/*", "application/dicom+json"),
        ("application/*", "application/dicom+json"),
        ("application/dicom+json", "application/dicom+json"),
        ("application/dicom+json; charset=utf-8", "application/dicom+json"),
        ("application/json", "application/json"),
        ("text/html, application/json;q=0.9", "application/json"),
        ("image/png, */*;q=0.1", "application/dicom+json"),
        ('multipart/related; type="application/dicom+json"', "application/dicom+json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/csv", "text/csv"),
        ('multipart/related; type="application/dicom+xml"', "multipart/related"),
        ("multipart/related; type=application/dicom+xml", "multipart/related"),
        ("multipart/related", "multipart/related"),
        (
            'multipart/related; type="application/dicom+xml", application/dicom+json;q=0.5',
            "multipart/related",
        ),
    ],
)
def test_the_media_type_that_is_accepted_is_sent(shelf, accept, content_type):
    headers = {} if accept is None else {"Accept": accept}
    response = shelf.get("/studies?limit=2", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == content_type


@pytest.mark.parametrize(
    "accept", ["image/png", "application/dicom", "application/dicom+json;q=0"]
)
def test_what_cannot_be_sent_is_406_with_what_can(shelf, accept):
    response = shelf.get("/studies", headers={"Accept": accept})
    assert response.status_code == 406
    assert "application/dicom+json" in response.json()["detail"]


def test_the_accept_parameter_wins(shelf):
    response = shelf.get(
        "/studies?accept=text/csv", headers={"Accept": "application/dicom+json"}
    )
    assert response.headers["content-type"].startswith("text/csv")


def test_xml_has_a_part_for_each_match_with_the_same_content(shelf):
    accept = 'multipart/related; type="application/dicom+xml"'
    response = shelf.get("/studies?limit=3", headers={"Accept": accept})
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content, policy=email.policy.HTTP)
    parts = list(message.iter_parts())
    matches = shelf.get("/studies?limit=3").json()
    assert len(parts) == len(matches) == 3
    for part, match in zip(parts, matches, strict=True):
        assert part.get_content_type() == "application/dicom+xml"
        root = ET.fromstring(part.get_payload(decode=True))
        assert root.tag == NAMESPACE + "NativeDicomModel"
        assert [attribute.get("tag") for attribute in root] == list(match)
        uid = root.find(f"{NAMESPACE}DicomAttribute[@tag='0020000D']/{NAMESPACE}Value")
        assert uid.text == values(match, "0020000D")[0]


def test_ndjson_is_a_match_a_line(shelf):
    lines = shelf.get(
        "/studies", headers={"Accept": "application/x-ndjson"}
    ).content.splitlines()
    assert [orjson.loads(line) for line in lines] == shelf.get("/studies").json()


def test_csv_names_attributes_and_starts_no_formula(shelf):
    response = shelf.get(
        "/studies?includefield=StudyDescription", headers={"Accept": "text/csv"}
    )
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert len(rows) == 25
    row = next(row for row in rows if row["StudyInstanceUID"] == "1.2.1")
    assert row["PatientName"] == "Name1^X"
    assert row["ModalitiesInStudy"] == "CT\\SR"
    assert row["NumberOfStudyRelatedInstances"] == "3"
    assert row["StudyDescription"] == "'=1+1"


def test_an_answer_that_is_known_is_not_sent_again(shelf):
    first = shelf.get("/studies")
    again = shelf.get("/studies", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    other = shelf.get("/studies?limit=1", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


def test_what_viewers_ask_for_a_list(shelf):
    query = (
        "limit=101&offset=0&fuzzymatching=false"
        "&includefield=00081030%2C00080060%2C00080090%2C00100030"
    )
    response = shelf.get(
        f"/studies?{query}&PatientName=*name1*&00100020=*P*&AccessionNumber=*A*"
    )
    assert response.status_code == 200
    assert "warning" not in response.headers
    assert len(response.json()) == 5
