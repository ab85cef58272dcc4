"""Nodes of one role each, over one PostgreSQL database and one store of objects."""

import contextlib
import io
import json
import socket

import httpx
import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from tests.builders import dataset, part10
from tests.conftest import Served, new_database, objects_url, wait_until
from tests.dimse.sink import Sink

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("endtoend")]

ROLES = ("http", "dicom", "background")


@contextlib.contextmanager
def archive_of_roles(cluster, tmp_path, **environment):
    """A node of each role."""
    url = new_database(cluster)
    first = tmp_path / ROLES[0]
    (first / "objects").mkdir(parents=True)
    nodes = {}
    try:
        for role in ROLES:
            folder = tmp_path / role
            folder.mkdir(exist_ok=True)
            if role != ROLES[0]:
                (folder / "objects").symlink_to(first / "objects")
            nodes[role] = Served(
                folder,
                FILEROOM_ARCHIVE__ROLE=role,
                FILEROOM_INDEX__URL=url,
                FILEROOM_STORAGE__URL=objects_url(first),
                FILEROOM_HTTP__WORKERS="1",
                FILEROOM_DIMSE__WORKERS="1",
                **environment,
            )
            nodes[role].start()
        yield nodes
        assert [node.stop() for node in nodes.values()] == [0, 0, 0]
    finally:
        for node in nodes.values():
            if node.process is not None and node.process.poll() is None:
                node.kill()


def stored(port: int, made) -> int:
    """The status of a C-STORE."""
    scu = AE("CT1")
    association = scu.associate(
        "127.0.0.1", port, [build_context(made.SOPClassUID)], ae_title="FILEROOM"
    )
    try:
        return association.send_c_store(made).Status
    finally:
        association.release()


def listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def test_nodes_of_one_role_each_are_one_archive(postgres_cluster, tmp_path):
    with (
        Sink() as sink,
        archive_of_roles(
            postgres_cluster,
            tmp_path,
            FILEROOM_DIMSE__PEERS=json.dumps(
                [{"ae_title": "SINK", "host": "127.0.0.1", "port": sink.port}]
            ),
            FILEROOM_DIMSE__FORWARD=json.dumps([{"name": "all", "to": "SINK", "settle_s": 0}]),
        ) as nodes,
    ):
        web, dicom, background = nodes.values()
        assert [listens(node.dicom_port) for node in nodes.values()] == [False, True, False]

        sent = dataset("1.1", "1.1.1", "1.1.1.1")
        assert stored(dicom.dicom_port, pydicom.dcmread(io.BytesIO(part10(sent)))) == 0
        studies = httpx.get(f"{web.url}/dicom-web/studies").json()
        assert [study["0020000D"]["Value"] for study in studies] == [["1.1"]]
        wait_until(
            lambda: list(sink.got) == ["1.1.1.1"], 60, "what the background node forwards"
        )

        for node in nodes.values():
            assert httpx.get(f"{node.url}/health/live").status_code == 200
            assert httpx.get(f"{node.url}/health/ready").json()["status"] == "ready"
            assert "fileroom_" in httpx.get(f"{node.url}/metrics").text
        for node, role in ((dicom, "dicom"), (background, "background")):
            refused = httpx.get(f"{node.url}/dicom-web/studies")
            assert refused.status_code == 404
            assert f"its role is {role}" in refused.json()["detail"]
        parts = [
            json.loads((node.data_dir / "run" / "ready.json").read_text())
            for node in nodes.values()
        ]
        assert [sorted(part) for part in parts] == [
            ["http-1", "render-1"],
            ["dicom-1", "health-1", "render-1"],
            ["courier-1", "health-1", "render-1"],
        ]


def test_the_role_of_the_command_wins(tmp_path):
    server = Served(tmp_path / "data", FILEROOM_ARCHIVE__ROLE="dicom")
    server.options = ("--role", "http")
    server.start()
    try:
        assert not listens(server.dicom_port)
        body = {"content": part10(dataset("1.1", "1.1.1", "1.1.1.1"))}
        stored = httpx.post(
            f"{server.url}/dicom-web/studies",
            headers={"Content-Type": "application/dicom"},
            **body,
        )
        assert stored.status_code == 200
    finally:
        assert server.stop() == 0
