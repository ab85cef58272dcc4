"""Attribute matching by QIDO-RS (PS3.18 §8.3.4.1, PS3.4 §C.2.2.2): what a key finds."""

import pytest
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from archive.config import IndexSection
from tests.builders import dataset, item, part10
from tests.conftest import http_client, make_config, new_database, running_archive, store

UID = "1.2.3.{}"


def _studies():
    """Yield each study's letter and the data sets of its instances."""
    yield "a", [
        dataset(
            UID.format(1), UID.format("1.1"), UID.format("1.1.1"),
            SpecificCharacterSet="ISO_IR 192",
            PatientName="Smith^John^Q", PatientID="A-100", PatientBirthDate="19700101",
            PatientSex="M", StudyDate="20240101", StudyTime="083000", StudyID="S1",
            AccessionNumber="ACC1", StudyDescription="CT Chest 100%", Modality="CT",
            ReferringPhysicianName="House^Gregory", PatientAge="054Y", PatientWeight="70.5",
            SliceThickness="1.25", KVP="120", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            AcquisitionDate="20240101", AcquisitionTime="084500",
            AcquisitionDateTime="20240101084500.5+0100", OperatorsName="Jones^Mary",
            StationName="CT_1", InstitutionName="St. Élise", PatientComments="left\\right",
            RequestAttributesSequence=Sequence([
                item(ScheduledProcedureStepID="SPS1", RequestedProcedureID="RP1"),
                item(ScheduledProcedureStepID="SPS2", RequestedProcedureID="RP2"),
            ]),
            ProcedureCodeSequence=Sequence([
                item(CodeValue="CTCH", CodingSchemeDesignator="99X", CodeMeaning="Chest CT")
            ]),
        ),
        dataset(
            UID.format(1), UID.format("1.2"), UID.format("1.2.1"),
            PatientName="Smith^John^Q", PatientID="A-100", StudyDate="20240101",
            StudyTime="083000", AccessionNumber="ACC1", Modality="SR", SeriesNumber=2,
        ),
    ]  # fmt: skip
    yield "b", [
        dataset(
            UID.format(2), UID.format("2.1"), UID.format(f"2.1.{number}"),
            PatientName="Smyth^Jon", PatientID="a-100", StudyDate="20240131",
            StudyTime="235959.5", AccessionNumber="ACC2", StudyDescription="mr head",
            Modality="MR", SliceThickness="5", InstanceNumber=number,
            ContentDate="20240201", ContentTime=f"0{number}0000",
            ImageComments=f"slice {number}", ImageType=["DERIVED", "SECONDARY"],
        )
        for number in (1, 2, 3)
    ]  # fmt: skip
    japanese = dataset(
        UID.format(3), UID.format("3.1"), UID.format("3.1.1"),
        SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        PatientID="J_1", StudyDate="20231231", StudyTime="10", AccessionNumber="",
        StudyDescription="Müller_[x]*", Modality="US", SliceThickness="",
    )  # fmt: skip
    block = japanese.private_block(0x0099, "FILEROOM TEST", create=True)
    block.add_new(0x01, "LO", "secret")
    block.add_new(0x02, "DS", "42.5")
    block.add_new(0x03, "TM", "122538")
    block.add_new(0x04, "DA", "20240229")
    block.add_new(0x05, "DT", "20240229122538+0100")
    yield "c", [japanese]
    yield "d", [
        dataset(
            UID.format(4), UID.format("4.1"), UID.format("4.1.1"), PatientName="",
            PatientID="", Modality="CR", TimezoneOffsetFromUTC="+0200",
            SeriesDate="20240101", SeriesTime="003000", BodyPartExamined="HEAD",
        ),
        dataset(
            UID.format(4), UID.format("4.2"), UID.format("4.2.1"), PatientName="",
            PatientID="", Modality="CT", BodyPartExamined="CHEST",
            FrameIncrementPointer=Tag(0x00181063), NumberOfFrames=2,
        ),
    ]  # fmt: skip


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)],
)
def shelf(request, tmp_path_factory):
    """A client of an archive that holds studies a, b, c and d, on either database."""
    index = IndexSection()
    if request.param == "postgresql":
        index = IndexSection(url=new_database(request.getfixturevalue("postgres_cluster")))
    config = make_config(tmp_path_factory.mktemp("shelf") / "data", index=index)
    with running_archive(config) as archive, http_client(archive) as client:
        letters = {}
        for letter, instances in _studies():
            for made in instances:
                letters[str(made.StudyInstanceUID)] = letter
                store(archive, part10(made))
        client.letters = letters
        yield client


def found(shelf, query: str, resource: str = "/studies") -> str:
    response = shelf.get(f"{resource}?{query}")
    assert response.status_code == 200, response.text
    assert "Not matched" not in response.headers.get("warning", "")
    letters = [shelf.letters[match["0020000D"]["Value"][0]] for match in response.json()]
    return "".join(sorted(letters))


CASES = [
    # single value (§C.2.2.2.1)
    ("PatientID=A-100", "a"),
    ("PatientID=a-100", "b"),
    ("00100020=A-100", "a"),
    ("PatientID=A", ""),
    ("AccessionNumber=ACC2", "b"),
    ("StudyID=S1", "a"),
    ("PatientSex=M", "a"),
    ("PatientAge=054Y", "a"),
    ("StudyDescription=CT%20Chest%20100%25", "a"),
    ("StudyDescription=ct%20chest%20100%25", "a"),
    ("StudyDescription=MR+HEAD", "b"),
    ("StationName=CT_1", "a"),
    ("InstitutionName=st.%20elise", "a"),
    # universal (§C.2.2.2.3)
    ("PatientID=", "abcd"),
    ("PatientID=*", "abcd"),
    ("SliceThickness=", "abcd"),
    ("", "abcd"),
    ("&&includefield=", "abcd"),
    # wildcards (§C.2.2.2.4): only * and ? are any
    ("PatientID=A*", "a"),
    ("PatientID=?-1*", "ab"),
    ("PatientID=*_*", "c"),
    ("PatientID=J%25", ""),
    ("StudyDescription=*100%25*", "a"),
    ("StudyDescription=*%25*", "a"),
    ("StudyDescription=*_*", "c"),
    ("StudyDescription=*[x]*", "c"),
    ("StudyDescription=*%5B*", "c"),
    ("StudyDescription=%5C*", ""),
    ("PatientID=%5C*", ""),
    ("StationName=CT?1", "a"),
    ("StationName=C*_*", "a"),
    ("InstitutionName=*lise", "a"),
    ("InstitutionName=*x*", ""),
    ("ImageComments=slice*", "b"),
    ("ImageComments=*3", "b"),
    ("ImageComments=SLICE%202", "b"),
    ("PatientComments=left%5Cright", "a"),
    ("PatientComments=*%5Cr*", "a"),
    # UID lists (§C.2.2.2.2), by comma, backslash and repetition
    ("StudyInstanceUID=1.2.3.1,1.2.3.2", "ab"),
    ("StudyInstanceUID=1.2.3.1%5C1.2.3.3", "ac"),
    ("StudyInstanceUID=1.2.3.1&StudyInstanceUID=1.2.3.4", "ad"),
    ("StudyInstanceUID=1.2.3.99", ""),
    ("0020000d=1.2.3.1", "a"),
    ("SeriesInstanceUID=1.2.3.2.1", "b"),
    ("SOPInstanceUID=1.2.3.1.2.1,1.2.3.4.2.1", "ad"),
    # ranges (§C.2.2.2.5): both ends, and never what is empty
    ("StudyDate=20240101", "a"),
    ("StudyDate=20240101-20240131", "ab"),
    ("StudyDate=-20240101", "ac"),
    ("StudyDate=20240102-", "b"),
    ("StudyDate=19000101-99991231", "abc"),
    ("StudyTime=0830", "a"),
    ("StudyTime=08", "a"),
    ("StudyTime=0900-1100", "c"),
    ("StudyTime=235959-", "b"),
    ("AcquisitionDate=20231231-20240102", "a"),
    ("AcquisitionTime=0845", "a"),
    ("AcquisitionTime=0800-0844", ""),
    ("PatientBirthDate=19690101-19710101", "a"),
    ("AcquisitionDateTime=20240101074500.5%2B0000", "a"),
    ("AcquisitionDateTime=20240101-20240101", "a"),
    ("AcquisitionDateTime=202401010800-202401010900", ""),
    ("AcquisitionDateTime=202401010744%2B0000-202401010746%2B0000", "a"),
    ("AcquisitionDateTime=20240102-", ""),
    # date and time ranges together are one (§C.2.2.2.5.4)
    ("StudyDate=20231231-20240101&StudyTime=1200-0900", "a"),
    ("StudyDate=20231231-20240101&StudyTime=0900-0800", "c"),
    # ranges open on different sides are two conditions
    ("StudyDate=20240101-&StudyTime=-0900", "a"),
    ("StudyDate=-20240101&StudyTime=0900-", "c"),
    ("StudyDate=20240101-20240131&StudyTime=0900-", "b"),
    ("StudyDate=20240101-&StudyTime=-0900&TimezoneOffsetFromUTC=%2B0000", "a"),
    ("AcquisitionDate=20231231-20240101&AcquisitionTime=1200-0900", "a"),
    ("AcquisitionDate=20231231-20240101&AcquisitionTime=1200-0800", ""),
    # numbers, as numbers
    ("SliceThickness=1.25", "a"),
    ("SliceThickness=1.250", "a"),
    ("SliceThickness=5.0", "b"),
    ("KVP=120", "a"),
    ("PatientWeight=70.50", "a"),
    ("InstanceNumber=3", "b"),
    ("NumberOfFrames=2", "d"),
    ("SeriesNumber=2", "a"),
    # several values in one attribute: any of them
    ("ImageType=AXIAL", "a"),
    ("ImageType=DERIVED", "b"),
    ("ImageType=PRIM*", "a"),
    ("ImageType=axial", ""),
    ("FrameIncrementPointer=00181063", "d"),
    # sequences (§C.2.2.2.6): all within one item
    ("RequestAttributesSequence.ScheduledProcedureStepID=SPS2", "a"),
    ("00400275.00400009=SPS1", "a"),
    ("00400275.ScheduledProcedureStepID=SPS*", "a"),
    (
        "RequestAttributesSequence.ScheduledProcedureStepID=SPS1"
        "&RequestAttributesSequence.RequestedProcedureID=RP1",
        "a",
    ),
    (
        "RequestAttributesSequence.ScheduledProcedureStepID=SPS1"
        "&RequestAttributesSequence.RequestedProcedureID=RP2",
        "",
    ),
    ("ProcedureCodeSequence.CodeValue=CTCH", "a"),
    ("ProcedureCodeSequence.CodeMeaning=chest*", "a"),
    # private attributes
    ("00991003=122538", "c"),
    ("00991003=1225", "c"),
    ("00991003=12:25:38", "c"),
    ("00991003=1200-1300", "c"),
    ("00991003=1300-", ""),
    ("00991004=20240229", "c"),
    ("00991004=20240101-20240301", "c"),
    ("00991004=-20240228", ""),
    ("00991005=20240229112538%2B0000", "c"),
    ("00991005=20240229-20240301", "c"),
    ("00991005=20240301-", ""),
    ("00990010=FILEROOM+TEST&00991001=secret", "c"),
    ("00991001=s*", "c"),
    ("00991002=42.50", "c"),
    ("00991001=other", ""),
    # names: any case, any group, any script (§C.2.2.2.1)
    ("PatientName=smith^john^q", "a"),
    ("PatientName=Smith*", "a"),
    ("PatientName=*JOHN*", "a"),
    ("PatientName=Smith^John", ""),
    ("PatientName=yamada^tarou", "c"),
    ("PatientName=山田^太郎", "c"),
    ("PatientName=%E5%B1%B1*", "c"),
    ("PatientName=やまだ*", "c"),
    ("PatientName=*=山田*", "c"),
    ("PatientName=Yamada*=山*=*", "c"),
    ("ReferringPhysicianName=house*", "a"),
    ("OperatorsName=jones^mary", "a"),
    ("OperatorsName=JONES*", "a"),
    ("OperatorsName=*mary", "a"),
    ("OperatorsName=x*", ""),
    # of series and instances, asked at studies
    ("ModalitiesInStudy=SR", "a"),
    ("ModalitiesInStudy=CT,MR", "abd"),
    ("ModalitiesInStudy=CT%5CUS", "acd"),
    ("ModalitiesInStudy=C?", "ad"),
    ("Modality=CR", "d"),
    ("BodyPartExamined=CHEST", "d"),
    ("Modality=CR&BodyPartExamined=CHEST", ""),
    ("Modality=CT&BodyPartExamined=CHEST", "d"),
    ("NumberOfStudyRelatedInstances=3", "b"),
    ("NumberOfStudyRelatedSeries=2", "ad"),
    ("InstanceAvailability=ONLINE", "abcd"),
    ("InstanceAvailability=OFFLINE", ""),
    # fuzzy (§C.2.2.2.1.1)
    ("PatientName=Smith&fuzzymatching=false", ""),
    ("PatientName=smith&fuzzymatching=true", "ab"),
    ("PatientName=john%20smyth&fuzzymatching=true", "ab"),
    ("PatientName=*smith*&fuzzymatching=true", "ab"),
    ("PatientName=Smi&fuzzymatching=true", "a"),
    ("PatientName=yamata&fuzzymatching=true", "c"),
    ("PatientName=山田&fuzzymatching=true", "c"),
    ("PatientName=miller&fuzzymatching=true", ""),
    ("OperatorsName=johns&fuzzymatching=true", "a"),
    # empty values (§C.2.2.2.7)
    ('AccessionNumber=""&emptyvaluematching=true', "cd"),
    ('PatientName=""&emptyvaluematching=true', "d"),
    ('StudyDate=""&emptyvaluematching=true', "d"),
    ('StudyDescription=""&emptyvaluematching=true', "d"),
    ('SliceThickness=""&emptyvaluematching=true', "acd"),
    ('KVP=""&emptyvaluematching=true', "abcd"),
    ('RequestAttributesSequence=""&emptyvaluematching=true', "abcd"),
    ("PatientID=%22%22&emptyvaluematching=true", "d"),
    ('AccessionNumber=""', ""),
    # multiple values (§C.2.2.2.8)
    ("ModalitiesInStudy=CT%5CSR&multiplevaluematching=true", "a"),
    ("ModalitiesInStudy=CR%5CCT&multiplevaluematching=true", "d"),
    ("ModalitiesInStudy=CT&multiplevaluematching=true", "ad"),
    ("ImageType=PRIMARY%5CORIGINAL&multiplevaluematching=true", "a"),
    ("ImageType=PRIMARY%5CSECONDARY&multiplevaluematching=true", ""),
    ("ImageType=PRIMARY,ORIGINAL&multiplevaluematching=true", "a"),
    ("ImageType=PRIMARY,SECONDARY&multiplevaluematching=true", ""),
    ("ImageType=PRIMARY,SECONDARY", "ab"),
    # time zones: dates and times of keys are in the one that is named
    ("SeriesDate=20240101&SeriesTime=0030", "d"),
    ("SeriesDate=20231231&TimezoneOffsetFromUTC=%2B0000", "d"),
    ("SeriesDate=20240101&TimezoneOffsetFromUTC=%2B0000", ""),
    ("SeriesDate=20231231&SeriesTime=2230&TimezoneOffsetFromUTC=%2B0000", "d"),
    ("SeriesTime=2130&00080201=-0100", "d"),
    ("StudyDate=20240101&TimezoneOffsetFromUTC=+0000", "a"),
    ("SeriesDate=20231231-20231231&SeriesTime=2200-2300&TimezoneOffsetFromUTC=%2B0000", "d"),
    # together
    ("PatientName=s*&StudyDate=20240101-20240131&ModalitiesInStudy=MR", "b"),
    ("SliceThickness=5&InstanceNumber=2", "b"),
    ("SliceThickness=5&InstanceNumber=9", ""),
    ("ImageComments=slice+1&ContentTime=0100-0130", "b"),
    ("ImageComments=slice+1&ContentTime=0200-0230", ""),
]


@pytest.mark.parametrize(("query", "letters"), CASES, ids=[query for query, _ in CASES])
def test_a_search_for_studies_finds(shelf, query, letters):
    assert found(shelf, query) == letters


SERIES_CASES = [
    ("Modality=CT", "ad"),
    ("PatientID=A-100", "aa"),
    ("PatientID=A-100&Modality=SR", "a"),
    ("SeriesNumber=2", "a"),
    ("BodyPartExamined=*", "aabcdd"),
    ("BodyPartExamined=C*", "d"),
    ("SliceThickness=5", "b"),
    ("NumberOfSeriesRelatedInstances=3", "b"),
    ("ImageComments=*2", "b"),
    ("RequestAttributesSequence.RequestedProcedureID=RP2", "a"),
    ('BodyPartExamined=""&emptyvaluematching=true', "aabc"),
    ("PatientName=smith&fuzzymatching=true", "aab"),
]


@pytest.mark.parametrize(
    ("query", "letters"), SERIES_CASES, ids=[query for query, _ in SERIES_CASES]
)
def test_a_search_for_series_finds(shelf, query, letters):
    assert found(shelf, query, "/series") == letters


INSTANCE_CASES = [
    ("InstanceNumber=2", "b"),
    ("ImageComments=slice*", "bbb"),
    ("ImageComments=slice+3", "b"),
    ("ContentTime=0100-0200", "bb"),
    ("ContentDate=20240201&ContentTime=0300", "b"),
    ("StudyDate=20240101", "aa"),
    ("ImageType=DERIVED", "bbb"),
    ("SOPClassUID=1.2.840.10008.5.1.4.1.1.7", "aabbbcdd"),
    ("AvailableTransferSyntaxUID=1.2.840.10008.1.2.1", "aabbbcdd"),
    ("AvailableTransferSyntaxUID=1.2.840.10008.1.2.4.50", ""),
    ("00991001=secret", "c"),
    ("PatientName=smyth&fuzzymatching=true&InstanceNumber=1", "b"),
]


@pytest.mark.parametrize(
    ("query", "letters"), INSTANCE_CASES, ids=[query for query, _ in INSTANCE_CASES]
)
def test_a_search_for_instances_finds(shelf, query, letters):
    assert found(shelf, query, "/instances") == letters


@pytest.mark.parametrize(
    "query",
    [
        "StudyDate=2024",
        "StudyDate=20241301",
        "StudyDate=-",
        "StudyDate=tomorrow",
        "AcquisitionDate=1",
        "StudyTime=99",
        "StudyTime=1",
        "AcquisitionTime=25",
        "AcquisitionDateTime=20241301",
        "AcquisitionDateTime=noon",
        "StudyInstanceUID=abc",
        "StudyInstanceUID=1..2",
        "FrameOfReferenceUID=x",
        "SeriesNumber=one",
        "SliceThickness=thin",
        "limit=abc",
        "limit=-1",
        "limit=1.5",
        "offset=x",
        "offset=-5",
        "fuzzymatching=maybe",
        "emptyvaluematching=2",
        "TimezoneOffsetFromUTC=CET",
        "orderby=NoSuchThing",
        "orderby=SliceThickness",
        "StudyDate=20240230",
        "StudyDate=20230229-20240229",
        "NoSuchThing=1&strict=1",
        "includefield=NoSuchThing&strict=true",
    ],
)
def test_a_value_that_is_not_of_its_form_is_refused_and_said(shelf, query):
    response = shelf.get(f"/studies?{query}")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.json()["detail"]) > 20


@pytest.mark.parametrize("name", ["NoSuchThing", "patientname", "0010001", "00100010x", "a.b"])
def test_an_unknown_key_is_passed_over_with_a_warning_that_names_it(shelf, name):
    response = shelf.get(f"/studies?{name}=1")
    assert response.status_code == 200
    assert len(response.json()) == 4
    assert response.headers["warning"].startswith("299 ")
    assert name in response.headers["warning"]


@pytest.mark.parametrize(
    ("query", "name"),
    [("PixelData=1", "7FE00010"), ("RequestAttributesSequence=x", "00400275")],
)
def test_a_key_without_a_value_to_match_is_passed_over_with_a_warning(shelf, query, name):
    response = shelf.get(f"/studies?{query}")
    assert len(response.json()) == 4
    assert name in response.headers["warning"]


def test_the_character_set_is_never_matched(shelf):
    response = shelf.get("/studies?SpecificCharacterSet=ISO_IR%20100")
    assert len(response.json()) == 4
    assert "warning" not in response.headers
