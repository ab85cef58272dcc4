"""Requests as bytes: what is malformed is told so, and nothing else suffers (RFC 9112)."""

import json
import socket

import pytest


def answer(room, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to ``request``."""
    url = room.client.base_url
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


CLOSE = b"Connection: close\r\n\r\n"
HOST = b"Host: localhost\r\n"
BAD = {
    "no host": (b"GET /dicom-web/studies HTTP/1.1\r\n" + CLOSE, 400),
    "two hosts": (b"GET /dicom-web/studies HTTP/1.1\r\n" + HOST * 2 + CLOSE, 400),
    "host with quotes": (
        b'GET /dicom-web/studies HTTP/1.1\r\nHost: a"b\r\n' + CLOSE, 400,
    ),
    "host with a path": (b"GET /dicom-web/studies HTTP/1.1\r\nHost: a/b\r\n" + CLOSE, 400),
    "host with a blank": (b"GET /dicom-web/studies HTTP/1.1\r\nHost: a b\r\n" + CLOSE, 400),
    "host with angles": (b"GET / HTTP/1.1\r\nHost: <script>\r\n" + CLOSE, 400),
    "port too large": (b"GET / HTTP/1.1\r\nHost: a:99999\r\n" + CLOSE, 400),
    "no method": (b"/dicom-web/studies\r\n\r\n", 400),
    "unknown version": (b"GET / HTTP/9.9\r\n" + HOST + CLOSE, 400),
    "bytes of nobody": (b"\x00\x01\x02\x03\r\n\r\n", 400),
    "unknown method": (b"BREW / HTTP/1.1\r\n" + HOST + CLOSE, 400),
    "raw bytes in the path": (b"GET /dicom-web/studies/\xff HTTP/1.1\r\n" + HOST + CLOSE, 400),
    "raw bytes in the query": (
        b"GET /dicom-web/studies?PatientName=\xff HTTP/1.1\r\n" + HOST + CLOSE, 400,
    ),
    "long path": (b"GET /dicom-web/" + b"a" * 300_000 + b" HTTP/1.1\r\n" + HOST + CLOSE, 414),
    "long query": (
        b"GET /dicom-web/studies?PatientName=" + b"a" * 62_000 + b" HTTP/1.1\r\n"
        + HOST + CLOSE, 414,
    ),
    "longer query": (
        b"GET /dicom-web/studies?PatientName=" + b"a" * 150_000 + b" HTTP/1.1\r\n"
        + HOST + CLOSE, 414,
    ),
    "long header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 300_000 + b"\r\n\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\n" + HOST + b"X: aaaa\r\n" * 60_000 + b"\r\n", 431),
    "two lengths": (
        b"POST /dicom-web/studies HTTP/1.1\r\n" + HOST
        + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400,
    ),
    "length and chunks": (
        b"POST /dicom-web/studies HTTP/1.1\r\n" + HOST
        + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("request_bytes", "status"), BAD.values(), ids=BAD)
def test_what_is_malformed_is_a_problem(room, request_bytes, status):
    got, headers, body = answer(room, request_bytes)
    assert got == status
    assert headers["content-type"] == "application/problem+json"
    assert headers["access-control-allow-origin"] == "*"
    assert json.loads(body)["status"] == status


GOOD = {
    "HTTP/1.0 without a host": b"GET /dicom-web/studies HTTP/1.0\r\n\r\n",
    "an empty host": b"GET /dicom-web/studies HTTP/1.1\r\nHost:\r\n" + CLOSE,
    "an absolute target": b"GET http://localhost/dicom-web/studies HTTP/1.1\r\n" + HOST + CLOSE,
    "IPv6 host": b"GET /dicom-web/studies HTTP/1.1\r\nHost: [::1]:8080\r\n" + CLOSE,
}


@pytest.mark.parametrize("request_bytes", GOOD.values(), ids=GOOD)
def test_what_is_unusual_is_answered(room, request_bytes):
    status, headers, body = answer(room, request_bytes)
    assert status == 200
    assert headers["content-type"].startswith("application/dicom+json")
    assert isinstance(json.loads(body), list)


def test_options_of_the_whole_server(room):
    status, headers, _ = answer(room, b"OPTIONS * HTTP/1.1\r\n" + HOST + CLOSE)
    assert status in (200, 204)
    assert "OPTIONS".lower() in headers["allow"]


def test_who_sends_slowly_holds_up_nobody(room):
    url = room.client.base_url
    slow = [socket.create_connection((url.host, url.port), timeout=10) for _ in range(100)]
    try:
        for connection in slow[:50]:
            connection.sendall(b"GET /dicom-web/studies HTTP/1.1\r\nHost: loc")
        for connection in slow[50:]:
            connection.sendall(
                b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/dicom\r\nContent-Length: 1000000\r\n\r\nDI"
            )
        assert room.get("/studies?limit=1").status_code == 200
        assert room.get(room.url("CT_small.dcm") + "/metadata").status_code == 200
    finally:
        for connection in slow:
            connection.close()
