import pytest

from tests.conftest import http_client


@pytest.fixture
def client(archive):
    """An HTTP client of a real server on a real socket."""
    with http_client(archive) as opened:
        yield opened
