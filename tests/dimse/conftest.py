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
def dicom(engine, tmp_path, sink_port):
    """A DICOM server over a real archive, on either engine."""
    config = make_config(
        tmp_path / "data",
        dimse=DimseSection(
            port=0,
            engine=engine,
            network_timeout_s=10,
            peers=(
                Peer(ae_title="SINK", host="127.0.0.1", port=sink_port),
                Peer(ae_title="NORTH", host="127.0.0.1", port=1, site="north"),
            ),
        ),
    )
    with running_dicom(config) as server:
        yield server


@contextlib.contextmanager
def running_dicom(config):
    """A DICOM server over a real archive."""
    with running_archive(config) as archive:
        listening = listening_socket()
        server = DicomServer(archive, listening)
        thread = threading.Thread(target=server.serve)
        thread.start()
        yield server
        server.stop()
        thread.join()
        listening.close()
