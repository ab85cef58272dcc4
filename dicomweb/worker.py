"""One HTTP worker: uvicorn on a socket it may share with others."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Final

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette

from archive.assembly import Archive, open_archive
from archive.background import House, keeping
from archive.config import Config
from archive.log import configure_logging
from archive.processes import open_more_files
from dicomweb.app import create_app
from dicomweb.lanes import THREADS
from dicomweb.protocol import BoundedProtocol
from dicomweb.resources import Resource
from dicomweb.routes import HEALTH_ROUTES, ROUTES

_KEEP_ALIVE_S: Final = 75
# Files that are no connections: objects and the index.
_OWN_FILES: Final = 512
_TICKS_A_SECOND: Final = 10


class Server(uvicorn.Server):
    """uvicorn, which sends everyone home who waits for changes before it waits for them."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests, with as many threads as the lanes are laid out for."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking requests, and finish those that were taken."""
        application = self.config.app
        if isinstance(application, Starlette):
            application.state.watch.stop()
        await super().shutdown(sockets)


class _Worker(Server):
    """The server of one process, stopping at SIGTERM and leaving SIGINT to the supervisor."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        self._ending = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        """Write the date anew once a second; uvicorn wakes ten times for that."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += _TICKS_A_SECOND
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End, now."""
        super().handle_exit(sig, frame)
        if hasattr(self, "_loop"):
            self._loop.call_soon_threadsafe(self._ending.set)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gracefully at SIGTERM; do not raise the signal again afterwards."""
        signal.signal(signal.SIGTERM, self.handle_exit)
        yield


def run(
    listening: socket.socket,
    config: Config,
    *,
    render_address: str | None,
    house: House | None = None,
    only_health: bool = False,
) -> None:
    """Be one HTTP worker until SIGTERM; what the supervisor starts.

    Parameters
    ----------
    only_health
        Whether to answer nothing but whether the node lives, is ready, and how much it does.
    """
    configure_logging(config.logging.level)
    most_files = open_more_files()
    with (
        open_archive(config, render_address=render_address) as archive,
        keeping(archive, house),
    ):
        settings = server_settings(archive, HEALTH_ROUTES if only_health else ROUTES)
        settings.limit_concurrency = max(most_files - _OWN_FILES, most_files // 2)
        _Worker(settings).run(sockets=[listening])


def server_settings(archive: Archive, routes: Sequence[Resource] = ROUTES) -> uvicorn.Config:
    """Return how ``archive`` is served over HTTP/1.1."""
    return uvicorn.Config(
        create_app(archive, routes),
        http=BoundedProtocol,
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=1024,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(int(archive.config.archive.drain_timeout_s), 1),
    )
