"""The process that starts all others: holds the sockets, replaces what dies, drains.

It stays single-threaded, so that it can fork from its warm image at any time: what is loaded
once is shared by every worker. Workers are named by strings, as servers name applications,
because nothing in `archive` may import a face (docs/decisions/0002).
"""

import contextlib
import fcntl
import gc
import importlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from archive.config import Config
from archive.errors import ArchiveError
from archive.log import get_logger
from archive.metrics import use_folder
from archive.processes import die_with_parent
from archive.readiness import RUN_FOLDER, write_readiness
from archive.render.pool import bind_socket

logger = get_logger(__name__)

_BACKLOG: Final = 1024
_SETTLED_S: Final = 10.0
_LONGEST_PAUSE_S: Final = 30.0
_POLL_S: Final = 0.5
# A render worker that had no job for so long makes room for one without decoders.
_RENDER_IDLE_S: Final = 300.0
_PRELOADED: Final = (
    "dimse.server",
    "dimse.courier",
    "dicomweb.worker",
)


class SupervisorError(Exception):
    """The archive cannot be started; the text says why, and what to do."""


@dataclass(slots=True)
class _Worker:
    """One place among the workers, and the process that fills it."""

    name: str
    start: Callable[[], None]
    pid: int = 0
    started_at: float = 0.0
    failures: int = 0
    due_at: float = 0.0
    # Nobody needs it before somebody calls here: until then it takes no memory.
    awaits: socket.socket | None = None

    @property
    def is_up(self) -> bool:
        """Whether it runs, or would as soon as somebody called."""
        return bool(self.pid) or self.awaits is not None


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a running archive listens."""

    http: tuple[str, int]
    dicom: tuple[str, int]
    dicom_tls: tuple[str, int] | None = None


class Supervisor:
    """Runs one archive until it is told to stop.

    Parameters
    ----------
    config
        The settings.
    on_ready
        Called once, when every worker is up.
    """

    def __init__(self, config: Config, on_ready: Callable[[Endpoints], None]) -> None:
        self._config = config
        self._on_ready = on_ready
        self._run_dir = config.archive.data_dir / RUN_FOLDER
        self._workers: list[_Worker] = []
        self._stopping = False
        self._sockets: list[socket.socket] = []

    def run(self) -> int:
        """Start everything, watch over it, and end it in order; return the exit status.

        Raises
        ------
        SupervisorError
            If a port or the data directory is in use.
        """
        with self._lock():
            http = _bind("http", self._config.http.host, self._config.http.port)
            dicom = _bind("dimse", self._config.dimse.host, self._config.dimse.port)
            secure = self._bind_tls()
            render = bind_socket(self._run_dir / "render.sock")
            self._sockets = [one for one in (http, dicom, secure, render) if one]
            use_folder(self._run_dir / "metrics")
            _preload()
            _prepare(self._config)
            self._plan(http, dicom, secure, render)
            self._watch_signals()
            try:
                tls = secure.getsockname()[:2] if secure else None
                self._watch(Endpoints(http.getsockname()[:2], dicom.getsockname()[:2], tls))
                return self._drain()
            finally:
                (self._run_dir / "ready.json").unlink(missing_ok=True)

    # -- what runs -------------------------------------------------------------------------

    def _bind_tls(self) -> socket.socket | None:
        if not self._config.dimse.tls_port:
            return None
        return _bind("dimse", self._config.dimse.host, self._config.dimse.tls_port, "tls_port")

    def _plan(
        self,
        http: socket.socket,
        dicom: socket.socket,
        secure: socket.socket | None,
        render: socket.socket,
    ) -> None:
        config = self._config
        cores = min(os.cpu_count() or 2, 4)
        address = str(self._run_dir / "render.sock")
        roles: list[tuple[str, int, Callable[[], None]]] = [
            (
                "dicom",
                config.dimse.workers or cores,
                partial(
                    _call,
                    "dimse.server:run",
                    dicom,
                    config,
                    render_address=address,
                    tls_listening=secure,
                ),
            ),
            (
                "http",
                config.http.workers or cores,
                partial(_call, "dicomweb.worker:run", http, config, render_address=address),
            ),
            (
                "render",
                config.render.workers or max(cores // 2, 1),
                partial(
                    _call,
                    "archive.render.worker:serve_jobs",
                    render,
                    timeout_s=config.render.timeout_s,
                    memory_limit_bytes=config.render.memory_limit_bytes,
                    decoded_bytes=config.render.decoded_bytes,
                    idle_s=_RENDER_IDLE_S,
                ),
            ),
            (
                "courier",
                1,
                partial(_call, "dimse.courier:run", config, render_address=address),
            ),
        ]
        self._workers = [
            _Worker(f"{name}-{number}", start, awaits=render if name == "render" else None)
            for name, count, start in roles
            for number in range(1, count + 1)
        ]

    def _watch(self, endpoints: Endpoints) -> None:
        announced = False
        while not self._stopping:
            now = time.monotonic()
            for worker in self._workers:
                if not worker.pid and worker.awaits is None and now >= worker.due_at:
                    self._start(worker)
            self._publish()
            if not announced and all(worker.is_up for worker in self._workers):
                announced = True
                self._on_ready(endpoints)
            self._wait(_POLL_S)
            self._reap()

    def _start(self, worker: _Worker) -> None:
        pid = os.fork()
        if pid == 0:
            _become(worker)
        worker.pid = pid
        worker.started_at = time.monotonic()

    def _reap(self) -> None:
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, exit_code: int) -> None:
        now = time.monotonic()
        lasted = now - worker.started_at
        worker.pid = 0
        if self._stopping:
            return
        worker.failures = 0 if lasted > _SETTLED_S else worker.failures + 1
        pause = min(0.1 * 2**worker.failures, _LONGEST_PAUSE_S) if worker.failures else 0.0
        worker.due_at = now + pause
        # One that ends by itself has nothing left to do.
        logger.log(
            logging.ERROR if exit_code else logging.INFO,
            "worker.exited",
            extra={"worker": worker.name, "exit_code": exit_code, "restart_in_s": pause},
        )

    def _publish(self) -> None:
        write_readiness(
            self._config.archive.data_dir,
            {worker.name: worker.is_up for worker in self._workers},
        )

    # -- signals ---------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        # A signal writes a byte here, which ends whatever wait there is.
        self._reader, writer = socket.socketpair()
        self._reader.setblocking(False)
        writer.setblocking(False)
        self._sockets += [self._reader, writer]
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        for awaited in {worker.awaits for worker in self._workers if worker.awaits}:
            self._selector.register(awaited, selectors.EVENT_READ)

    def _stop(self, _number: int, _frame: object) -> None:
        if self._stopping:  # asked twice: at once
            self._signal_all(signal.SIGKILL)
        self._stopping = True

    def _wait(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._reader:
                with contextlib.suppress(BlockingIOError):
                    self._reader.recv(4096)
            else:
                self._called(key.fileobj)

    def _called(self, awaited: object) -> None:
        """Have those started, from now on, who were to wait until somebody calls."""
        self._selector.unregister(awaited)  # type: ignore[arg-type]
        for worker in self._workers:
            if worker.awaits is awaited:
                worker.awaits = None

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, number)

    def _drain(self) -> int:
        """Let the workers finish; return 0 when all did in time."""
        logger.info("archive.stopping")
        self._signal_all(signal.SIGTERM)
        end = time.monotonic() + self._config.archive.drain_timeout_s + 2
        while any(worker.pid for worker in self._workers) and time.monotonic() < end:
            self._wait(0.1)
            self._reap()
        late = [worker.name for worker in self._workers if worker.pid]
        if late:
            logger.warning("archive.stopped-late", extra={"workers": late})
            self._signal_all(signal.SIGKILL)
            self._reap_all()
        logger.info("archive.stopped")
        return 1 if late else 0

    def _reap_all(self) -> None:
        for worker in self._workers:
            if worker.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(worker.pid, 0)

    @contextlib.contextmanager
    def _lock(self) -> Any:  # noqa: ANN401 - a context
        self._run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._run_dir / "supervisor.pid").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise SupervisorError(
                    f"an archive is already running on {self._config.archive.data_dir} "
                    f"(process {file.read().strip() or 'unknown'}); stop it first, or set "
                    "[archive] data_dir to another folder"
                ) from error
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield


def running_pid(data_dir: Path) -> int | None:
    """Return the supervisor's process id, if an archive runs on ``data_dir``."""
    try:
        with (data_dir / RUN_FOLDER / "supervisor.pid").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0) or None
    except FileNotFoundError:
        pass
    return None


def _bind(section: str, host: str, port: int, key: str = "port") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SupervisorError(
            f"cannot listen on {host}:{port}: {error.strerror}. Set [{section}] host and "
            f"{key}, or FILEROOM_{section.upper()}__{key.upper()}, to one that is free"
        ) from error
    listening.listen(_BACKLOG)
    listening.set_inheritable(True)
    return listening


def _preload() -> None:
    """Load what the workers need into the image they are forked from."""
    # A library that starts threads when it is loaded must not do so before a fork.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector would write to every page that is shared


def _prepare(config: Config) -> None:
    """Prepare data directory and index in a process of its own.

    What that loads and leaves behind would otherwise be in the memory of every worker.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(_Worker("preparation", partial(_prepare_here, config, writer)))
    os.close(writer)
    with open(reader) as told:  # noqa: PTH123 - a pipe
        reason = told.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise SupervisorError(
            reason
            or f"what is in {config.archive.data_dir} cannot be made ready: the log has the "
            "reason"
        )


def _prepare_here(config: Config, writer: int) -> None:
    try:
        _call("archive.assembly:prepare", config)
    except ArchiveError as error:
        os.write(writer, str(error).encode()[:4096])
        os._exit(1)


def _become(worker: _Worker) -> None:
    """Be a worker; never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor tells when to stop
        die_with_parent()
        worker.start()
        status = 0
    except BaseException:
        logger.exception("worker.failed", extra={"worker": worker.name})
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _call(target: str, *arguments: object, **named: object) -> None:
    module, _, function = target.partition(":")
    getattr(importlib.import_module(module), function)(*arguments, **named)
