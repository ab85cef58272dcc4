"""Processes that decode: isolated, bounded in time and memory, replaced when they die."""

import asyncio
import contextlib
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from archive.errors import ArchiveError, InvalidInstanceError, UnavailableError
from archive.log import get_logger
from archive.render.jobs import Job
from archive.render.worker import LENGTH, receive, send

logger = get_logger(__name__)
_BACKLOG: Final = 256
_CONNECT_TIMEOUT_S: Final = 10.0
_CHUNK_BYTES: Final = 1 << 18


def bind_socket(path: Path) -> socket.socket:
    """Return a listening Unix socket at ``path``, in a folder only this user can enter."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    listening.bind(str(path))
    path.chmod(0o600)
    listening.listen(_BACKLOG)
    return listening


class RenderPool:
    """Sends jobs to render workers.

    Parameters
    ----------
    workers
        How many to start, at the first job; 0: one for every two cores.
    timeout_s
        How long a job may take.
    memory_limit_bytes
        How much memory a worker may take beyond what it begins with.
    decoded_bytes
        How much of decoded frames a worker keeps.
    """

    def __init__(
        self,
        workers: int = 0,
        *,
        timeout_s: float = 30.0,
        memory_limit_bytes: int = 2 << 30,
        decoded_bytes: int = 0,
    ) -> None:
        self._count = workers or max((os.cpu_count() or 2) // 2, 1)
        self._timeout_s = timeout_s
        self._memory_limit_bytes = memory_limit_bytes
        self._decoded_bytes = decoded_bytes
        self._address: str | None = None
        self._folder: str | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._listening: socket.socket | None = None
        self._lock = threading.Lock()
        # Workers die with the thread that started them, and the threads that ask come and go.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="render-starter")

    @classmethod
    def connect(cls, address: str, *, timeout_s: float = 30.0) -> "RenderPool":
        """Return a pool that uses workers somebody else started at ``address``."""
        pool = cls(timeout_s=timeout_s)
        pool._address = address
        return pool

    def submit(self, job: Job) -> bytes:
        """Do a job; blocks. Thread-safe.

        Raises
        ------
        ArchiveError
            What the worker refused, or that it died of this job, or took too long.
        """
        connection = self._connection()
        try:
            connection.settimeout(self._timeout_s + _CONNECT_TIMEOUT_S)
            send(connection, pickle.dumps(job))
            answer = receive(connection)
        except TimeoutError as error:
            connection.close()
            raise UnavailableError("every render worker is busy; try again") from error
        except OSError:
            answer = None
        connection.close()
        return self._made(answer)

    async def submit_soon(self, job: Job) -> bytes:
        """Do a job without a thread that waits for it; as `submit` otherwise."""
        if self._address is None or self._processes:  # workers of our own want to be watched
            return await asyncio.to_thread(self.submit, job)
        loop = asyncio.get_running_loop()
        message = pickle.dumps(job)
        with self._connection() as connection:
            connection.setblocking(False)
            try:
                async with asyncio.timeout(self._timeout_s + _CONNECT_TIMEOUT_S):
                    await loop.sock_sendall(connection, LENGTH.pack(len(message)) + message)
                    answer = await _answer(loop, connection)
            except TimeoutError as error:
                raise UnavailableError("every render worker is busy; try again") from error
            except OSError:
                answer = None
        return self._made(answer)

    def _made(self, answer: bytes | None) -> bytes:
        """Return what a worker made, or raise what it refused; None: it died."""
        if answer is None:
            self._replace_dead()
            logger.warning("render.worker-died", extra={"timeout_s": self._timeout_s})
            raise InvalidInstanceError(
                f"decoding this frame crashed, or took longer than {self._timeout_s:g} s"
            )
        if answer[:1] == b"\1":
            return answer[1:]
        kind, text = pickle.loads(answer[1:])  # noqa: S301 - from our own worker
        refusal: ArchiveError = kind(text)
        raise refusal

    def close(self) -> None:
        """End the workers this pool started."""
        with self._lock:
            for process in self._processes:
                process.kill()
                process.wait()
            self._processes = []
            self._starter.shutdown()
            if self._listening is not None:
                self._listening.close()
                self._listening = None
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = self._address = None

    def _connection(self) -> socket.socket:
        if self._address is None:
            self._start()
        elif any(process.poll() is not None for process in self._processes):
            self._replace_dead()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_CONNECT_TIMEOUT_S)
            connection.connect(self._address or "")
        except OSError as error:
            connection.close()
            raise UnavailableError(f"no render worker answers: {error.strerror}") from error
        return connection

    def _start(self) -> None:
        with self._lock:
            if self._address is not None:
                return
            self._folder = tempfile.mkdtemp(prefix="fileroom-render-")
            path = Path(self._folder) / "jobs"
            self._listening = bind_socket(path)
            self._processes = [self._spawn() for _ in range(self._count)]
            self._address = str(path)

    def _replace_dead(self) -> None:
        with self._lock:
            for position, process in enumerate(self._processes):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)  # the one that just died may not be reaped yet
                if process.poll() is not None:
                    self._processes[position] = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._listening is None:
            raise UnavailableError("the render pool is closed")
        return self._starter.submit(self._run_worker, self._listening.fileno()).result()

    def _run_worker(self, descriptor: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own module, our own numbers
            [
                sys.executable,
                "-m",
                "archive.render.worker",
                "--fd",
                str(descriptor),
                "--timeout-s",
                str(self._timeout_s),
                "--memory-limit-bytes",
                str(self._memory_limit_bytes),
                "--decoded-bytes",
                str(self._decoded_bytes),
            ],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )


async def _answer(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes | None:
    data = bytearray()
    wanted = LENGTH.size
    while len(data) < wanted:
        chunk = await loop.sock_recv(connection, _CHUNK_BYTES)
        if not chunk:
            return None
        if len(data) < LENGTH.size <= len(data) + len(chunk):
            wanted += LENGTH.unpack_from(data + chunk[: LENGTH.size])[0]
        data += chunk
    return bytes(memoryview(data)[LENGTH.size :])
