"""A client that goes away, or is slow: no more is made than it takes."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from dicomweb.responses import StreamedResponse
from tests.conftest import listening_socket, wait_until


class Endless:
    """A body without end that tells how much of it was made, and that it was closed."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = threading.Event()

    def chunks(self) -> Iterator[bytes]:
        try:
            while True:
                self.made += 1
                yield bytes(1 << 20)
        finally:
            self.closed.set()


@contextlib.contextmanager
def serving(app: Starlette) -> Iterator[int]:
    listening = listening_socket()
    server = uvicorn.Server(
        uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    )
    server.capture_signals = contextlib.nullcontext
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture
def endless():
    body = Endless()

    def answer(_request):
        return StreamedResponse(body.chunks, media_type="application/octet-stream")

    with serving(Starlette(routes=[Route("/", answer)])) as port:
        yield body, port


def test_a_body_is_closed_when_its_reader_goes(endless):
    body, port = endless
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    wait_until(body.closed.is_set, what="the body to be closed")
    made = body.made
    time.sleep(0.1)
    assert body.made == made


def test_a_reader_that_reads_nothing_makes_nothing_more_be_made(endless):
    body, port = endless
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: body.made, what="the first chunk")
        time.sleep(0.3)
        # What fits between two sockets, and no more.
        assert body.made < 30
    wait_until(body.closed.is_set, what="the body to be closed")


def test_head_makes_nothing(endless):
    body, port = endless
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")
    assert body.made == 0
