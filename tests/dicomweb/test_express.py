"""What is answered while it is read is whole, in its turn, and known to whoever counts."""

import contextlib
import http.client
import re
import socket
import time
from pathlib import Path

import pytest

from archive.auth.principal import OPERATOR
from archive.metrics import exposition
from dicomweb.express import Express
from dicomweb.protocol import BoundedProtocol
from tests import postgresql
from tests.conftest import on_disk, store, wait_until, wheel_file
from tests.dicomweb.test_at_once import FRAMES, SERIES, STUDY, large

AS_STORED = "application/dicom; transfer-syntax=*"
# An index on a server is asked by threads: then all of this goes the long way, to the same end.
AT_ONCE = not postgresql.EVERYWHERE


@pytest.fixture
def answered(monkeypatch) -> list[bool]:
    """Which requests were answered so, in turn."""
    noted: list[bool] = []
    answer = Express.answer

    def noting(*arguments, **more):
        ready = answer(*arguments, **more)
        noted.append(ready is not None)
        return ready

    monkeypatch.setattr(Express, "answer", noting)
    return noted


def frame_of(number: int) -> str:
    return f"/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.{number}/frames/1"


def head(client, path: str, *more: str, version: str = "1.1") -> bytes:
    host = f"{client.base_url.host}:{client.base_url.port}"
    lines = [f"GET /dicom-web{path} HTTP/{version}", f"Host: {host}", *more, "", ""]
    return "\r\n".join(lines).encode()


@contextlib.contextmanager
def connected(client):
    address = client.base_url.host, client.base_url.port
    with socket.create_connection(address, timeout=20) as opened:
        yield opened


def read_to_end(opened: socket.socket) -> bytes:
    got = bytearray()
    while chunk := opened.recv(1 << 20):
        got += chunk
    return bytes(got)


def warmed(client, *paths: str) -> None:
    for path in paths:
        assert client.get(path, headers={"Accept": FRAMES}).status_code == 200


def test_what_is_in_memory_is_answered_so(client, archive, answered):
    ref = store(archive, wheel_file("CT_small.dcm")).ref
    series = f"/studies/{ref.study_instance_uid}/series/{ref.series_instance_uid}"
    at = f"{series}/instances/{ref.sop_instance_uid}"
    asked = [
        (f"{at}/frames/1", FRAMES),
        (at, AS_STORED),
        (f"{at}/metadata", "application/dicom+json"),
        (f"{series}/metadata", "application/dicom+json"),
    ]
    for _ in range(2):
        answered.clear()
        for path, accept in asked:
            answer = client.get(path, headers={"Accept": accept})
            assert answer.status_code == 200
            assert answer.headers["date"].endswith(" GMT")  # RFC 9110 §6.6.1
    assert answered == [True] * len(asked) if AT_ONCE else True not in answered


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("?accept=application/octet-stream", {}),
        ("", {"Content-Length": "0"}),
        ("00", {}),
        ("/", {}),
    ],
)
def test_what_is_unusual_is_not(client, archive, answered, path, more):
    store(archive, large(1, rows=8))
    warmed(client, frame_of(1))
    answered.clear()
    client.get(frame_of(1) + path, headers={"Accept": FRAMES} | more)
    assert True not in answered


@pytest.mark.parametrize(
    ("version", "more"), [("1.1", ["Connection: close"]), ("1.0", []), ("1.0", ["X: y"])]
)
def test_a_connection_that_is_not_kept_is_closed_behind_the_answer(
    client, archive, answered, version, more
):
    store(archive, large(1, rows=256))
    warmed(client, frame_of(1))
    with connected(client) as opened:
        opened.sendall(head(client, frame_of(1), *more, version=version))
        got = read_to_end(opened)
    assert answered[-1:] == [True] or not AT_ONCE
    top, _, body = got.partition(b"\r\n\r\n")
    assert b"connection: close" in top
    assert b"content-length: %d" % len(body) in top


def test_requests_that_come_at_once_are_answered_in_turn(client, archive):
    for number in (1, 2, 3):
        store(archive, large(number, rows=256))
    warmed(client, *map(frame_of, (1, 2, 3)))
    wanted = [1, 2, 3, 2, 1]
    requests = [head(client, frame_of(number)) for number in wanted]
    requests[-1] = head(client, frame_of(1), "Connection: close")
    with connected(client) as opened:
        opened.sendall(b"".join(requests))
        got = read_to_end(opened)
    named = re.findall(rb"Content-Location: \S+/instances/[0-9.]+\.(\d)/frames/1", got)
    assert [int(number) for number in named] == wanted
    assert len(re.findall(rb"HTTP/1.1 200", got)) == len(wanted)


def test_a_reader_that_pauses_gets_all_of_a_frame(client, archive, answered):
    body = large(1, rows=500)
    store(archive, body)
    warmed(client, frame_of(1))
    with connected(client) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        for _ in range(3):  # more than the kernel holds for it
            opened.sendall(head(client, frame_of(1)))
        opened.sendall(head(client, frame_of(1), "Connection: close"))
        time.sleep(0.3)
        got = read_to_end(opened)
    assert answered[1:2] == [True] or not AT_ONCE
    assert got.count(body[-1000 * 1024 : -1]) == 4


def test_what_a_reader_leaves_for_later_is_its_own(client, archive, answered):
    bodies = [large(number, rows=120) for number in (1, 2)]  # short enough to be copied
    for body in bodies:
        store(archive, body)
    warmed(client, frame_of(1), frame_of(2))
    with connected(client) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        for _ in range(40):  # more than the kernel holds for it
            slow.sendall(head(client, frame_of(1)))
        warmed(client, *[frame_of(2)] * 3)
        slow.sendall(head(client, frame_of(1), "Connection: close"))
        got = read_to_end(slow)
    assert True in answered or not AT_ONCE
    assert got.count(bodies[0][-120 * 2048 :]) == 41


# With a query the long way is gone.
@pytest.mark.parametrize("queries", [("", "", ""), ("", "?x=y"), ("?x=y", "")])
def test_a_connection_that_rests_too_long_is_closed(client, archive, monkeypatch, queries):
    made = BoundedProtocol.connection_made

    def impatient(protocol, transport) -> None:
        made(protocol, transport)
        protocol.timeout_keep_alive = 1

    monkeypatch.setattr(BoundedProtocol, "connection_made", impatient)
    store(archive, large(1, rows=8))
    warmed(client, frame_of(1))
    opened = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=20)
    for query in queries:
        opened.request("GET", f"/dicom-web{frame_of(1)}{query}", headers={"Accept": FRAMES})
        with opened.getresponse() as answer:
            assert (answer.status, len(answer.read()) > 0) == (200, True)
        time.sleep(0.2)
    assert opened.sock.recv(1) == b""


def test_who_goes_away_leaves_the_archive_as_it_was(client, archive, caplog):
    store(archive, large(1, rows=256))
    warmed(client, frame_of(1))
    for _ in range(30):
        with connected(client) as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.sendall(head(client, frame_of(1)) * 3)
    warmed(client, frame_of(1))
    assert not [one for one in caplog.records if one.levelname in ("ERROR", "CRITICAL")]


def test_what_was_deleted_is_not_there(client, archive, answered):
    ref = store(archive, large(1, rows=8)).ref
    warmed(client, frame_of(1), frame_of(1))
    assert answered[-1:] == [True] or not AT_ONCE
    archive.lifecycle.delete(OPERATOR, ref, reason="test")
    assert client.get(frame_of(1), headers={"Accept": FRAMES}).status_code == 404


@on_disk
def test_a_file_that_is_gone_is_an_error_not_half_an_answer(client, archive):
    ref = store(archive, large(1, rows=256)).ref
    warmed(client, frame_of(1))
    Path(archive.retrieve.path_of(archive.retrieve.instance(OPERATOR, ref))).unlink()
    answer = client.get(frame_of(1), headers={"Accept": FRAMES})
    assert answer.status_code >= 500
    assert answer.headers["content-type"] == "application/problem+json"


def test_each_is_counted_and_has_its_line(client, archive, answered, caplog):
    store(archive, large(1, rows=8))
    served = re.compile(
        rb'requests_served_seconds_count\{.*status="2xx",transaction="frames"\} (\d+)'
    )

    def count() -> int:
        return int(float(served.search(exposition())[1]))

    def lines() -> list:
        return [one for one in caplog.records if one.message == "http.request"]

    with caplog.at_level("INFO"):
        caplog.clear()
        warmed(client, frame_of(1))
        wait_until(lines, what="the line of the one before, which is counted by then")
        before = count()
        caplog.clear()
        answer = client.get(frame_of(1), headers={"Accept": FRAMES})
        assert answered[-1:] == [True] or not AT_ONCE
        wait_until(lambda: count() == before + 1, what="the count")
        wait_until(lines, what="the line")
    (line,) = lines()
    assert line.status == 200
    assert line.route.endswith("/frames/{frames}")
    assert line.bytes == len(answer.content)
    assert answer.headers["x-request-id"] == line.request_id
