"""The process that watches over all others: replaces what dies, and ends them in order.

`archive.starting` opens the sockets and then puts this in its own place, so that it has loaded
next to nothing. Workers come from images (`archive.image`), which load what they need and end;
it stays single-threaded, so that it can fork at any time.
"""

import contextlib
import logging
import os
import pickle
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from archive.image import PREPARATION, Plan, become, call, kind_of, make_workers
from archive.log import configure_logging, get_logger
from archive.processes import adopt_orphans, die_with_parent
from archive.readiness import RUN_FOLDER, write_readiness

logger = get_logger(__name__)

_SETTLED_S: Final = 10.0
_LONGEST_PAUSE_S: Final = 30.0
_POLL_S: Final = 0.5
_CHUNK_BYTES: Final = 65536
_RENDER: Final = "render"
_FACES: Final = ("http", "dicom", "tls")


class SupervisorError(Exception):
    """The archive cannot be started; the text says why, and what to do."""


@dataclass(slots=True)
class _Worker:
    """One place among the workers, and the process that fills it."""

    name: str
    pid: int = 0
    started_at: float = 0.0
    failures: int = 0
    due_at: float = 0.0
    # Nobody needs it before somebody calls: until then it takes no memory.
    waits: bool = False

    @property
    def is_up(self) -> bool:
        """Whether it runs, or would as soon as somebody called."""
        return bool(self.pid) or self.waits


@dataclass(slots=True)
class _Image:
    """An image under way, and what it has told so far."""

    pid: int
    reader: int
    names: list[str]
    text: bytes = b""
    told: set[str] = field(default_factory=set)


class Supervisor:
    """Runs one archive until it is told to stop.

    Parameters
    ----------
    plan
        What runs.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._data_dir = Path(plan.data_dir)
        self._workers = [
            _Worker(f"{kind}-{number}", waits=kind in plan.waits)
            for kind, count in plan.workers.items()
            for number in range(1, count + 1)
        ]
        self._faces = {
            name: socket.socket(fileno=plan.sockets[name])
            for name in _FACES
            if name in plan.sockets
        }
        self._image: _Image | None = None
        self._is_prepared = False
        self._published: dict[str, bool] = {}
        self._ended_early: dict[int, int] = {}
        self._stopping = False

    def run(self) -> int:
        """Start everything, watch over it, and end it in order; return the exit status.

        Raises
        ------
        SupervisorError
            If it cannot be started.
        """
        if not adopt_orphans():
            raise SupervisorError(
                "this system lets no process adopt the children of another (prctl(2), Linux "
                "3.4 or later); run it on Linux, in a container or a virtual machine"
            )
        self._watch_signals()
        try:
            self._watch()
            return self._drain()
        finally:
            (self._data_dir / RUN_FOLDER / "ready.json").unlink(missing_ok=True)

    # -- what runs -------------------------------------------------------------------------

    def _watch(self) -> None:
        announced = False
        while not self._stopping:
            self._start_due(time.monotonic())
            self._publish()
            if not announced and all(self._state().values()):
                announced = True
                sys.stdout.write(self._plan.announcement)
                sys.stdout.flush()
            self._wait(_POLL_S)
            self._reap()

    def _start_due(self, now: float) -> None:
        due = [one for one in self._workers if not one.is_up and now >= one.due_at]
        for worker in due:
            if kind_of(worker.name) == _RENDER:
                self._start_render(worker)
        rest = [worker.name for worker in due if kind_of(worker.name) != _RENDER]
        if rest and self._image is None:
            self._make_image(rest)

    def _start_render(self, worker: _Worker) -> None:
        pid = os.fork()
        if pid == 0:
            become(partial(_render, self._plan), worker.name)
        worker.pid, worker.started_at = pid, time.monotonic()

    def _make_image(self, names: list[str]) -> None:
        reader, writer = os.pipe()
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            become(
                partial(
                    make_workers,
                    self._plan,
                    names,
                    writer,
                    supervisor=supervisor,
                    prepares=not self._is_prepared,
                )
            )
        os.close(writer)
        os.set_blocking(reader, False)
        self._image = _Image(pid, reader, names)
        self._selector.register(reader, selectors.EVENT_READ)

    def _listen(self, image: _Image) -> None:
        """Take in what an image tells; at the end of it every worker is there, or failed."""
        try:
            chunk = os.read(image.reader, _CHUNK_BYTES)
        except BlockingIOError:
            return
        image.text += chunk
        *lines, image.text = image.text.split(b"\n")
        for line in lines:
            name, _, rest = line.decode().partition(" ")
            if name == PREPARATION:
                raise SupervisorError(rest)
            image.told.add(name)
            self._begun(name, int(rest))
        if not chunk:
            self._selector.unregister(image.reader)
            os.close(image.reader)
            self._image = None
            self._missing([name for name in image.names if name not in image.told])

    def _begun(self, name: str, pid: int) -> None:
        worker = next(one for one in self._workers if one.name == name)
        worker.pid, worker.started_at = pid, time.monotonic()
        if pid in self._ended_early:
            self._ended(worker, self._ended_early.pop(pid))
        elif self._stopping:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _missing(self, names: list[str]) -> None:
        """Try again for those that could not be made; the first time there is no other."""
        if names and not self._is_prepared and not self._stopping:
            raise SupervisorError(
                f"what is in {self._data_dir} cannot be made ready: the log has the reason"
            )
        self._is_prepared = True
        self._ended_early.clear()
        for worker in self._workers:
            if worker.name in names:
                worker.started_at = time.monotonic()
                self._ended(worker, 1)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self._gone(pid, os.waitstatus_to_exitcode(status))

    def _gone(self, pid: int, exit_code: int) -> None:
        for worker in self._workers:
            if worker.pid == pid:
                self._ended(worker, exit_code)
                return
        if self._image is not None:  # its own, or of a worker it has not told of yet
            self._ended_early[pid] = exit_code

    def _ended(self, worker: _Worker, exit_code: int) -> None:
        now = time.monotonic()
        lasted = now - worker.started_at
        worker.pid = 0
        if self._stopping:
            return
        worker.failures = 0 if lasted > _SETTLED_S else worker.failures + 1
        pause = (
            min(0.1 * 2 ** min(worker.failures, 16), _LONGEST_PAUSE_S)
            if worker.failures
            else 0.0
        )
        worker.due_at = now + pause
        # One that ends by itself has nothing left to do.
        logger.log(
            logging.ERROR if exit_code else logging.INFO,
            "worker.exited",
            extra={"worker": worker.name, "exit_code": exit_code, "restart_in_s": pause},
        )

    def _publish(self) -> None:
        state = self._state()
        if state != self._published:
            write_readiness(self._data_dir, state)
            self._published = state

    def _state(self) -> dict[str, bool]:
        return {
            worker.name: worker.is_up and self._takes_calls(kind_of(worker.name))
            for worker in self._workers
        }

    def _takes_calls(self, kind: str) -> bool:
        """Tell whether a worker of this kind has got so far that its face answers."""
        face = self._faces.get("http" if kind == "health" else kind)
        return face is None or bool(face.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    # -- signals ---------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        # A signal writes a byte here, which ends whatever wait there is.
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        for kind in self._plan.waits:
            self._selector.register(self._plan.sockets[kind], selectors.EVENT_READ, kind)

    def _stop(self, _number: int, _frame: object) -> None:
        if self._stopping:  # asked twice: at once
            self._signal_all(signal.SIGKILL)
        self._stopping = True

    def _wait(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._reader:
                with contextlib.suppress(BlockingIOError):
                    self._reader.recv(4096)
            elif self._image is not None and key.fd == self._image.reader:
                self._listen(self._image)
            else:
                self._called(key.fd, key.data)

    def _called(self, descriptor: int, kind: str) -> None:
        """Have workers of this kind from now on: somebody calls."""
        self._selector.unregister(descriptor)
        for worker in self._workers:
            if kind_of(worker.name) == kind:
                worker.waits = False

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, number)

    @property
    def _is_empty(self) -> bool:
        return self._image is None and not any(worker.pid for worker in self._workers)

    def _drain(self) -> int:
        """Let the workers finish; return 0 when all did in time."""
        logger.info("archive.stopping")
        if self._image is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._image.pid, signal.SIGTERM)
        self._signal_all(signal.SIGTERM)
        end = time.monotonic() + self._plan.drain_timeout_s + 2
        self._take_no_calls()
        while not self._is_empty and time.monotonic() < end:
            self._wait(0.1)
            self._reap()
        late = [worker.name for worker in self._workers if worker.pid]
        if late:
            logger.warning("archive.stopped-late", extra={"workers": late})
            self._signal_all(signal.SIGKILL)
            self._reap_all()
        logger.info("archive.stopped")
        return 1 if late else 0

    def _take_no_calls(self) -> None:
        """Refuse callers: the kernel takes calls as long as anyone has the socket, as we do.

        Who is refused at once calls another node; who is taken waits until the last association
        of this one is over.
        """
        for face in self._faces.values():
            with contextlib.suppress(OSError):  # it never listened
                face.shutdown(socket.SHUT_RDWR)

    def _reap_all(self) -> None:
        for worker in self._workers:
            if worker.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(worker.pid, 0)


def _render(plan: Plan) -> None:
    die_with_parent()
    listening = socket.socket(fileno=plan.sockets[_RENDER])
    call("archive.render.worker:serve_jobs", listening, **plan.render)


def main() -> None:
    """Be the supervisor of the plan in the file whose descriptor is the last argument."""
    with open(int(sys.argv[-1]), "rb") as file:  # noqa: PTH123 - a descriptor
        plan: Plan = pickle.load(file)  # noqa: S301 - from the command that started us
    configure_logging(plan.log_level)
    try:
        sys.exit(Supervisor(plan).run())
    except SupervisorError as error:
        sys.stderr.write(f"fileroom: {error}\n")
        sys.exit(1)
