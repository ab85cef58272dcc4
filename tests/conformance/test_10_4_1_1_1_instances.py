"""Studies, series and instances (PS3.18 §10.4.1.1.1, §10.4.3)."""

import io
import warnings
import zipfile

import numpy as np
import pydicom
import pytest

from dicomweb import wado
from tests import synthetic
from tests.conformance.multipart import parts_of
from tests.conftest import store, wheel_file

ELE = "1.2.840.10008.1.2.1"
RLE = "1.2.840.10008.1.2.5"
JPEG_LS = "1.2.840.10008.1.2.4.80"
PARTS = 'multipart/related; type="application/dicom"'
AS_STORED = f"{PARTS}; transfer-syntax=*"


def read(content: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(content))


@pytest.mark.parametrize("accept", ["application/dicom; transfer-syntax=*", AS_STORED])
def test_every_instance_comes_back_byte_for_byte_as_stored(room, accept):
    for name, path in room.paths.items():
        response = room.get(room.url(name), accept)
        single = accept.startswith("application")
        content = response.content if single else parts_of(response)[0].content
        assert content == path.read_bytes(), name


def test_every_instance_comes_in_explicit_little_endian_or_says_why_not(room):
    made = 0
    for name in room.refs:
        response = room.get(room.url(name), "application/dicom")
        if response.status_code == 406:
            assert response.json()["detail"]
            continue
        assert response.status_code == 200
        assert int(response.headers["content-length"]) == len(response.content)
        dataset = read(response.content)
        syntax = dataset.file_meta.TransferSyntaxUID
        assert (
            response.headers["content-type"] == f"application/dicom; transfer-syntax={syntax}"
        )
        assert dataset.SOPInstanceUID == room.refs[name].sop_instance_uid
        made += syntax == ELE
    assert made > 40


@pytest.mark.parametrize("level", ["series_url", "study_url"])
def test_a_study_holds_each_of_its_instances_once(room, level):
    base = getattr(room, level)("CT_small.dcm")
    metadata = room.get(base + "/metadata").json()
    parts = parts_of(room.get(base, AS_STORED))
    found = [str(read(part.content).SOPInstanceUID) for part in parts]
    assert found == [attributes["00080018"]["Value"][0] for attributes in metadata]
    for part, uid in zip(parts, found, strict=True):
        assert part.headers["Content-Location"].endswith(f"/instances/{uid}")
        assert room.get(part.headers["Content-Location"], PARTS).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies/1.2.3", 404),
        ("/studies/1.2.3/series/1.2.3", 404),
        ("/studies/1.2.3/series/1.2.3/instances/1.2.3", 404),
        ("/studies/x", 400),
        ("/studies/1.2.a", 400),
        ("/studies/" + "1" * 65, 400),
        ("/studies/1..2", 400),
    ],
)
@pytest.mark.parametrize("suffix", ["", "/metadata", "/bulkdata", "/pixeldata"])
def test_what_is_not_here_is_404_and_what_is_no_uid_400(room, path, status, suffix):
    assert room.get(path + suffix, "*/*").status_code == status


def test_an_instance_is_only_found_where_it_belongs(room):
    ref, other = room.refs["CT_small.dcm"], room.refs["rtplan.dcm"]
    path = (
        f"/studies/{other.study_instance_uid}/series/{ref.series_instance_uid}"
        f"/instances/{ref.sop_instance_uid}"
    )
    for suffix in ("", "/metadata", "/frames/1", "/bulkdata/7FE00010", "/rendered"):
        assert room.get(path + suffix, "*/*").status_code == 404


# -- several instances, not all of which can be had -------------------------------------------


@pytest.fixture
def mixed(client, archive):
    """A series of a grey image, a report without pixels and a video."""
    image = synthetic.image(rows=4, columns=4, number_of_frames=1, bits_allocated=8)
    image.PixelData = bytes(range(16))
    study, series = image.StudyInstanceUID, image.SeriesInstanceUID
    report = synthetic.data_set(StudyInstanceUID=study, SeriesInstanceUID=series)
    video = synthetic.image(rows=8, columns=8, number_of_frames=9, bits_allocated=8)
    video.StudyInstanceUID, video.SeriesInstanceUID = study, series
    video.PixelData = pydicom.encaps.encapsulate([b"\0\0\0\x18ftyp" + bytes(400)])
    store(archive, synthetic.part10(image, ELE))
    store(archive, synthetic.part10(report, "1.2.840.10008.1.2"))
    ref = store(archive, synthetic.part10(video, "1.2.840.10008.1.2.4.102")).ref
    return f"/studies/{ref.study_instance_uid}"


def syntaxes(response) -> list[str]:
    return sorted(part.transfer_syntax for part in parts_of(response))


def test_by_default_all_are_explicit_but_the_video_which_has_no_other_form(client, mixed):
    response = client.get(mixed, headers={"Accept": PARTS})
    assert response.status_code == 200
    assert syntaxes(response) == [ELE, ELE, "1.2.840.10008.1.2.4.102"]


def test_what_cannot_be_had_as_asked_is_left_out_and_told_of(client, mixed):
    response = client.get(mixed, headers={"Accept": f"{PARTS}; transfer-syntax={JPEG_LS}"})
    assert response.status_code == 206
    assert "1 of 3 instances" in response.headers["warning"]
    # A report has no other form than this.
    assert syntaxes(response) == [ELE, JPEG_LS]


@pytest.fixture
def one_broken(client, archive):
    """A series of four images, the third of which breaks off inside its codestream."""
    whole = pydicom.dcmread(wheel_file("MR_small_jp2klossless.dcm"))
    codestream = next(pydicom.encaps.generate_frames(whole.PixelData, number_of_frames=1))
    refs = []
    for number in range(4):
        whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = f"2.25.7{number}"
        whole.InstanceNumber = number
        frame = codestream[:400] + b"\xff" * 600 if number == 2 else codestream
        whole.PixelData = pydicom.encaps.encapsulate([frame])
        buffer = io.BytesIO()
        whole.save_as(buffer)
        refs.append(store(archive, buffer.getvalue()).ref)
    return refs


@pytest.mark.parametrize("level", ["study", "series"])
def test_by_default_one_broken_instance_keeps_no_other_back(client, one_broken, level):
    url = synthetic.url(one_broken[0]).partition("/instances/")[0]
    url = url.partition("/series/")[0] if level == "study" else url
    response = client.get(url, headers={"Accept": PARTS})
    assert response.status_code == 200
    assert syntaxes(response) == [ELE, ELE, ELE, "1.2.840.10008.1.2.4.90"]
    response = client.get(url, headers={"Accept": "application/zip"})
    assert response.status_code == 200
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive_file:
        assert len([name for name in archive_file.namelist() if name.endswith(".dcm")]) == 4


def test_a_broken_instance_alone_is_406_but_as_stored(client, one_broken):
    url = synthetic.url(one_broken[2])
    assert client.get(url, headers={"Accept": PARTS}).status_code == 406
    assert client.get(url, headers={"Accept": AS_STORED}).status_code == 200


def test_where_nothing_can_be_had_as_asked_it_is_406(client, archive):
    video = synthetic.image(rows=8, columns=8, number_of_frames=9, bits_allocated=8)
    video.PixelData = pydicom.encaps.encapsulate([bytes(400)])
    ref = store(archive, synthetic.part10(video, "1.2.840.10008.1.2.4.102")).ref
    for url in (synthetic.url(ref), f"/studies/{ref.study_instance_uid}"):
        accept = f"{PARTS}; transfer-syntax={JPEG_LS}"
        assert client.get(url, headers={"Accept": accept}).status_code == 406


@pytest.mark.parametrize("wanted", [ELE, RLE, JPEG_LS, "1.2.840.10008.1.2.4.90"])
def test_a_transcoded_instance_keeps_its_identity_and_its_pixels(room, wanted):
    path = room.paths["CT_small.dcm"]
    response = room.get(
        room.url("CT_small.dcm"), f"application/dicom; transfer-syntax={wanted}"
    )
    assert response.status_code == 200
    dataset, original = read(response.content), pydicom.dcmread(path)
    assert dataset.file_meta.TransferSyntaxUID == wanted
    assert dataset.SOPInstanceUID == original.SOPInstanceUID
    assert int(response.headers["content-length"]) == len(response.content)
    assert (dataset.pixel_array == original.pixel_array).all()


def test_a_big_endian_instance_leaves_in_little_endian(client, archive):
    image = synthetic.image(rows=2, columns=3, number_of_frames=2, bits_allocated=16)
    values = np.arange(12, dtype=">u2")
    image.PixelData = values.tobytes()
    ref = store(archive, synthetic.part10(image, "1.2.840.10008.1.2.2")).ref
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = client.get(synthetic.url(ref), headers={"Accept": "application/dicom"})
        found = read(got.content)
    assert found.file_meta.TransferSyntaxUID == ELE
    assert (np.frombuffer(found.PixelData, "<u2") == values).all()


@pytest.mark.parametrize("accept", [AS_STORED, "application/zip; transfer-syntax=*"])
def test_a_study_too_large_to_be_held_is_the_same(client, archive, monkeypatch, accept):
    first = synthetic.data_set()
    url = f"/studies/{first.StudyInstanceUID}"
    for number in range(5):
        more = synthetic.data_set(
            StudyInstanceUID=first.StudyInstanceUID, InstanceNumber=number
        )
        store(archive, synthetic.part10(more, ELE))
    held = client.get(url, headers={"Accept": accept})
    monkeypatch.setattr(wado, "_MOST_HELD", 2)
    streamed = client.get(url, headers={"Accept": accept})
    assert "content-length" in held.headers
    assert "content-length" not in streamed.headers
    assert streamed.headers["etag"] == held.headers["etag"]
    if "zip" in accept:
        assert streamed.content == held.content
    else:
        contents = [part.content for part in parts_of(streamed)]
        assert len(contents) == 5
        assert contents == [part.content for part in parts_of(held)]
