"""Where tables are written: a folder, or a bucket; an export is there as a whole or not at all.

An export has a folder of its own. In a file system it is filled under another name and renamed
when everything is written and synced; in a bucket, which cannot rename, the manifest is written
last, and what has none is no export. ``latest.json`` names the last one that is whole.
"""

import importlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from archive.errors import InvalidRequestError, UnavailableError

MANIFEST: Final = "_manifest.json"
_LATEST: Final = "latest.json"
_UNFINISHED: Final = ".unfinished-"
_PART_BYTES: Final = 8 * 1024 * 1024
_PARTS_AT_ONCE: Final = 4


class Destination(Protocol):
    """A place for one export after the other."""

    def manifest(self, name: str) -> dict[str, Any] | None:
        """Return the manifest of export ``name``; None if it is not there, or not whole."""

    def begin(self, name: str) -> None:
        """Make room for an export; what an earlier attempt left is removed."""

    def open(self, path: str) -> Any:  # noqa: ANN401 - a file of some library
        """Open a new file of the export that was begun, to be written from begin to end."""

    def finish(self, manifest: bytes) -> None:
        """Make the export visible."""

    def place(self, name: str) -> str:
        """Return where export ``name`` is, once it is visible."""


class FolderDestination:
    """A folder of a file system.

    Parameters
    ----------
    root
        Made if missing.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._name = ""

    def manifest(self, name: str) -> dict[str, Any] | None:
        """Return the manifest of export ``name``, if it is whole."""
        with suppress(FileNotFoundError):
            found: dict[str, Any] = orjson.loads((self._root / name / MANIFEST).read_bytes())
            return found
        return None

    def begin(self, name: str) -> None:
        """Make the folder, under the name it has until it is whole."""
        self._name = name
        self._root.mkdir(parents=True, exist_ok=True)
        for left in self._root.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left)
        self._filling.mkdir()

    def open(self, path: str) -> "_SyncedFile":
        """Open a file."""
        place = self._filling / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return _SyncedFile(place)

    def finish(self, manifest: bytes) -> None:
        """Give the folder its name."""
        with self.open(MANIFEST) as file:
            file.write(manifest)
        for folder in (path for path in self._filling.rglob("*") if path.is_dir()):
            _sync(folder)
        _sync(self._filling)
        self._filling.rename(self._root / self._name)
        part = self._root / f"{_UNFINISHED}{_LATEST}"
        part.write_bytes(_latest(self._name))
        part.rename(self._root / _LATEST)
        _sync(self._root)

    def place(self, name: str) -> str:
        """Return its folder."""
        return str(self._root / name)

    @property
    def _filling(self) -> Path:
        return self._root / f"{_UNFINISHED}{self._name}"


class _SyncedFile:
    """A file that is on the disk when it is closed."""

    def __init__(self, place: Path) -> None:
        self._file = place.open("xb")

    def __enter__(self) -> "_SyncedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: Any) -> int:  # noqa: ANN401 - bytes or an Arrow buffer
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


class BucketDestination:
    """A prefix of a bucket, as ``s3://bucket/prefix``.

    Credentials, region and endpoint come from the environment, as cloud tools have them.

    Parameters
    ----------
    url
        Of the bucket and the prefix.
    store
        An object store of obstore that is used instead of the one that the URL names.
    """

    def __init__(self, url: str, store: Any = None) -> None:  # noqa: ANN401
        self._library: Any = importlib.import_module("obstore")
        self._url = url.rstrip("/")
        self._name = ""
        if store is None:
            from_url = importlib.import_module("obstore.store").from_url
            allow_http = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
            store = from_url(self._url, client_options={"allow_http": allow_http})
        self._store = store

    def manifest(self, name: str) -> dict[str, Any] | None:
        """Return the manifest of export ``name``, if it is whole."""
        try:
            body = self._library.get(self._store, f"{name}/{MANIFEST}").bytes()
        except FileNotFoundError:
            return None
        found: dict[str, Any] = orjson.loads(bytes(body))
        return found

    def begin(self, name: str) -> None:
        """Remove what an attempt that failed has left."""
        self._name = name
        for page in self._library.list(self._store, prefix=f"{name}/"):
            self._library.delete(self._store, [found["path"] for found in page])

    def open(self, path: str) -> "_Upload":
        """Open an object, which is sent in parts and there when it is closed."""
        writer = self._library.open_writer(
            self._store,
            f"{self._name}/{path}",
            buffer_size=_PART_BYTES,
            max_concurrency=_PARTS_AT_ONCE,
        )
        return _Upload(writer)

    def finish(self, manifest: bytes) -> None:
        """Write the manifest, then what names the export the latest."""
        self._library.put(self._store, f"{self._name}/{MANIFEST}", manifest)
        self._library.put(self._store, _LATEST, _latest(self._name))

    def place(self, name: str) -> str:
        """Return its URL."""
        return f"{self._url}/{name}"


class _Upload:
    """An object that is being written, as pyarrow wants a file."""

    def __init__(self, writer: Any) -> None:  # noqa: ANN401
        self._writer = writer
        self._written = 0
        self.closed = False

    def write(self, data: Any) -> int:  # noqa: ANN401
        block = bytes(data)
        self._writer.write(block)
        self._written += len(block)
        return len(block)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Nothing: a part is sent when it is full."""

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._writer.close()


def open_destination(where: str) -> Destination:
    """Return the place that a path or a URL names.

    Raises
    ------
    InvalidRequestError
        If the URL is none that a bucket has.
    UnavailableError
        If a library is missing.
    """
    if "://" not in where:
        return FolderDestination(Path(where))
    try:
        return BucketDestination(where)
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "buckets need obstore: install Fileroom with its extra, fileroom[parquet]"
        ) from error
    except Exception as error:
        raise InvalidRequestError(f"{where} is no bucket to write to: {error}") from error


def _latest(name: str) -> bytes:
    return orjson.dumps({"export": name, "manifest": f"{name}/{MANIFEST}"})


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
