import contextlib
import threading

import pytest

from archive.config import DimseSection, Peer
from dimse.server import DicomServer
from tests.conftest import free_port, listening_socket, make_config, running_archive


@pytest.fixture(params=["direct", "stock"])
def engine(request) -> str:
    return request.param


@pytest.fixture
def sink_port() -> int:
    return free_port()


@pytest.fixture
def says_all(monkeypatch) -> None:
    """A pending response for each sub-operation, however soon it is done."""
    monkeypatch.setattr("dimse.retrieve._BETWEEN_S", 0.0)


@pytest.fixture
def dicom(engine, tmp_path, sink_port):
    """A DICOM server over a real archive, on either engine."""
    config = make_config(
        tmp_path / "data",
        dimse=DimseSection(
            port=0,
            engine=engine,
            network_timeout_s=10,
            keep_associations_s=10,
            peers=(
                Peer(ae_title="SINK", host="127.0.0.1", port=sink_port),
                Peer(ae_title="NORTH", host="127.0.0.1", port=1, site="north"),
            ),
        ),
    )
    with running_dicom(config) as server:
        yield server


@contextlib.contextmanager
def running_dicom(config, *, tls_port: bool = False):
    """A DICOM server over a real archive; ``tls_port``: it has a port for TLS alone."""
    with running_archive(config) as archive, contextlib.ExitStack() as sockets:
        listening = sockets.enter_context(listening_socket())
        secure = sockets.enter_context(listening_socket()) if tls_port else None
        server = DicomServer(archive, listening, secure)
        server.tls_port = secure.getsockname()[1] if secure else 0
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()
