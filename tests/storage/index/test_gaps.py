"""What the first instance left empty is filled in from later ones, on both databases."""

import pytest

from archive.assembly import open_archive
from archive.auth.principal import ANONYMOUS, OPERATOR
from archive.config import IndexSection
from archive.errors import ConflictingInstanceError
from archive.identity import InstanceRef
from archive.query.request import Level, SearchKey, SearchRequest
from tests.builders import dataset, part10
from tests.conftest import make_config, running_archive, store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def archive(request, tmp_path):
    index = IndexSection()
    if request.param == "postgresql":
        index = IndexSection(url=request.getfixturevalue("postgres_url"))
    with running_archive(make_config(tmp_path / "data", index=index)) as opened:
        yield opened


def search(archive, level=Level.STUDY, **keys):
    request = SearchRequest(
        level,
        keys=tuple(SearchKey((tag.strip("_"),), value) for tag, value in keys.items()),
        all_fields=True,
    )
    return list(archive.query.search(ANONYMOUS, request))


def bare(number: int, **attributes):
    made = dataset("1.2", "1.2.1", f"1.2.1.{number}", **attributes)
    return part10(made)


def test_a_study_whose_first_instance_says_little_is_found_by_what_later_ones_say(archive):
    store(archive, bare(1, PatientName="", Modality="SEG"))
    assert search(archive, _00081030="chest*") == []
    store(
        archive,
        bare(
            2,
            PatientName="Doe^Jane",
            StudyDescription="Chest",
            StudyDate="20240101",
            AccessionNumber="ACC",
            PatientWeight="70",
            SeriesDescription="Axial",
            SeriesNumber=4,
        ),
    )
    for keys in (
        {"_00081030": "*hes*"},
        {"_00100010": "doe*"},
        {"_00080020": "20240101"},
        {"_00080050": "A*C"},
        {"_00080020": "20240101", "_00080061": "SEG"},
    ):
        (study,) = search(archive, **keys)
        assert study["00081030"]["Value"] == ["Chest"]
        assert study["00101030"]["Value"] == [70]
    (series,) = search(archive, Level.SERIES, _0008103E="axial")
    assert series["00200011"]["Value"] == [4]
    (patient,) = search(archive, Level.PATIENT, _00100010="doe^jane")
    assert patient["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}]


def test_what_has_a_value_stays_as_the_first_instance_said(archive):
    store(archive, bare(1, StudyDescription="First", StudyDate="20240101"))
    store(archive, bare(2, StudyDescription="Second", StudyDate="20240202", StudyID="S"))
    (study,) = search(archive)
    assert study["00081030"]["Value"] == ["First"]
    assert study["00080020"]["Value"] == ["20240101"]
    assert study["00200010"]["Value"] == ["S"]


def test_another_patient_fills_nothing_in(archive):
    store(archive, bare(1, PatientID="", PatientName=""))
    store(archive, bare(2, PatientID="Q", PatientName="Doe^Jane", StudyDescription="X"))
    (study,) = search(archive)
    assert "Value" not in study["00100010"]
    assert "Value" not in study.get("00081030", {})


def test_a_version_that_is_held_aside_fills_nothing_in(archive):
    store(archive, bare(1))
    with pytest.raises(ConflictingInstanceError):
        store(archive, bare(1, StudyDescription="Other"))
    assert search(archive, _00081030="other") == []


def test_what_was_deleted_by_another_process_says_it_again_when_it_is_sent_again(archive):
    store(archive, bare(1, PatientName="", Modality="SEG"))
    full = bare(2, StudyDescription="Chest", SeriesDescription="Axial")
    store(archive, full)
    with open_archive(archive.config) as other:
        ref = InstanceRef("1.2", "1.2.1", "1.2.1.2")
        other.lifecycle.delete(OPERATOR, ref, reason="a try")
    assert search(archive, _00081030="chest") == []
    store(archive, full)
    assert len(search(archive, _00081030="chest")) == 1
    assert len(search(archive, Level.SERIES, _0008103E="axial")) == 1
