"""One file per clause of PS3.18; most ask one archive that holds the wheel's real files."""

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import httpx
import pydicom
import pytest

from archive.assembly import Archive
from archive.dicom.parse import parse_instance
from archive.dicom.part10 import read_file_meta
from archive.errors import ArchiveError
from archive.identity import InstanceRef
from tests.conformance.showcase import Showcase, fill
from tests.conftest import PYDICOM_DATA, http_client, make_config, running_archive, store


@dataclass(frozen=True)
class Room:
    """A running archive that holds real files; nobody may change what it holds."""

    archive: Archive
    client: httpx.Client
    refs: dict[str, InstanceRef]
    paths: dict[str, Path]

    def get(self, path: str, accept: str | None = None, **more) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if accept is not None:
            headers["Accept"] = accept
        return self.client.get(path, headers=headers, **more)

    def url(self, name: str) -> str:
        """Path of the instance that a file of the wheel holds."""
        ref = self.refs[name]
        return (
            f"/studies/{ref.study_instance_uid}/series/{ref.series_instance_uid}"
            f"/instances/{ref.sop_instance_uid}"
        )

    def series_url(self, name: str) -> str:
        return self.url(name).partition("/instances/")[0]

    def study_url(self, name: str) -> str:
        return self.url(name).partition("/series/")[0]


@pytest.fixture(scope="session")
def room(tmp_path_factory, wheel_files):
    """The archive that holds the real files of the wheel that can be held; only for reading."""
    config = make_config(tmp_path_factory.mktemp("room") / "data")
    with running_archive(config) as archive, http_client(archive) as client:
        refs, paths = {}, {}
        for path in wheel_files:
            with contextlib.suppress(ArchiveError):
                outcome = store(archive, path)
                if outcome.disposition == "stored":
                    refs[path.name], paths[path.name] = outcome.ref, path
        yield Room(archive, client, refs, paths)


@pytest.fixture
def client(archive):
    """A client of an empty archive of this test's own."""
    with http_client(archive) as opened:
        yield opened


def storable_files() -> list[Path]:
    """The files of the wheel that have identifiers and are Part 10 objects."""
    found = []
    for folder in ("test_files", "charset_files"):
        for path in sorted((PYDICOM_DATA / folder).glob("*.dcm")):
            body = path.read_bytes()
            with contextlib.suppress(ArchiveError):
                parse_instance(body, read_file_meta(body))
                found.append(path)
    return found


def _with_uid_of_its_own(path: Path, number: int) -> bytes:
    """The file's bytes, its SOP Instance UID made another one of the same length.

    Many of the wheel's files are one instance in several encodings, of which an archive keeps
    the first.
    """
    body = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            uid = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
        except Exception:
            return body
    own = f"2.25.{10 ** max(len(uid) - 6, 0) + number}"
    return body.replace(uid.encode(), own.encode()) if len(own) == len(uid) else body


def _filled_room(
    folder: Path, files: list[Path], archive: Archive, client: httpx.Client
) -> Room:
    refs, paths = {}, {}
    for number, path in enumerate(files):
        body = _with_uid_of_its_own(path, number)
        with contextlib.suppress(ArchiveError):
            outcome = store(archive, body)
            if outcome.disposition == "stored":
                refs[path.name], paths[path.name] = outcome.ref, folder / path.name
                paths[path.name].write_bytes(body)
    return Room(archive, client, refs, paths)


@pytest.fixture(scope="session")
def every_file(tmp_path_factory):
    """The archive that holds every file of the wheel that can be held, each on its own."""
    folder = tmp_path_factory.mktemp("every-file")
    with (
        running_archive(make_config(folder / "data")) as archive,
        http_client(archive) as client,
    ):
        yield _filled_room(folder, storable_files(), archive, client)


@pytest.fixture(scope="session")
def shared_files(tmp_path_factory, shared_dicom):
    """The archive that holds every valid file of the shared collection, each on its own."""
    folder = tmp_path_factory.mktemp("shared-files")
    files = sorted((shared_dicom / "valid").glob("*.dcm"))
    with (
        running_archive(make_config(folder / "data")) as archive,
        http_client(archive) as client,
    ):
        yield _filled_room(folder, files, archive, client)


@pytest.fixture(scope="session")
def showcase(tmp_path_factory):
    """An archive with one study of everything that can be shown; only for reading."""
    config = make_config(tmp_path_factory.mktemp("showcase") / "data")
    with running_archive(config) as archive, http_client(archive) as client:
        yield Showcase(archive, client, fill(archive))


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory):
    """A client of an archive that the tests of a module fill together."""
    config = make_config(tmp_path_factory.mktemp("shared") / "data")
    with running_archive(config) as archive, http_client(archive) as opened:
        yield opened


@pytest.fixture
def storing_client(request, shared_client):
    """A client of the module's archive, or of the test's own where it asks for `archive`."""
    if "archive" not in request.fixturenames:
        yield shared_client
        return
    with http_client(request.getfixturevalue("archive")) as opened:
        yield opened
