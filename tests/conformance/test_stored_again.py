"""What is deleted and stored again is as if it came for the first time (PS3.18 §10.5)."""

import pytest

from tests.builders import dataset, part10
from tests.conformance.stow import post

STUDY, SERIES, SOP = "1.2.3", "1.2.3.1", "1.2.3.1.1"
INSTANCE = f"/studies/{STUDY}/series/{SERIES}/instances/{SOP}"


def content(name: str, sop: str = SOP, **more) -> bytes:
    attributes = {
        "PatientName": f"{name}^X",
        "PatientID": name,
        "StudyDate": "20240101",
        "SeriesDescription": name,
        "Modality": "CT",
    }
    return part10(dataset(STUDY, SERIES, sop, **(attributes | more)))


def shown(client, path: str = "/studies", **query) -> list[dict]:
    response = client.get(path, params=query)
    assert response.status_code == 200
    return response.json()


def patient(client, **query) -> list[str]:
    return [match["00100020"]["Value"][0] for match in shown(client, **query)]


@pytest.mark.parametrize(
    ("before", "after"),
    [("A", "A"), ("A", "B"), ("AB", "A"), ("AB", "B"), ("ABB", "B"), ("AB", "C")],
)
@pytest.mark.parametrize("deleted", [INSTANCE, f"/studies/{STUDY}"], ids=["instance", "study"])
def test_what_is_stored_after_a_deletion_is_shown(client, before, after, deleted):
    for name in before:
        post(client, content(name))
    assert client.delete(deleted).status_code == 204
    assert patient(client) == []
    assert post(client, content(after)).status_code == 200
    assert patient(client) == [after]
    assert shown(client)[0]["00201208"]["Value"] == [1]
    (metadata,) = client.get(f"{INSTANCE}/metadata").json()
    assert metadata["00100020"]["Value"] == [after]


def test_nothing_that_was_deleted_describes_what_is_stored_after_it(client):
    post(client, content("Old", StudyDescription="gone", AccessionNumber="1"))
    client.delete(f"/studies/{STUDY}")
    # Another instance of the same study and series, corrected.
    post(client, content("New", f"{SOP}9", StudyDate="20250202", Modality="MR"))
    assert patient(client, PatientName="Old*") == []
    assert patient(client, PatientName="*ew*") == ["New"]
    assert patient(client, StudyDate="20240101") == []
    assert patient(client, ModalitiesInStudy="MR", StudyDate="20250101-") == ["New"]
    assert patient(client, ModalitiesInStudy="CT") == []
    (study,) = shown(client, includefield="StudyDescription")
    assert "Value" not in study["00081030"]
    assert "Value" not in study.get("00080050", {})
    (series,) = shown(client, "/series")
    assert series["0008103E"]["Value"] == ["New"]
    assert series["00080060"]["Value"] == ["MR"]


def test_what_a_first_instance_left_empty_is_filled_after_a_deletion_too(client):
    post(client, content("A", PatientSex="F"))
    client.delete(f"/studies/{STUDY}")
    post(client, content("A", PatientSex=""))
    post(client, content("A", f"{SOP}9", PatientSex="F"))
    assert shown(client)[0]["00100040"]["Value"] == ["F"]


def test_of_instances_in_one_request_the_first_is_the_first(client):
    for round_ in range(5):
        study = f"1.2.4.{round_}"
        bodies = [
            part10(dataset(study, f"{study}.1", f"{study}.1.{n}", PatientID=f"P{n}"))
            for n in range(12)
        ]
        # The last is another content of the first.
        bodies.append(part10(dataset(study, f"{study}.1", f"{study}.1.0", PatientID="late")))
        response = post(client, *bodies)
        assert response.status_code == 202
        assert patient(client, StudyInstanceUID=study) == ["P0"]
        (metadata,) = client.get(
            f"/studies/{study}/series/{study}.1/instances/{study}.1.0/metadata"
        ).json()
        assert metadata["00100020"]["Value"] == ["P0"]


@pytest.mark.parametrize("level", ["instance", "series"])
def test_a_deleted_first_instance_describes_its_study_no_longer(client, level):
    series = SERIES if level == "instance" else f"{SERIES}9"
    wrong = {"PatientName": "Wrong", "PatientID": "W", "StudyDate": "20200101"}
    wrong |= {"SeriesDescription": "wrong", "StudyDescription": "wrong"}
    right = {"PatientName": "Right", "PatientID": "R", "StudyDate": "20240101"}
    post(client, part10(dataset(STUDY, SERIES, SOP, **wrong)))
    post(client, part10(dataset(STUDY, series, f"{SOP}8", **right, SeriesDescription="")))
    post(client, part10(dataset(STUDY, series, f"{SOP}9", **right, SeriesDescription="late")))
    deleted = f"/studies/{STUDY}/series/{SERIES}" + (
        f"/instances/{SOP}" if level == "instance" else ""
    )
    assert client.delete(deleted).status_code == 204
    assert patient(client) == ["R"]
    assert patient(client, PatientName="Wrong") == []
    assert patient(client, PatientName="*igh*", StudyDate="20240101-") == ["R"]
    (study,) = shown(client, includefield="StudyDescription")
    assert "Value" not in study["00081030"]
    (of_series,) = shown(client, f"/studies/{STUDY}/series")
    assert of_series["0008103E"]["Value"] == ["late"]
    assert [match["00100020"]["Value"] for match in shown(client, "/patients")] == [["R"]]
