"""Real archives with their objects in a real bucket: its failures, and several nodes."""

import gc
import io
import json
import threading
from http import HTTPStatus

import httpx
import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from archive.assembly import open_archive
from archive.auth.principal import OPERATOR
from archive.query.request import Level, SearchRequest
from tests.builders import dataset, part10
from tests.conftest import (
    Served,
    http_client,
    make_config,
    new_database,
    on_disk,
    running_archive,
    store,
    wheel_file,
)
from tests.dimse.conftest import running_dicom
from tests.endtoend.test_durability import DimseSender, StowSender
from tests.servers.bucket_server import NotInstalledError
from tests.servers.swift import SwiftServer

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("buckets"), on_disk]

DICOM = {"Content-Type": "application/dicom"}
CT = wheel_file("CT_small.dcm")


@pytest.fixture
def bucket(swift, monkeypatch):
    """The address of an empty bucket, and its credentials in the environment."""
    for name, value in swift.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{swift.make_bucket()}/objects"


def test_serve_says_in_one_message_why_a_bucket_cannot_be_used(bucket, tmp_path):
    server = Served(tmp_path / "data", FILEROOM_STORAGE__URL="s3://no-such-bucket")
    server.data_dir.mkdir()
    for command in (("serve",), ("status",)):
        ended = server.command(*command, check=False)
        assert ended.returncode == 1
        said = " ".join(ended.stderr.split())
        assert "[storage] url = 's3://no-such-bucket' cannot be used" in said
        assert "make the bucket, or correct [storage] url" in said
        assert "Traceback" not in said
    ended = server.command("doctor", "--json", check=False)
    (found,) = [one for one in json.loads(ended.stdout) if one["subject"] == "Objects"]
    assert not found["sound"]
    assert "NoSuchBucket" in found["text"]


def test_the_doctor_writes_and_reads_and_leaves_nothing(bucket, tmp_path):
    server = Served(tmp_path / "data", FILEROOM_STORAGE__URL=bucket)
    server.data_dir.mkdir()
    found = json.loads(server.command("doctor", "--json", check=False).stdout)
    assert {"subject": "Objects", "sound": True} in [
        {name: one[name] for name in ("subject", "sound")} for one in found
    ]
    with running_archive(make_config(tmp_path / "other", storage={"url": bucket})) as archive:
        assert list(archive.objects.walk("probe")) == []


def test_while_the_server_is_away_nothing_is_acknowledged_and_nothing_is_lost(
    tmp_path, tmp_path_factory, monkeypatch
):
    folder = tmp_path_factory.mktemp("own")
    try:
        server = SwiftServer(folder)
    except NotInstalledError as error:
        pytest.skip(f"NOT TESTED: {error}")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    try:
        storage = {"url": f"s3://{server.make_bucket()}", "deadline_s": 1}
        config = make_config(tmp_path / "data", storage=storage)
        with running_dicom(config) as dicom, http_client(dicom._archive) as client:
            kept = store(dicom._archive, CT).ref
            seen = store(dicom._archive, wheel_file("MR_small.dcm")).ref
            assert client.get(frames(seen)).status_code == 200  # it is in the cache now
            server.stop()
            answer = client.post("/studies", content=other(1), headers=DICOM)
            assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
            assert answer.headers["retry-after"]
            assert c_store(dicom.port) == 0xA700
            assert client.get(frames(kept)).status_code == HTTPStatus.SERVICE_UNAVAILABLE
            assert client.get(frames(seen)).status_code == 200
            assert len(client.get("/studies").json()) == 2
            server.start()
            assert client.post("/studies", content=other(1), headers=DICOM).status_code == 200
            assert c_store(dicom.port) == 0
            assert client.get(frames(kept)).status_code == 200
            assert dicom._archive.verifier.verify(grace_s=0).sound
    finally:
        server.stop()


def other(number: int) -> bytes:
    """The same CT under another UID."""
    return part10(dataset("1.2", "1.2.3", f"1.2.3.{number}"))


def frames(ref) -> str:
    return (
        f"/studies/{ref.study_instance_uid}/series/{ref.series_instance_uid}"
        f"/instances/{ref.sop_instance_uid}/frames/1"
    )


def c_store(port: int) -> int:
    made = pydicom.dcmread(io.BytesIO(part10(dataset("1.2", "1.2.3", "1.2.3.2"))))
    context = build_context(made.SOPClassUID, ["1.2.840.10008.1.2.1"])
    association = AE("CT1").associate("127.0.0.1", port, [context], ae_title="FILEROOM")
    try:
        return association.send_c_store(made).Status
    finally:
        association.release()


# -- several nodes -----------------------------------------------------------------------------


# pynetdicom's own sender leaves sockets to the garbage collector when its peer is killed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_two_nodes_share_index_and_bucket_and_one_may_die(bucket, postgres_cluster, tmp_path):
    shared = {
        "FILEROOM_STORAGE__URL": bucket,
        "FILEROOM_INDEX__URL": new_database(postgres_cluster).replace("+psycopg", ""),
    }
    nodes = [Served(tmp_path / name, **shared) for name in ("one", "two")]
    stopping = threading.Event()
    senders = [
        kind(nodes[number % 2], number, stopping)
        for number, kind in enumerate((DimseSender, DimseSender, StowSender, StowSender), 1)
    ]
    for node in nodes:
        node.start()
    try:
        _stored_here_is_read_there(*nodes)
        for sender in senders:
            sender.start()
        threading.Event().wait(3)
        nodes[0].kill()
        before = [len(sender.acknowledged) for sender in senders]
        threading.Event().wait(3)
        stopping.set()
        for sender in senders:
            sender.join()
        survivors = [s for s in senders if s.server is nodes[1]]
        assert all(
            len(s.acknowledged) > count
            for s, count in zip(senders, before, strict=True)
            if s in survivors
        ), "the other node did not go on"
        acknowledged = {uid for sender in senders for uid in sender.acknowledged}
        assert acknowledged <= _visible(nodes[1])
        # What the dead one had put and not indexed: its own journal tells when it is back.
        nodes[0].start()
        assert acknowledged <= _visible(nodes[0])
        _assert_sound(nodes[1], acknowledged)
    finally:
        stopping.set()
        for node in nodes:
            if node.process.poll() is None:
                node.stop()
    gc.collect()


def _stored_here_is_read_there(here: Served, there: Served) -> None:
    body = CT.read_bytes()
    answer = httpx.post(
        f"{here.url}/dicom-web/studies", content=body, headers=DICOM, timeout=30
    )
    url = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    at_the_other = url.replace(here.url, there.url)
    accept = {"Accept": "application/dicom; transfer-syntax=*"}
    assert httpx.get(at_the_other, headers=accept, timeout=30).content == body


def _visible(node: Served) -> set[str]:
    found = httpx.get(f"{node.url}/dicom-web/instances?limit=100000", timeout=60).json()
    return {one["00080018"]["Value"][0] for one in found}


def _assert_sound(node: Served, acknowledged: set[str]) -> None:
    config = make_config(
        node.data_dir,
        storage={"url": node.environment["FILEROOM_STORAGE__URL"]},
        index={"url": node.environment["FILEROOM_INDEX__URL"]},
    )
    with open_archive(config) as archive:
        report = archive.verifier.verify(grace_s=0)
        assert (report.lost, report.corrupt, report.orphans) == ([], [], [])
        matches = archive.query.search(OPERATOR, SearchRequest(Level.INSTANCE))
        assert acknowledged <= {match["00080018"]["Value"][0] for match in matches}
        changes = archive.changes.since(OPERATOR, 0, limit=100_000)
        assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
