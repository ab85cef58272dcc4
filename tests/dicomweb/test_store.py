"""STOW-RS (PS3.18 §10.5, Annex I)."""

import hashlib

import pydicom
import pytest

from archive.auth.principal import OPERATOR
from tests.conftest import fill_up, wheel_file

DICOM = {"Content-Type": "application/dicom"}


def multipart(*parts: bytes, part_type: str = "application/dicom", boundary="b0undary+(1)'"):
    body = b"".join(
        b"--"
        + boundary.encode()
        + b"\r\nContent-Type: "
        + part_type.encode()
        + b"\r\n\r\n"
        + part
        + b"\r\n"
        for part in parts
    )
    return {
        "content": body + b"--" + boundary.encode() + b"--\r\n",
        "headers": {
            "Content-Type": "multipart/related; "
            f'type="application/dicom"; boundary="{boundary}"'
        },
    }  # fmt: skip


def ct() -> bytes:
    return wheel_file("CT_small.dcm").read_bytes()


def mr() -> bytes:
    return wheel_file("MR_small_RLE.dcm").read_bytes()


def reasons(response) -> list[int]:
    return [item["00081197"]["Value"][0] for item in response.json()["00081198"]["Value"]]


def test_all_stored_is_200_with_each_instance_referenced(client):
    response = client.post("/studies", **multipart(ct(), mr()))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    items = response.json()["00081199"]["Value"]
    assert len(items) == 2
    for item in items:
        url = item["00081190"]["Value"][0]
        got = client.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"})
        assert got.content in (ct(), mr())


def test_one_bad_part_harms_no_neighbour_and_is_202(client):
    response = client.post("/studies", **multipart(ct(), b"not dicom at all", mr()))
    assert response.status_code == 202
    assert len(response.json()["00081199"]["Value"]) == 2
    # It names no instance, so it is no item of the Failed SOP Sequence.
    assert "00081198" not in response.json()
    failed = response.json()["0008119A"]["Value"][0]
    assert failed["00081197"]["Value"] == [0xC000]
    assert "expected 'DICM'" in failed["00741048"]["Value"][0]["0040A160"]["Value"][0]


def test_nothing_stored_is_409(client):
    response = client.post("/studies", **multipart(ct()[:9000]))
    assert response.status_code == 409
    failed = response.json()["00081198"]["Value"][0]
    # The header told what it was, although the data set is cut off.
    uid = pydicom.dcmread(wheel_file("CT_small.dcm")).SOPInstanceUID
    assert failed["00081155"]["Value"] == [uid]


def test_a_single_instance_is_a_body_of_its_own(client):
    assert client.post("/studies", content=ct(), headers=DICOM).status_code == 200


def test_the_same_again_is_200_and_says_so(client, archive):
    client.post("/studies", content=ct(), headers=DICOM)
    response = client.post("/studies", content=ct(), headers=DICOM)
    assert response.status_code == 200
    assert "1 instances were stored already" in response.headers["warning"]
    totals = archive.changes.totals(OPERATOR)
    assert (totals.instances, totals.duplicates) == (1, 1)


def test_other_content_under_the_same_uids_is_409_and_both_are_kept(client, archive):
    client.post("/studies", content=ct(), headers=DICOM)
    changed = ct().replace(b"CompressedSamples^CT1", b"CompressedSamples^CT2")
    response = client.post("/studies", content=changed, headers=DICOM)
    assert response.status_code == 409
    assert reasons(response) == [0xC001]
    assert archive.changes.totals(OPERATOR).held == 1
    assert archive.verifier.verify(grace_s=0).objects == 2


def test_a_part_of_another_study_than_the_url_is_refused(client):
    study = pydicom.dcmread(wheel_file("CT_small.dcm")).StudyInstanceUID
    response = client.post(f"/studies/{study}", **multipart(ct(), mr()))
    assert response.status_code == 202
    assert len(response.json()["00081199"]["Value"]) == 1
    assert response.json()["00081190"]["Value"][0].endswith(study)


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "image/png", ""])
def test_another_media_type_is_415(client, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    response = client.post("/studies", content=b"x", headers=headers)
    assert response.status_code == 415
    assert response.headers["content-type"] == "application/problem+json"
    assert "application/dicom" in response.json()["detail"]


def test_the_type_of_a_part_is_not_believed_but_its_content(client):
    assert client.post("/studies", **multipart(ct(), part_type="image/jpeg")).status_code == 200


@pytest.mark.parametrize("cut", [10, 200, 20_000, -30])
def test_a_body_that_breaks_off_is_400_and_stores_nothing_of_the_broken_part(
    client, archive, cut
):
    request = multipart(ct())
    request["content"] = request["content"][:cut]
    response = client.post("/studies", **request)
    assert response.status_code == 400
    assert "truncated" in response.json()["detail"]
    assert archive.changes.totals(OPERATOR).instances == 0


def test_a_multipart_body_without_a_boundary_is_400(client):
    headers = {"Content-Type": 'multipart/related; type="application/dicom"'}
    assert client.post("/studies", content=b"x", headers=headers).status_code == 400


def test_a_body_arriving_in_pieces_of_seven_bytes_is_the_same_body(client):
    request = multipart(mr())
    body = request["content"]
    pieces = (body[at : at + 7] for at in range(0, len(body), 7))
    response = client.post("/studies", content=pieces, headers=request["headers"])
    assert response.status_code == 200


def test_a_large_instance_goes_through_a_spool_and_comes_back_byte_for_byte(client, archive):
    dataset = pydicom.dcmread(wheel_file("CT_small.dcm"))
    dataset.NumberOfFrames = 400
    dataset.PixelData = bytes(range(256)) * 128 * 400
    dataset.save_as(archive.config.archive.data_dir / "big.dcm")
    body = (archive.config.archive.data_dir / "big.dcm").read_bytes()
    assert len(body) > 13_000_000
    response = client.post("/studies", **multipart(body))
    assert response.status_code == 200
    url = response.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    got = client.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}).content
    assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()
    assert not list((archive.config.archive.data_dir / "incoming").iterdir())


def test_a_full_disk_refuses_with_503_and_goes_on_reading(client, archive):
    client.post("/studies", content=ct(), headers=DICOM)
    fill_up(archive)
    response = client.post("/studies", content=mr(), headers=DICOM)
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert "full" in response.json()["detail"]
    assert len(client.get("/studies").json()) == 1
