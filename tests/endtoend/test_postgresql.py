"""A real archive on a real PostgreSQL server that is stopped under it, and two first starts."""

import gc
import threading

import httpx
import pytest

from tests.conftest import Served, free_port, new_database, wait_until, wheel_file
from tests.endtoend.test_durability import DimseSender, StowSender
from tests.postgresql import Cluster

pytestmark = [
    pytest.mark.endtoend,
    pytest.mark.postgresql,
    pytest.mark.xdist_group("endtoend"),
]


@pytest.fixture
def own_cluster():
    """A server that may be stopped, and writes its log as one in use does."""
    cluster = Cluster(free_port(), fsync="on")
    cluster.start()
    yield cluster
    cluster.remove()


class Reader(threading.Thread):
    """Asks for the study list without end, and remembers the statuses it got."""

    def __init__(self, server: Served, stopping: threading.Event) -> None:
        super().__init__()
        self.server, self.stopping = server, stopping
        self.statuses: set[int] = set()

    def run(self) -> None:
        while not self.stopping.wait(0.05):
            answer = httpx.get(f"{self.server.url}/dicom-web/studies", timeout=60)
            self.statuses.add(answer.status_code)


# pynetdicom's own sender leaves sockets to the garbage collector when it is refused.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_server_is_stopped_under_load_and_nothing_acknowledged_is_lost(
    own_cluster, tmp_path
):
    url = own_cluster.url(own_cluster.new_database())
    server = Served(tmp_path / "data", FILEROOM_INDEX__URL=url)
    stopping = threading.Event()
    senders = [kind(server, n, stopping) for n, kind in enumerate(
        (DimseSender, DimseSender, StowSender, StowSender), start=1)]  # fmt: skip
    reader = Reader(server, stopping)
    server.start()
    try:
        for thread in (*senders, reader):
            thread.start()
        for mode in ("fast", "immediate"):
            _goes_on(senders)
            own_cluster.stop(mode)
            reader.statuses.clear()
            wait_until(lambda: 503 in reader.statuses, 60, "a refusal")
            assert reader.statuses <= {200, 503}
            own_cluster.start()
        _goes_on(senders)
        stopping.set()
        for thread in (*senders, reader):
            thread.join()
        acknowledged = {uid for sender in senders for uid in sender.acknowledged}
        found = httpx.get(f"{server.url}/dicom-web/instances?limit=100000", timeout=60).json()
        assert acknowledged <= {one["00080018"]["Value"][0] for one in found}
        report = server.command("verify", "--json", check=False)
        assert report.returncode == 0, report.stdout + report.stderr
    finally:
        stopping.set()
        assert server.stop() == 0
    gc.collect()


def _goes_on(senders) -> None:
    """Wait until each of them has had something acknowledged."""
    before = [len(sender.acknowledged) for sender in senders]
    wait_until(
        lambda: all(
            len(sender.acknowledged) > count
            for sender, count in zip(senders, before, strict=True)
        ),
        90,
        "an acknowledgement for each sender",
    )


def test_two_nodes_that_first_start_at_once_share_one_new_index(postgres_cluster, tmp_path):
    shared = new_database(postgres_cluster)
    nodes = [Served(tmp_path / name, FILEROOM_INDEX__URL=shared) for name in ("one", "two")]
    starting = [threading.Thread(target=node.start) for node in nodes]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()
    try:
        for node in nodes:
            assert httpx.get(f"{node.url}/health/ready", timeout=20).status_code == 200
        answer = httpx.post(
            f"{nodes[0].url}/dicom-web/studies",
            content=wheel_file("CT_small.dcm").read_bytes(),
            headers={"Content-Type": "application/dicom"},
            timeout=30,
        )
        assert answer.status_code == 200
        assert len(httpx.get(f"{nodes[1].url}/dicom-web/studies", timeout=20).json()) == 1
    finally:
        for node in nodes:
            assert node.stop() == 0
