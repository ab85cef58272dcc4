"""The Python dicomweb-client against a running archive: every method that it has."""

import io

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid
from requests.exceptions import HTTPError

from tests.conftest import Served, wheel_file

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("interop")]

NAMES = (
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "rtdose.dcm",
    "examples_rgb_color.dcm",
    "chrH31.dcm",
    "waveform_ecg.dcm",
)


def uids_of(dataset) -> tuple[str, str, str]:
    return dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID


def part10(dataset) -> bytes:
    output = io.BytesIO()
    dataset.save_as(output)
    return output.getvalue()


@pytest.fixture(scope="session")
def files():
    """Real files, by their names."""
    return {name: pydicom.dcmread(wheel_file(name)) for name in NAMES}


@pytest.fixture(scope="session")
def room(tmp_path_factory, files):
    """A client of an archive that holds them; nobody changes it."""
    server = Served(tmp_path_factory.mktemp("client") / "data")
    server.start()
    client = DICOMwebClient(f"{server.url}/dicom-web")
    client.store_instances(list(files.values()))
    yield client
    assert server.stop() == 0


@pytest.fixture
def web(served):
    """A client of an empty archive of this test's own."""
    return DICOMwebClient(f"{served.url}/dicom-web")


# -- search ------------------------------------------------------------------------------------


def found_studies(room, **asked) -> set[str]:
    return {study["0020000D"]["Value"][0] for study in room.search_for_studies(**asked)}


def test_search_finds_everything(room, files):
    assert found_studies(room) == {file.StudyInstanceUID for file in files.values()}
    assert len(room.search_for_series()) == len(files)
    assert len(room.search_for_instances()) == len(files)


@pytest.mark.parametrize(
    ("filters", "name"),
    [
        ({"PatientID": "1CT1"}, "CT_small.dcm"),
        ({"00100020": "1CT1"}, "CT_small.dcm"),
        ({"PatientName": "Compressed*CT1"}, "CT_small.dcm"),
        ({"PatientName": "Yamada^Tarou*"}, "chrH31.dcm"),
        ({"ModalitiesInStudy": "ECG"}, "waveform_ecg.dcm"),
        ({"StudyDate": "20040119", "PatientID": "1CT1"}, "CT_small.dcm"),
    ],
)
def test_search_with_filters(filters, name, room, files):
    assert found_studies(room, search_filters=filters) == {files[name].StudyInstanceUID}


def test_search_for_a_name_in_another_script(room, files):
    name = str(files["chrH31.dcm"].PatientName).partition("=")[2].partition("=")[0]
    assert found_studies(room, search_filters={"PatientName": name}) == {
        files["chrH31.dcm"].StudyInstanceUID
    }


def test_search_fuzzily(room, files):
    asked = {"PatientName": "Compresedsamples"}
    assert found_studies(room, search_filters=asked) == set()
    found = found_studies(room, search_filters=asked, fuzzymatching=True)
    assert files["CT_small.dcm"].StudyInstanceUID in found


def test_search_in_pages(room, files):
    pages = [room.search_for_studies(limit=2, offset=offset) for offset in range(0, 10, 2)]
    listed = [study["0020000D"]["Value"][0] for page in pages for study in page]
    assert len(listed) == len(set(listed)) == len(files)
    assert all(len(page) <= 2 for page in pages)


def test_search_for_what_remains(room, files):
    assert len(room.search_for_studies(limit=2, get_remaining=True)) == len(files)
    assert len(room.search_for_series(limit=1, get_remaining=True)) == len(files)
    assert len(room.search_for_instances(limit=3, get_remaining=True)) == len(files)


def test_search_with_more_fields(room, files):
    (study,) = room.search_for_studies(
        search_filters={"PatientID": "1CT1"}, fields=["StudyDescription", "00102160"]
    )
    assert study["00081030"]["Value"] == [files["CT_small.dcm"].StudyDescription]
    (instance,) = room.search_for_instances(
        search_filters={"PatientID": "1CT1"}, fields=["PixelSpacing", "KVP"]
    )
    assert instance["00280030"]["Value"] == [0.661468, 0.661468]
    assert instance["00180060"]["Value"] == [120]


def test_search_below_a_study_and_a_series(room, files):
    study, series, instance = uids_of(files["CT_small.dcm"])
    (found,) = room.search_for_series(study)
    assert found["0020000E"]["Value"] == [series]
    assert room.search_for_series(study, search_filters={"Modality": "MR"}) == []
    (found,) = room.search_for_instances(study)
    assert found["00080018"]["Value"] == [instance]
    (found,) = room.search_for_instances(study, series)
    assert found["00080018"]["Value"] == [instance]


def test_search_with_a_parameter_of_ones_own(room):
    asked = {"additional_params": {"orderby": "StudyDate"}}
    assert len(room.search_for_studies(**asked)) == len(room.search_for_studies())


# -- metadata ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_metadata_of_study_series_and_instance(name, room, files):
    file = files[name]
    study, series, instance = uids_of(file)
    alone = room.retrieve_instance_metadata(study, series, instance)
    assert alone["00080018"]["Value"] == [instance]
    assert room.retrieve_series_metadata(study, series) == [alone]
    assert alone in room.retrieve_study_metadata(study)
    read = pydicom.Dataset.from_json(alone, bulk_data_uri_handler=lambda uri: None)
    assert read.PatientName == file.PatientName
    assert read.SOPClassUID == file.SOPClassUID


# -- retrieval ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CT_small.dcm", "examples_rgb_color.dcm", "waveform_ecg.dcm"])
def test_instances_come_as_they_were_stored(name, room, files):
    file = files[name]
    study, series, instance = uids_of(file)
    assert room.retrieve_instance(study, series, instance) == file
    assert room.retrieve_series(study, series) == [file]
    assert room.retrieve_study(study) == [file]
    assert list(room.iter_series(study, series)) == [file]
    assert list(room.iter_study(study)) == [file]


def test_an_instance_comes_in_the_syntax_that_is_asked_for(room, files):
    file = files["MR_small_RLE.dcm"]
    for syntax in (ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless):
        got = room.retrieve_instance(
            *uids_of(file), media_types=(("application/dicom", syntax),)
        )
        assert got.file_meta.TransferSyntaxUID == syntax
        assert (got.pixel_array == file.pixel_array).all()
        assert got.SOPInstanceUID == file.SOPInstanceUID


def test_frames(room, files):
    file = files["rtdose.dcm"]
    frames = file.pixel_array
    got = room.retrieve_instance_frames(*uids_of(file), frame_numbers=[1, 3, 15])
    assert got == [frames[index].tobytes() for index in (0, 2, 14)]
    assert list(room.iter_instance_frames(*uids_of(file), frame_numbers=[15, 3])) == [
        frames[14].tobytes(),
        frames[2].tobytes(),
    ]


@pytest.mark.parametrize(
    ("media_type", "begins"),
    [
        (("application/octet-stream", "1.2.840.10008.1.2.1"), None),
        (("image/jls", "1.2.840.10008.1.2.4.80"), b"\xff\xd8\xff\xf7"),
        (("image/jp2", "1.2.840.10008.1.2.4.90"), b"\xff\x4f\xff\x51"),
        (("image/x-dicom-rle", "1.2.840.10008.1.2.5"), b"\2\0\0\0"),
        (("image/dicom-rle", "1.2.840.10008.1.2.5"), b"\2\0\0\0"),
    ],
)
def test_frames_in_a_syntax(media_type, begins, room, files):
    file = files["CT_small.dcm"]
    (frame,) = room.retrieve_instance_frames(
        *uids_of(file), frame_numbers=[1], media_types=(media_type,)
    )
    if begins is None:
        assert frame == file.PixelData
    else:
        assert frame.startswith(begins)


def test_bulk_data(room, files):
    file = files["CT_small.dcm"]
    metadata = room.retrieve_instance_metadata(*uids_of(file))
    url = metadata["7FE00010"]["BulkDataURI"]
    assert room.retrieve_bulkdata(url) == [file.PixelData]
    assert list(room.iter_bulkdata(url)) == [file.PixelData]
    types = ("application/octet-stream",)
    assert room.retrieve_bulkdata(url, media_types=types) == [file.PixelData]
    # This client asks for multipart, of which a range is no part: the whole is right.
    (part,) = room.retrieve_bulkdata(url, byte_range=(0, 99))
    assert part in (file.PixelData[:100], file.PixelData)


def image_of(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body))


@pytest.mark.parametrize(
    ("media_type", "kind"), [("image/png", "PNG"), ("image/jpeg", "JPEG"), ("image/gif", "GIF")]
)
def test_rendered(media_type, kind, room, files):
    file = files["CT_small.dcm"]
    types = (media_type,)
    study, series, instance = uids_of(file)
    for body in (
        room.retrieve_instance_rendered(study, series, instance, media_types=types),
        room.retrieve_instance_frames_rendered(
            study, series, instance, frame_numbers=[1], media_types=types
        ),
    ):
        assert image_of(body).format == kind
        assert image_of(body).size == (128, 128)


def test_rendered_as_asked(room, files):
    asked = {"window": "40,400,linear", "viewport": "64,32"}
    body = room.retrieve_instance_rendered(
        *uids_of(files["CT_small.dcm"]), media_types=("image/png",), params=asked
    )
    # The image keeps its shape within the viewport (PS3.18 §8.3.5.1.3).
    assert image_of(body).size == (32, 32)


def test_a_series_is_rendered(room, files):
    study, series, _ = uids_of(files["CT_small.dcm"])
    body = room.retrieve_series_rendered(study, series, media_types=("image/png",))
    assert body


# -- store and delete --------------------------------------------------------------------------


def copies(count: int) -> list[pydicom.Dataset]:
    study, series = generate_uid(), generate_uid()
    made = []
    for number in range(count):
        dataset = pydicom.dcmread(wheel_file("CT_small.dcm"))
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber = number + 1
        made.append(dataset)
    return made


def test_many_instances_are_stored_at_once(web):
    made = copies(20)
    answer = web.store_instances(made)
    assert {item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence} == {
        dataset.SOPInstanceUID for dataset in made
    }
    assert answer.RetrieveURL.endswith(f"/dicom-web/studies/{made[0].StudyInstanceUID}")
    (series,) = web.search_for_series(made[0].StudyInstanceUID)
    assert series["00201209"]["Value"] == [20]


def test_an_instance_of_another_study_is_told(web):
    first, (other,) = copies(1), copies(1)
    answer = web.store_instances([*first, other], first[0].StudyInstanceUID)
    (failed,) = answer.FailedSOPSequence
    assert failed.ReferencedSOPInstanceUID == other.SOPInstanceUID
    assert len(answer.ReferencedSOPSequence) == 1


def test_instance_series_and_study_are_deleted(web):
    first, second, third = copies(3)
    (other,) = copies(1)
    web.store_instances([first, second, third, other])
    web.delete_instance(*uids_of(first))
    assert len(web.search_for_instances(first.StudyInstanceUID)) == 2
    web.delete_series(*uids_of(first)[:2])
    assert (
        web.search_for_studies(search_filters={"StudyInstanceUID": first[0x20000D].value}) == []
    )
    web.delete_study(other.StudyInstanceUID)
    assert web.search_for_studies() == []
    with pytest.raises(HTTPError, match="404"):
        web.delete_study(other.StudyInstanceUID)


def test_what_is_not_there_is_404(web):
    with pytest.raises(HTTPError, match="404"):
        web.retrieve_instance("1.2.3", "1.2.4", "1.2.5")
    with pytest.raises(HTTPError, match="404"):
        web.retrieve_study_metadata("1.2.3")
