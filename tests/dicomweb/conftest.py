import threading

import httpx
import pytest
import uvicorn

from dicomweb.app import create_app
from tests.conftest import listening_socket


@pytest.fixture
def client(archive):
    """An HTTP client of a real server on a real socket."""
    listening = listening_socket()
    server = uvicorn.Server(
        uvicorn.Config(create_app(archive), lifespan="off", log_config=None, access_log=False)
    )
    server.capture_signals = lambda: __import__("contextlib").nullcontext()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    base = f"http://127.0.0.1:{listening.getsockname()[1]}/dicom-web"
    with httpx.Client(base_url=base, timeout=30) as opened:
        yield opened
    server.should_exit = True
    thread.join()
    listening.close()
