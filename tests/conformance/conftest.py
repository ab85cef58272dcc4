"""One file per clause of PS3.18; most ask one archive that holds the wheel's real files."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from archive.assembly import Archive
from archive.errors import ArchiveError
from archive.identity import InstanceRef
from tests.conftest import http_client, make_config, running_archive, store


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
