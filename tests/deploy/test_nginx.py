"""nginx before two nodes on one PostgreSQL, from deploy/nginx: what passes, and goes on."""

import re
import threading

import httpx
import numpy as np
import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from tests.builders import dataset, part10
from tests.conftest import wait_until
from tests.deploy import front
from tests.endtoend.test_durability import DimseSender, StowSender
from tests.endtoend.test_takeover import nodes

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("endtoend")]

DICOM = {"Content-Type": "application/dicom"}


@pytest.fixture(scope="module")
def cluster_of_two(postgres_cluster, tmp_path_factory):
    """Two nodes that run, and nginx before them."""
    folder = tmp_path_factory.mktemp("two")
    front.program()
    with nodes(postgres_cluster, folder) as pair:
        for node in pair:
            node.start()
        with front.running(folder / "nginx", pair) as opened:
            yield opened, pair


def stored(node, protocol: str) -> int:
    """How many instances a node has taken in itself."""
    text = httpx.get(f"{node.url}/metrics", timeout=20).text
    pattern = rf'fileroom_instances_stored_total{{.*protocol="{protocol}".*}} ([0-9.]+)'
    return sum(int(float(count)) for count in re.findall(pattern, text))


def test_nginx_takes_the_settings_as_they_are(tmp_path):
    front.checked(front.lay_out(tmp_path / "nginx"))


def test_nginx_takes_the_settings_of_compose(tmp_path):
    if front.version() < (1, 27, 3):
        pytest.skip("NOT TESTED: this nginx is older than 1.27.3, which first knew `resolve`")
    front.checked(front.lay_out(tmp_path / "nginx", **{"include nodes/": "include compose/"}))


def test_a_large_instance_goes_in_and_out_and_in_ranges(cluster_of_two):
    proxy, _ = cluster_of_two
    pixels = np.arange(24 << 20, dtype=np.uint16).tobytes()
    made = dataset("2.25.9", "2.25.9.1", "2.25.9.1.1", Rows=6144, Columns=4096)
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation, made.PixelData = 15, 0, pixels
    body = part10(made)
    studies = f"{proxy.url}/dicom-web/studies"
    answer = httpx.post(studies, content=body, headers=DICOM, timeout=120)
    assert answer.status_code == 200, answer.text
    (link,) = re.findall(r'"(http[^"]+/instances/[^"]+)"', answer.text)
    assert link.startswith(f"{studies}/2.25.9/")
    accept = {"Accept": "application/dicom; transfer-syntax=*"}
    got = httpx.get(link, headers=accept, timeout=120)
    assert got.status_code == 200
    assert got.content == body
    part = httpx.get(link, headers=accept | {"Range": "bytes=40000000-40000999"}, timeout=120)
    assert part.status_code == 206
    assert part.content == body[40_000_000:40_001_000]


def test_links_lead_back_through_nginx(cluster_of_two):
    proxy, _ = cluster_of_two
    for number in (1, 2, 3):
        body = part10(dataset("2.25.8", "2.25.8.1", f"2.25.8.1.{number}"))
        answer = httpx.post(f"{proxy.url}/dicom-web/studies", content=body, headers=DICOM)
        assert answer.status_code == 200
    found = httpx.get(f"{proxy.url}/dicom-web/instances", params={"StudyInstanceUID": "2.25.8"})
    urls = [one["00081190"]["Value"][0] for one in found.json()]
    assert len(urls) == 3
    for url in urls:
        assert url.startswith(f"{proxy.url}/dicom-web/studies/2.25.8/")
    page, seen = f"{proxy.url}/api/changes?limit=1", 0
    while page:
        assert page.startswith(proxy.url)
        answer = httpx.get(page)
        assert answer.status_code == 200
        seen += len(answer.json()["changes"])
        page = answer.links.get("next", {}).get("url")
    assert seen >= 3


def test_what_one_node_counts_is_not_shown_for_all(cluster_of_two):
    proxy, _ = cluster_of_two
    assert httpx.get(f"{proxy.url}/metrics").status_code == 404
    assert httpx.get(f"{proxy.url}/health/ready").status_code == 200


def test_searches_are_not_in_nginx_logs(cluster_of_two):
    proxy, _ = cluster_of_two
    asked = httpx.get(f"{proxy.url}/dicom-web/studies", params={"PatientName": "Unspeakable"})
    assert asked.status_code == 200
    logs = [proxy.place / "access.log", proxy.place / "error.log"]
    wait_until(lambda: "nginx.request" in logs[0].read_text(), what="a line of the log")
    for log in logs:
        assert "Unspeakable" not in log.read_text()


def test_associations_go_to_both_nodes(cluster_of_two):
    proxy, pair = cluster_of_two
    for number in range(1, 5):
        made = dataset("2.25.7", "2.25.7.1", f"2.25.7.1.{number}")
        part10(made)  # gives it its file meta information
        contexts = [
            build_context(Verification),
            build_context(made.SOPClassUID, [made.file_meta.TransferSyntaxUID]),
        ]
        association = AE().associate(
            "127.0.0.1", proxy.dicom_port, contexts, ae_title="FILEROOM"
        )
        assert association.is_established
        assert association.send_c_echo().Status == 0
        assert association.send_c_store(made).Status == 0
        association.release()
    counts = [stored(node, "C-STORE") for node in pair]
    assert sum(counts) == 4
    assert all(counts), counts


class Reader(threading.Thread):
    """Asks without end, and remembers what it got."""

    def __init__(self, url: str, stopping: threading.Event) -> None:
        super().__init__()
        self.url, self.stopping = f"{url}/dicom-web/studies?limit=5", stopping
        self.statuses: list[int] = []
        self.broken_off = 0

    def run(self) -> None:
        while not self.stopping.wait(0.02):
            try:
                self.statuses.append(httpx.get(self.url, timeout=60).status_code)
            except httpx.HTTPError:
                self.broken_off += 1  # in the middle of an answer: nobody can begin it again


# pynetdicom's own sender leaves sockets to the garbage collector when its peer is killed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_node_is_killed_and_requests_go_on(cluster_of_two):
    proxy, (first, second) = cluster_of_two
    stopping = threading.Event()
    readers = [Reader(proxy.url, stopping) for _ in range(2)]
    senders = [kind(proxy, n, stopping) for n, kind in enumerate(
        (DimseSender, DimseSender, StowSender, StowSender), start=100)]  # fmt: skip
    for thread in (*readers, *senders):
        thread.start()
    try:
        _goes_on(readers, senders)
        first.kill()
        _goes_on(readers, senders)
        before = stored(second, "C-STORE")
        wait_until(lambda: stored(second, "C-STORE") > before, 60, "a C-STORE at the other")
        first.start()
        taken = stored(first, "C-STORE") + stored(first, "STOW-RS")
        wait_until(
            lambda: stored(first, "C-STORE") + stored(first, "STOW-RS") > taken,
            60,
            "the first node to be given work again",
        )
    finally:
        stopping.set()
        for thread in (*readers, *senders):
            thread.join(60)
    for reader in readers:
        assert set(reader.statuses) == {200}
        assert reader.broken_off <= 1
    for sender in senders:
        found = httpx.get(
            f"{proxy.url}/dicom-web/instances",
            params={"StudyInstanceUID": f"2.25.{sender.number}", "limit": 100_000},
            timeout=120,
        )
        seen = {one["00080018"]["Value"][0] for one in found.json()}
        assert sender.acknowledged
        assert sender.acknowledged.keys() <= seen


def _goes_on(readers, senders) -> None:
    """Wait until each of them had several more answers."""
    read = [len(reader.statuses) for reader in readers]
    sent = [len(sender.acknowledged) for sender in senders]
    wait_until(
        lambda: all(
            len(r.statuses) > n + 3 for r, n in zip(readers, read, strict=True)
        ) and all(len(s.acknowledged) > n + 3 for s, n in zip(senders, sent, strict=True)),
        90,
        "everyone to go on",
    )  # fmt: skip
