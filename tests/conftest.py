"""What every test may ask for."""

import asyncio
import contextlib
import hashlib
import itertools
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pydicom
import pydicom.data
import pytest
from pynetdicom.association import Association

from archive.assembly import Archive, open_archive, open_objects, prepare
from archive.auth.principal import OPERATOR
from archive.config import (
    ArchiveSection,
    Config,
    DimseSection,
    HttpSection,
    IndexSection,
    RenderSection,
)
from archive.ingest.incoming import Incoming, Source
from dicomweb.worker import Server, server_settings
from storage.objects.spool import Room
from tests import postgresql

REPOSITORY = Path(__file__).resolve().parent.parent
PYDICOM_DATA = Path(pydicom.data.__file__).resolve().parent
SOURCE = Source(site="north", collection="default", protocol="import", principal="operator")

# How fast examples are made and looked at says only how busy the machine is.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")

# Broken values in real files are the point of many tests; pydicom's word on them is not.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


@pytest.fixture(scope="session")
def shared_dicom() -> Path:
    """The folder of 215 real DICOM files that lies beside the repository, where it does."""
    folder = REPOSITORY.parent / "shared" / "data" / "dicom"
    if not (folder / "manifest.csv").is_file():
        pytest.skip("NOT TESTED: the real-file collection ../shared/data/dicom is not here")
    return folder


def wheel_file(name: str) -> Path:
    """A real file that pydicom's wheel carries."""
    return next(PYDICOM_DATA.glob(f"*/{name}"))


@pytest.fixture(scope="session")
def wheel_files() -> list[Path]:
    """Every real DICOM file that pydicom's wheel carries, in a stable order."""
    folders = [PYDICOM_DATA / "test_files", PYDICOM_DATA / "charset_files"]
    return sorted(path for folder in folders for path in folder.glob("*.dcm"))


class _SteadyCheckpoint(threading.Event):
    """Lets pynetdicom's requestor pause its reactor only when it runs.

    Between two requests the reactor is told to go on; if the next request comes before its
    thread has woken up, that takes it for paused already, and the reactor then takes the answer
    as a message that nobody waits for.
    """

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._association = association

    def clear(self) -> None:
        of, end = self._association, time.monotonic() + 5
        while self.is_set() and of._is_paused and of.is_alive() and time.monotonic() < end:
            time.sleep(0.001)
        super().clear()


@pytest.fixture(scope="session", autouse=True)
def steady_requestors() -> Iterator[None]:
    """pynetdicom as a client, without its race between requests on one association."""
    init = Association.__init__

    def steady(self: Association, *arguments: object, **named: object) -> None:
        init(self, *arguments, **named)
        if type(self) is Association:
            self._reactor_checkpoint = _SteadyCheckpoint(self)
            self._reactor_checkpoint.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Association, "__init__", steady)
        yield


def objects_url(data_dir: Path) -> str:
    """Where a test's objects lie: on disk, or in a bucket (`python -m tests.servers`)."""
    bucket = os.environ.get("TEST_BUCKET")
    name = hashlib.blake2s(str(data_dir).encode(), digest_size=10).hexdigest()
    return f"{bucket}/{name}" if bucket else "disk"


def make_config(data_dir: Path, **sections) -> Config:
    """Settings for a test: its own folder, any port, small pools."""
    defaults = {
        "storage": {"url": objects_url(data_dir)},
        "archive": ArchiveSection(data_dir=data_dir, keep_free_bytes=0, drain_timeout_s=5),
        "http": HttpSection(port=0, workers=1),
        "dimse": DimseSection(port=0, workers=1, network_timeout_s=20),
        "render": RenderSection(workers=1),
    }
    if postgresql.EVERYWHERE and "index" not in sections:
        defaults["index"] = IndexSection(url=postgresql.index_url(data_dir))
    return Config(**(defaults | sections))


@pytest.fixture
def config(tmp_path) -> Config:
    return make_config(tmp_path / "data")


@contextlib.contextmanager
def running_archive(config: Config) -> Iterator[Archive]:
    prepare(config)
    with open_archive(config) as archive:
        yield archive


@pytest.fixture
def archive(config) -> Iterator[Archive]:
    """A real archive in a folder of its own."""
    with running_archive(config) as opened:
        yield opened


def store(archive: Archive, body: bytes | Path):
    """Take one file in, as the operator does."""
    content = body.read_bytes() if isinstance(body, Path) else body
    return archive.ingest.store(OPERATOR, Incoming(content, SOURCE))


def fill_up(archive: Archive, keep_free_bytes: int = 1 << 62) -> None:
    """Have the volume count as full; with 0 as having room again."""
    archive.objects._room = Room(archive.config.archive.data_dir, keep_free_bytes)


def spoil(archive: Archive, key: str, change) -> None:
    """Put what ``change`` makes of an object in its place, behind everybody's back."""
    body = archive.objects.read(key, 0, archive.objects.size(key))
    archive.objects.delete(key)
    archive.objects.put(key, change(body))


def object_files(data_dir: Path) -> list[Path]:
    """Every instance of an archive as a file: its own, or one read from the bucket."""
    if "TEST_BUCKET" not in os.environ:
        return list((data_dir / "objects").rglob("*.dcm"))
    objects, folder = open_objects(make_config(data_dir)), data_dir / "read-back"
    folder.mkdir(exist_ok=True)
    files = []
    for one in objects.walk("objects"):
        files.append(folder / one.key.rpartition("/")[2])
        files[-1].write_bytes(objects.read(one.key, 0, one.size_bytes))
    return files


# What looks at the files of the disk store, or spoils them.
on_disk = pytest.mark.skipif(
    "TEST_BUCKET" in os.environ, reason="of files on disk: objects lie in a bucket here"
)


def listening_socket() -> socket.socket:
    """A listening socket on a free port of the loopback interface."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    return listening


@contextlib.contextmanager
def http_client(archive: Archive) -> Iterator[httpx.Client]:
    """An HTTP client of a real server on a real socket; paths count from /dicom-web."""
    listening = listening_socket()
    server = Server(server_settings(archive))
    server.capture_signals = contextlib.nullcontext
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    base = f"http://127.0.0.1:{listening.getsockname()[1]}/dicom-web"
    try:
        with httpx.Client(base_url=base, timeout=120) as opened:
            yield opened
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def _ports() -> Iterator[int]:
    """Ports that no outgoing connection is given, and no other worker of the tests tries."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    block = range(12_000 + worker * 1_250, 12_000 + (worker + 1) * 1_250)
    for offset in itertools.count(random.randrange(len(block))):
        yield block[offset % len(block)]


_candidates = _ports()


def free_port() -> int:
    """A port that nobody uses, and that nobody is given while nobody listens on it.

    The kernel gives the ports that it names itself to outgoing connections too: a server that
    starts a moment later would now and then find a stranger there.
    """
    for port in _candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise AssertionError("unreachable: the ports go round")


def wait_until(condition, timeout_s: float = 60.0, what: str = "it"):
    """Ask again until ``condition`` gives something true."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if result := condition():
            return result
        threading.Event().wait(0.05)
    pytest.fail(f"waited {timeout_s} s in vain for {what}")
    return None


def on_event_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a loop of its own, in a thread: in this one a browser's may run."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


class Served:
    """A real `fileroom serve` in a process of its own."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.options: tuple[str, ...] = ()
        self.http_port, self.dicom_port = free_port(), free_port()
        self.environment = os.environ | {
            "FILEROOM_ARCHIVE__DATA_DIR": str(data_dir),
            "FILEROOM_ARCHIVE__KEEP_FREE_BYTES": "0",
            "FILEROOM_ARCHIVE__DRAIN_TIMEOUT_S": "10",
            "FILEROOM_HTTP__PORT": str(self.http_port),
            "FILEROOM_HTTP__WORKERS": "2",
            "FILEROOM_DIMSE__PORT": str(self.dicom_port),
            "FILEROOM_DIMSE__WORKERS": "2",
            "FILEROOM_RENDER__WORKERS": "1",
            "FILEROOM_STORAGE__URL": objects_url(data_dir),
            "PYTHONPATH": str(REPOSITORY),
            **environment,
        }
        if postgresql.EVERYWHERE and "FILEROOM_INDEX__URL" not in environment:
            self.environment["FILEROOM_INDEX__URL"] = postgresql.index_url(data_dir)
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def start(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.log = (self.data_dir / "serve.log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "archive", "serve", *self.options],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=self.data_dir,
        )
        try:
            wait_until(self._ready, 180, "readiness")
        except BaseException:  # nobody else would end it
            self.kill()
            raise

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            log = (self.data_dir / "serve.log").read_text()[-3000:]
            pytest.fail(f"serve ended with {self.process.returncode}: {log}")
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except (OSError, httpx.HTTPError):
            return False

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.communicate(timeout=30)
        finally:
            self.log.close()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL, as a power cut of the process would be."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "archive", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=check,
            cwd=self.data_dir,
            timeout=120,
        )


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    """A running archive, stopped at the end."""
    server = Served(tmp_path / "data")
    server.start()
    yield server
    if server.process is not None and server.process.poll() is None:
        assert server.stop() == 0


# -- object storage ----------------------------------------------------------------------------


def _started(kind: str, folder: Path):
    """Start a server of buckets, where its programs are installed."""
    from tests.servers.azurite import Azurite
    from tests.servers.bucket_server import NotInstalledError
    from tests.servers.rados_gateway import RadosGateway
    from tests.servers.swift import SwiftServer

    try:
        kinds = {"swift": SwiftServer, "rados_gateway": RadosGateway, "azurite": Azurite}
        server = kinds[kind](folder)
    except NotInstalledError as error:
        pytest.skip(f"NOT TESTED: {error}")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def swift(tmp_path_factory):
    """An OpenStack Swift of our own."""
    yield from _started("swift", tmp_path_factory.mktemp("swift"))


@pytest.fixture(scope="session")
def azurite(tmp_path_factory):
    """An Azurite of our own."""
    yield from _started("azurite", tmp_path_factory.mktemp("azurite"))


@pytest.fixture(scope="session")
def rados_gateway(tmp_path_factory):
    """A RADOS Gateway of our own."""
    yield from _started("rados_gateway", tmp_path_factory.mktemp("rgw"))


# -- PostgreSQL --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_cluster() -> postgresql.Cluster:
    """A PostgreSQL server of our own, where its programs are installed."""
    return postgresql.cluster()


def new_database(cluster: postgresql.Cluster) -> str:
    """Make an empty database; return its URL."""
    return cluster.url(cluster.new_database())


@pytest.fixture
def postgres_url(postgres_cluster) -> Iterator[str]:
    """An empty database, as SQLAlchemy names it."""
    url = new_database(postgres_cluster)
    yield url.replace("://", "+psycopg://")
    postgres_cluster.drop(url.rpartition("/")[2])


@pytest.fixture(autouse=True)
def _databases_of_a_test() -> Iterator[None]:
    """Delete the databases that a test made, but not those of fixtures that outlive it."""
    known = postgresql.known()
    yield
    postgresql.forget_since(known)
