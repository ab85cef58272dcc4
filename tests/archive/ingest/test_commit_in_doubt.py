"""A commit whose answer never comes takes no bytes away from rows that may be there."""

import contextlib
import select
import socket
import threading

import pytest
from sqlalchemy.engine import make_url

from archive.auth.principal import OPERATOR
from archive.errors import UnavailableError
from archive.ingest.outcome import Disposition
from tests.conftest import make_config, running_archive, store, wheel_file

CT = wheel_file("CT_small.dcm")


class Between:
    """Stands between an archive and its database; may cut the next commit off its answer."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.cutting = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with (
            client,
            socket.create_connection(self._server) as server,
            contextlib.suppress(OSError),
        ):
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    (server if ready is client else client).sendall(data)
                    if ready is client and b"COMMIT" in data and self.cutting.is_set():
                        self.cutting.clear()
                        server.recv(1 << 16)  # it is committed, and nobody is told
                        return

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def between(postgres_url):
    url = make_url(postgres_url)
    standing = Between(url.host, url.port)
    yield standing, url.set(drivername="postgresql", port=standing.port)
    standing.close()


@pytest.mark.postgresql
def test_the_bytes_stay_and_the_next_attempt_is_a_duplicate_of_them(between, tmp_path):
    standing, url = between
    index = {"url": url.render_as_string(hide_password=False)}
    with running_archive(make_config(tmp_path / "data", index=index)) as archive:
        standing.cutting.set()
        with pytest.raises(UnavailableError):
            store(archive, CT)
        assert not standing.cutting.is_set()
        again = store(archive, CT)
        assert again.disposition is Disposition.DUPLICATE
        stored = archive.retrieve.instance(OPERATOR, again.ref)
        assert archive.retrieve.read(stored, 0, stored.size_bytes) == CT.read_bytes()
        report = archive.verifier.verify(grace_s=0)
        assert (report.lost, report.corrupt, report.orphans) == ([], [], [])
