"""Object stores, each on a real disk or server, and what a process needs to open the same."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.objects.base import ObjectStore
from storage.objects.opening import open_store
from storage.objects.settings import BucketSettings


@dataclass(frozen=True)
class Place:
    """Where the objects of a test lie."""

    settings: BucketSettings
    local: Path
    environment: dict[str, str]

    def open(self, **options) -> ObjectStore:
        """Open it, as another node would with another ``local``."""
        return open_store(self.settings, options.pop("local", self.local), **options)


@pytest.fixture
def place(request, tmp_path, monkeypatch) -> Place:
    """Where a store is opened: the parameter says which."""
    kind = request.param.partition("-")[0]
    if kind == "disk":
        return Place(BucketSettings("disk"), tmp_path / "store", {})
    server = request.getfixturevalue(kind)
    for name, value in server.environment.items():
        if name.startswith(("AWS_", "AZURE_")):
            monkeypatch.setenv(name, value)
    settings = BucketSettings(
        f"{server.scheme}://{server.make_bucket()}/a/prefix",
        endpoint=server.endpoint,
        region=server.region,
        allow_http=True,
        deadline_s=3,
    )
    return Place(settings, tmp_path / "store", server.environment)


@pytest.fixture
def store(place, request) -> ObjectStore:
    """The store itself."""
    cached = "cached" in request.node.callspec.params["place"]
    return place.open(cache_bytes=100_000_000 if cached else 0)
