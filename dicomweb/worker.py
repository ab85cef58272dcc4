"""One HTTP worker: uvicorn on a socket it may share with others."""

import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn

from archive.assembly import open_archive
from archive.config import Config
from archive.log import configure_logging
from dicomweb.app import create_app

_MOST_CONNECTIONS: Final = 1000
_KEEP_ALIVE_S: Final = 75


class _Server(uvicorn.Server):
    """uvicorn, stopping at SIGTERM and leaving SIGINT to the supervisor."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gracefully at SIGTERM; do not raise the signal again afterwards."""
        signal.signal(signal.SIGTERM, self.handle_exit)
        yield


def run(listening: socket.socket, config: Config, *, render_address: str | None) -> None:
    """Be one HTTP worker until SIGTERM; what the supervisor starts."""
    configure_logging(config.logging.level)
    with open_archive(config, render_address=render_address) as archive:
        settings = uvicorn.Config(
            create_app(archive),
            http="httptools",
            loop="uvloop",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            backlog=1024,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(int(config.archive.drain_timeout_s), 1),
        )
        _Server(settings).run(sockets=[listening])
