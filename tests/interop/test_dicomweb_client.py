"""The Python dicomweb-client against a running archive."""

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient

from tests.conftest import wheel_file

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("interop")]


@pytest.fixture
def web(served):
    return DICOMwebClient(f"{served.url}/dicom-web")


def test_store_search_and_retrieve(web):
    dataset = pydicom.dcmread(wheel_file("CT_small.dcm"))
    response = web.store_instances([dataset])
    assert len(response.ReferencedSOPSequence) == 1
    (study,) = web.search_for_studies(search_filters={"PatientID": "1CT1"})
    assert study["0020000D"]["Value"] == [dataset.StudyInstanceUID]
    (series,) = web.search_for_series(dataset.StudyInstanceUID)
    assert series["00080060"]["Value"] == ["CT"]
    (instance,) = web.search_for_instances(dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
    uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
    assert instance["00080018"]["Value"] == [uids[2]]
    got = web.retrieve_instance(*uids)
    assert got.PixelData == dataset.PixelData
    (same,) = web.retrieve_series(*uids[:2])
    assert same.SOPInstanceUID == uids[2]
    metadata = web.retrieve_instance_metadata(*uids)
    assert metadata["00280010"]["Value"] == [128]
    (frame,) = web.retrieve_instance_frames(*uids, frame_numbers=[1])
    assert frame == dataset.PixelData
    rendered = web.retrieve_instance_rendered(*uids, media_types=("image/png",))
    assert rendered.startswith(b"\x89PNG")
