"""Instances in a ZIP archive (PS3.18 §10.4, Supplement 211)."""

import io
import re
import warnings
import zipfile

import pydicom
import pytest
from pydicom.fileset import FileSet

from dicomweb import zipped
from tests import synthetic
from tests.conftest import store

ZIP = "application/zip; transfer-syntax=*"


def opened(response) -> zipfile.ZipFile:
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.testzip() is None
    return archive


@pytest.mark.parametrize("level", ["url", "series_url", "study_url"])
def test_a_resource_is_its_instances_as_stored_under_their_uids(room, level):
    base = getattr(room, level)("examples_jpeg2k.dcm")
    response = room.get(base, ZIP)
    archive = opened(response)
    ref = room.refs["examples_jpeg2k.dcm"]
    name = f"{ref.study_instance_uid}/{ref.series_instance_uid}/{ref.sop_instance_uid}.dcm"
    assert archive.read(name) == room.paths["examples_jpeg2k.dcm"].read_bytes()
    metadata = room.get(base + "/metadata").json()
    uids = [entry.rpartition("/")[2].removesuffix(".dcm") for entry in archive.namelist()]
    assert uids == [attributes["00080018"]["Value"][0] for attributes in metadata]
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.headers["content-disposition"].startswith("attachment; filename=")


def test_the_same_question_gives_the_same_archive(room):
    first, again = (room.get(room.study_url("CT_small.dcm"), ZIP) for _ in range(2))
    assert first.content == again.content
    assert first.headers["etag"] == again.headers["etag"]


@pytest.mark.parametrize("level", ["url", "study_url"])
def test_head_tells_the_length(room, level):
    url = getattr(room, level)("CT_small.dcm")
    head = room.client.head(url, headers={"Accept": ZIP})
    assert head.content == b""
    got = room.get(url, ZIP)
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize(
    ("accept", "syntax"),
    [
        ("application/zip", "1.2.840.10008.1.2.1"),
        ("application/zip; transfer-syntax=1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.80"),
        (ZIP, "1.2.840.10008.1.2.4.90"),
    ],
)
def test_the_transfer_syntax_is_the_one_asked_for(room, accept, syntax):
    archive = opened(room.get(room.url("examples_jpeg2k.dcm"), accept))
    dataset = pydicom.dcmread(io.BytesIO(archive.read(archive.namelist()[0])))
    assert dataset.file_meta.TransferSyntaxUID == syntax


def test_accept_as_a_parameter_makes_a_link_of_it(room):
    response = room.get(room.study_url("CT_small.dcm") + "?accept=application/zip", "*/*")
    assert len(opened(response).namelist()) >= 1


def test_sizes_beyond_32_bits_are_written_so(client, archive, monkeypatch):
    # The border is moved: 4 GiB are too much for a test.
    monkeypatch.setattr(zipped, "_MOST_32", 3000)
    for size in (100, 2900, 8000):
        image = synthetic.data_set(EncapsulatedDocument=bytes(size))
        image.StudyInstanceUID = "1.2.3"
        store(archive, synthetic.part10(image, "1.2.840.10008.1.2.1"))
    response = client.get("/studies/1.2.3", headers={"Accept": ZIP})
    assert int(response.headers["content-length"]) == len(response.content)
    # What is written is what APPNOTE 4.3.14 and 4.5.3 have; our border is not the reader's.
    assert response.content.count(b"PK\x06\x06") == 1
    assert response.content.count(b"PK\x06\x07") == 1


@pytest.mark.parametrize(
    ("accept", "most", "least"), [("application/zip", 5, 4), (ZIP, 5000, 40)]
)
def test_a_file_set_has_a_directory_that_leads_to_every_instance(
    room, tmp_path, accept, most, least
):
    """PS3.10 §8, PS3.3 Annex F; ``dicomdir=true`` is ours."""
    found = room.get("/studies?limit=5000").json()
    studies = [match["0020000D"]["Value"][0] for match in found][:most]
    seen = 0
    for number, study in enumerate(studies):
        answer = room.get(f"/studies/{study}?dicomdir=true", accept)
        if answer.status_code not in (200, 206):
            continue
        folder = tmp_path / str(number)
        zipfile.ZipFile(io.BytesIO(answer.content)).extractall(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = FileSet(folder / "DICOMDIR")
            held._stage["t"].cleanup()  # it leaves that to the garbage collector, which warns
            for instance in held:
                read = pydicom.dcmread(instance.path, force=True)
                assert read.SOPInstanceUID == instance.SOPInstanceUID
                syntax = instance.ReferencedTransferSyntaxUIDInFile
                assert read.file_meta.TransferSyntaxUID == syntax
                seen += 1
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(held) == len(files) - 1
        names = {part for path in files for part in path.relative_to(folder).parts}
        assert all(re.fullmatch("[A-Z0-9_]{1,8}", name) for name in names)
    assert seen >= least


def test_each_file_set_has_a_uid_of_its_own_and_keeps_it(room):
    def uid(name: str) -> str:
        answer = room.get(room.study_url(name) + "?dicomdir=true", ZIP)
        directory = opened(answer).read("DICOMDIR")
        read = pydicom.dcmread(io.BytesIO(directory))
        return str(read.file_meta.MediaStorageSOPInstanceUID)

    assert uid("CT_small.dcm") == uid("CT_small.dcm")
    assert uid("CT_small.dcm") != uid("MR_small.dcm")


def test_a_file_set_is_another_representation_than_a_plain_zip(room):
    plain = room.get(room.study_url("CT_small.dcm"), ZIP)
    file_set = room.get(room.study_url("CT_small.dcm") + "?dicomdir=true", ZIP)
    assert plain.headers["etag"] != file_set.headers["etag"]
