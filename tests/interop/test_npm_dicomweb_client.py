"""The npm dicomweb-client, the one that OHIF and Slim are made with, run by Node.js."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest

from tests.conftest import Served, wheel_file

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("interop")]

# XMLHttpRequest is what the client sends with; Node.js has none of its own.
_PACKAGES = ("dicomweb-client@0.11.3", "xhr2@0.2.1")
_SCRIPT = Path(__file__).with_name("dicomweb_client.mjs")
_NAME = "CT_small.dcm"
_JPEG, _PNG = "ffd8ff", "89504e470d0a1a0a"


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory):
    """A folder in which the client is installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("NOT TESTED: node and npm are not on this machine")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *_PACKAGES]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
    if ended.returncode != 0:
        pytest.skip(f"NOT TESTED: npm did not install the client: {ended.stderr[-400:]}")
    return folder


@pytest.fixture(scope="session")
def stored():
    return pydicom.dcmread(wheel_file(_NAME))


@pytest.fixture(scope="session")
def results(node_folder, stored, tmp_path_factory):
    """What each method of the client gave."""
    folder = tmp_path_factory.mktemp("npm-client")
    server = Served(folder / "data")
    server.start()
    uids = (stored.StudyInstanceUID, stored.SeriesInstanceUID, stored.SOPInstanceUID)
    files = [wheel_file(name) for name in (_NAME, "MR_small_RLE.dcm")]
    written = folder / "results.json"
    ended = subprocess.run(
        ["node", _SCRIPT, f"{server.url}/dicom-web", *uids, written, *files],
        cwd=node_folder,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert server.stop() == 0
    assert ended.returncode == 0, ended.stderr
    return json.loads(written.read_text())


@pytest.fixture(params=["multipart", "singlepart"])
def gave(request, results):
    """What a method gave, with parts asked for in the one and the other way."""
    return lambda method: _given(results[f"{request.param}: {method}"])


def _given(result):
    assert "failed" not in result, result["failed"]
    return result["gave"]


def one(value):
    (only,) = value
    return only


def test_nothing_failed(results):
    assert {name: told["failed"] for name, told in results.items() if "failed" in told} == {}
    assert len(results) > 50


def test_instances_are_stored(results):
    answer = json.loads(_given(results["storeInstances"]))
    assert len(answer["00081199"]["Value"]) == 2
    again = json.loads(_given(results["storeInstances of a study"]))
    assert len(again["00081199"]["Value"]) == 1


def test_studies_series_and_instances_are_found(gave, stored):
    assert {study["0020000D"]["Value"][0] for study in gave("searchForStudies")} >= {
        stored.StudyInstanceUID
    }
    assert len(gave("searchForStudies")) == 2
    by_name = one(gave("searchForStudies by name"))
    assert by_name["00100010"]["Value"][0]["Alphabetic"].startswith("CompressedSamples")
    series = one(gave("searchForSeries"))
    assert series["0020000E"]["Value"] == [stored.SeriesInstanceUID]
    assert one(gave("searchForSeries of all"))["00080060"]["Value"] == ["CT"]
    instance = one(gave("searchForInstances"))
    assert instance["00080018"]["Value"] == [stored.SOPInstanceUID]


@pytest.mark.parametrize(
    "method", ["retrieveStudyMetadata", "retrieveSeriesMetadata", "retrieveInstanceMetadata"]
)
def test_metadata(method, gave, stored):
    metadata = one(gave(method))
    assert metadata["00280010"]["Value"] == [stored.Rows]
    assert metadata["7FE00010"]["BulkDataURI"].endswith("/bulkdata/7FE00010")


@pytest.mark.parametrize("method", ["retrieveInstance", "retrieveSeries", "retrieveStudy"])
def test_instances_come_as_they_were_stored(method, gave):
    given = gave(method)
    instance = given if isinstance(given, dict) else one(given)
    content = wheel_file(_NAME).read_bytes()
    assert instance["bytes"] == len(content)
    assert instance["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "method",
    ["retrieveInstanceFrames", "retrieveInstanceFrames as *",
     "retrieveInstanceFrames as 1.2.840.10008.1.2.1", "retrieveBulkData"],
)  # fmt: skip
def test_pixels_come_uncompressed(method, gave, stored):
    frame = one(gave(method))
    assert frame["sha256"] == hashlib.sha256(stored.PixelData).hexdigest()


@pytest.mark.parametrize(
    ("syntax", "begins"),
    [
        ("1.2.840.10008.1.2.4.80", "ffd8fff7"),  # JPEG-LS: SOI, SOF55
        ("1.2.840.10008.1.2.4.90", "ff4fff51"),  # JPEG 2000: SOC, SIZ
        ("1.2.840.10008.1.2.5", "02000000"),  # RLE: two segments
    ],
)
def test_pixels_come_compressed_as_asked(syntax, begins, gave):
    frame = one(gave(f"retrieveInstanceFrames as {syntax}"))
    assert frame["head"].startswith(begins)
    assert frame["bytes"] < 32768


@pytest.mark.parametrize("method", [
    "retrieveInstanceRendered", "retrieveInstanceThumbnail", "retrieveInstanceFramesRendered",
    "retrieveInstanceFramesThumbnail",
])  # fmt: skip
@pytest.mark.parametrize(("media_type", "begins"), [("image/png", _PNG), ("image/jpeg", _JPEG)])
def test_rendered(method, media_type, begins, gave):
    given = gave(f"{method} {media_type}")
    image = given if isinstance(given, dict) else one(given)
    assert image["head"].startswith(begins)


def test_rendered_in_a_window_and_a_viewport(gave):
    given = gave("retrieveInstanceRendered windowed")
    image = given if isinstance(given, dict) else one(given)
    # Width and height of the PNG's header chunk.
    assert image["head"][32:48] == "0000004000000040"
