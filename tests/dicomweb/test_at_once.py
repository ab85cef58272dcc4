"""What is answered on the event loop, or by the kernel from files, is what threads answer."""

import re
import socket
import time
from pathlib import Path

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian

from archive.auth.principal import OPERATOR
from dicomweb.express import Express
from dicomweb.sendfile import Wire
from storage.objects.disk import DiskStore
from tests.conftest import on_disk, store, wheel_file
from tests.synthetic import image, part10

FRAMES = 'multipart/related; type="application/octet-stream"'
STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_BOUNDARY = re.compile(r"boundary=([0-9a-f]{32})")
FILES = (
    "CT_small.dcm",
    "JPEG2000.dcm",
    "rtplan.dcm",
    "SC_rgb_rle.dcm",
    "rtdose.dcm",
    "MR_small_bigendian.dcm",
    "image_dfl.dcm",
)
STUDY, SERIES = "1.2.3.4", "1.2.3.4.5"


def large(number: int, rows: int = 1024):
    pixels = np.random.default_rng(number).integers(0, 4096, (rows, 1024), dtype=np.uint16)
    made = image(rows=rows, columns=1024, number_of_frames=1, bits_allocated=16)
    made.PixelData = pixels.tobytes()
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, SERIES
    made.SOPInstanceUID, made.InstanceNumber = f"{SERIES}.{number}", number
    return part10(made, ExplicitVRLittleEndian)


def plain(response) -> tuple[int, dict, bytes]:
    """An answer without what is different each time."""
    headers = {
        name: _BOUNDARY.sub("boundary=B", value)
        for name, value in response.headers.items()
        if name not in ("x-request-id", "date", "transfer-encoding", "content-length")
    }
    boundary = _BOUNDARY.search(response.headers.get("content-type", ""))
    body = (
        response.content.replace(boundary[1].encode(), b"B") if boundary else response.content
    )
    return response.status_code, headers, body


def by_threads(monkeypatch) -> None:
    monkeypatch.setattr(Express, "answer", lambda *_, **__: None)
    monkeypatch.setattr(DiskStore, "read_now", lambda *_: None)
    monkeypatch.setattr(Wire, "of", staticmethod(lambda _: None))


REQUESTS = [
    ("{i}/frames/1", FRAMES, {}),
    ("{i}/frames/1", "*/*", {}),
    ("{i}/frames/1", f"{FRAMES}; transfer-syntax=*", {}),
    ("{i}/frames/1,1", FRAMES, {}),
    ("{i}/frames/9999", FRAMES, {}),
    ("{i}/frames/1", "application/octet-stream", {"Range": "bytes=10-99"}),
    ("{i}/frames/1", "text/plain", {}),
    ("{i}", STORED, {}),
    ("{i}", 'multipart/related; type="application/dicom"', {}),
    ("{i}", "application/dicom; transfer-syntax=*", {}),
    ("{i}", "application/dicom; transfer-syntax=*", {"Range": "bytes=100-"}),
    ("{i}", "application/dicom; transfer-syntax=*", {"If-None-Match": "*"}),
    ("{i}", FRAMES, {}),
    ("{i}", "application/zip", {}),
    ("{s}", STORED, {}),
    ("{t}", STORED, {}),
    ("{i}/metadata", "application/dicom+json", {}),
    ("{s}/metadata", "application/dicom+json", {"Accept-Encoding": "gzip"}),
    ("{s}/metadata", 'multipart/related; type="application/dicom+xml"', {}),
]


def test_an_answer_from_memory_is_the_answer_of_a_thread(client, archive, monkeypatch):
    chosen = [store(archive, wheel_file(name)).ref for name in FILES]
    refs = [*chosen, store(archive, large(1)).ref]

    def answers():
        for ref in refs:
            study = f"/studies/{ref.study_instance_uid}"
            series = f"{study}/series/{ref.series_instance_uid}"
            at = {"t": study, "s": series, "i": f"{series}/instances/{ref.sop_instance_uid}"}
            for path, accept, more in REQUESTS:
                for method in ("GET", "HEAD"):
                    asked = {"Accept": accept} | more
                    answer = client.request(method, path.format(**at), headers=asked)
                    yield path, asked, plain(answer)

    first = list(answers())
    assert list(answers()) == first
    with monkeypatch.context() as patched:
        by_threads(patched)
        assert list(answers()) == first


def test_a_reader_that_pauses_gets_all_of_a_series(client, archive):
    bodies = [large(number, rows=4096) for number in range(3)]
    for body in bodies:
        store(archive, body)
    address = client.base_url
    with socket.create_connection((address.host, address.port)) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        path = f"{address.path}studies/{STUDY}/series/{SERIES}"
        opened.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\n"
            f"Accept: {STORED}\r\nConnection: close\r\n\r\n".encode()
        )
        got = bytearray(opened.recv(4096))
        time.sleep(0.3)  # longer than a thread waits for it
        while chunk := opened.recv(1 << 20):
            got += chunk
    head, _, content = bytes(got).partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(content) in head.lower()
    for body in bodies:
        assert body in content


def test_a_peer_that_goes_away_leaves_the_archive_as_it_was(client, archive):
    for number in range(3):
        store(archive, large(number, rows=4096))
    address = client.base_url
    for _ in range(50):
        with socket.create_connection((address.host, address.port)) as opened:
            path = f"{address.path}studies/{STUDY}"
            opened.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\n"
                f"Accept: {STORED}\r\n\r\n".encode()
            )
            opened.recv(100)
    answer = client.get(f"/studies/{STUDY}", headers={"Accept": STORED})
    assert len(answer.content) == int(answer.headers["content-length"])


def uids(client, path: str) -> list[str]:
    answer = client.get(path, headers={"Accept": "application/dicom+json"})
    if answer.status_code == 404:
        return []
    return [one["00080018"]["Value"][0] for one in answer.json()]


def test_metadata_are_never_those_of_a_state_that_is_gone(client, archive):
    path = f"/studies/{STUDY}/series/{SERIES}/metadata"
    first = store(archive, large(1, rows=8)).ref
    assert uids(client, path) == uids(client, path) == [f"{SERIES}.1"]
    store(archive, large(2, rows=8))
    assert uids(client, path) == uids(client, path) == [f"{SERIES}.1", f"{SERIES}.2"]
    archive.lifecycle.delete(OPERATOR, first, reason="test")
    assert uids(client, path) == uids(client, path) == [f"{SERIES}.2"]


def test_metadata_of_a_deleted_series_are_not_there(client, archive):
    path = f"/studies/{STUDY}/series/{SERIES}/metadata"
    ref = store(archive, large(1, rows=8)).ref
    assert uids(client, path) == [f"{SERIES}.1"]
    archive.lifecycle.delete(OPERATOR, ref, reason="test")
    assert uids(client, path) == []


@on_disk
def test_a_series_whose_file_is_gone_is_an_error_not_half_an_answer(client, archive):
    ref = store(archive, large(1)).ref
    stored = archive.retrieve.instance(OPERATOR, ref)
    Path(archive.retrieve.path_of(stored)).unlink()
    answer = client.get(f"/studies/{STUDY}/series/{SERIES}", headers={"Accept": STORED})
    assert answer.status_code >= 400


def test_downloads_that_are_broken_off_are_no_failures_of_ours(client, archive, caplog):
    for number in range(3):
        store(archive, large(number, rows=4096))
    address = client.base_url
    path = f"{address.path}studies/{STUDY}"
    host = f"{address.host}:{address.port}"
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {STORED}\r\n\r\n"
    for _ in range(10):
        with socket.create_connection((address.host, address.port)) as opened:
            opened.sendall(request.encode())
            opened.recv(100)
    assert client.get(f"/studies/{STUDY}", headers={"Accept": STORED}).status_code == 200
    assert not [record for record in caplog.records if record.message == "http.failed"]
