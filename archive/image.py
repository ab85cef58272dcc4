"""The image that workers are forked from: made when some are needed, and gone when they are.

What several processes need is loaded once and shared by them. But whatever is in a process that
forks is in all that come from it: so what only one kind of worker needs is loaded by a process
that makes only those, and nobody who stays has loaded anything for others. The workers are
orphans then, whom the supervisor adopts (docs/decisions/0027).
"""

import contextlib
import gc
import importlib
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from archive.log import get_logger
from archive.processes import become_child_of

logger = get_logger(__name__)

PREPARATION: Final = "preparation"
_SHARED: Final = ("archive.assembly",)
# What is loaded for which kinds of workers.
_ROOMS: Final[Sequence[tuple[Sequence[str], Sequence[str]]]] = (
    (("dimse.server", "dimse.courier"), ("dicom", "courier")),
    (("dicomweb.worker",), ("http", "health")),
)
# pydicom loads them to see whether they are there. They are a third of all memory, and only
# render workers, which do without this image, need them.
_UNUSED: Final = (
    "numpy",
    "PIL",
    "requests",
    "tqdm",
    "pylibjpeg",
    "libjpeg",
    "openjpeg",
    "gdcm",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What runs, for processes that have loaded nothing yet.

    Parameters
    ----------
    drain_timeout_s
        How long workers may take to end.
    announcement
        What is written to standard output once every worker is up.
    workers
        How many of each kind.
    waits
        Kinds that are started when somebody calls at their socket.
    keeper
        The worker that keeps the node in order.
    sockets
        Descriptors of those that listen: http, render, and dicom, tls, courier where there is
        one.
    render_address
        Where render workers are asked.
    courier_address
        Where the courier is called, should it wait for that.
    render
        What they are started with.
    config
        The settings, pickled: to read them takes more memory than to supervise.
    """

    data_dir: str
    drain_timeout_s: float
    log_level: str
    announcement: str
    workers: Mapping[str, int]
    waits: Collection[str]
    keeper: str
    sockets: Mapping[str, int]
    render_address: str
    courier_address: str
    render: Mapping[str, Any]
    config: bytes


def make_workers(
    plan: Plan, names: Sequence[str], writer: int, *, supervisor: int, prepares: bool
) -> None:
    """Fork workers, in a process of its own, which ends with it.

    Parameters
    ----------
    names
        Kind and number, ``dicom-1``.
    writer
        A pipe that is told of each, ``NAME PID`` a line, or ``preparation REASON``.
    supervisor
        The process that adopts them.
    prepares
        Whether the index is made ready first: none is made before it is.
    """
    _load(_SHARED)
    config = pickle.loads(plan.config)  # noqa: S301 - from the command that started us
    waiting, gate = os.pipe()
    rooms = 0
    for modules, kinds in _ROOMS:
        wanted = [name for name in names if kind_of(name) in kinds]
        if wanted:
            rooms += 1
            if os.fork() == 0:
                os.close(gate)
                become(
                    partial(_room, plan, config, modules, wanted, (waiting, writer), supervisor)
                )
    if prepares:
        _prepare(config, writer)
    os.write(gate, b"." * rooms)


def kind_of(name: str) -> str:
    """Return the kind of a worker by its name."""
    return name.rpartition("-")[0]


def become(work: Callable[[], None], name: str = "image") -> None:
    """Do ``work`` as what this process was forked for; never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor tells when to stop
        work()
        status = 0
    except BaseException:
        logger.exception("worker.failed", extra={"worker": name})
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def call(target: str, *arguments: object, **named: object) -> None:
    """Load and call ``module:function``: nothing in `archive` may import a face."""
    module, _, function = target.partition(":")
    getattr(importlib.import_module(module), function)(*arguments, **named)


def _room(
    plan: Plan,
    config: object,
    modules: Sequence[str],
    names: Sequence[str],
    pipes: tuple[int, int],
    supervisor: int,
) -> None:
    waiting, writer = pipes
    _load(modules)
    if os.read(waiting, 1) != b".":  # there is nothing to work on
        return
    os.close(waiting)
    for name in names:
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            become(partial(_work, plan, config, name, supervisor), name)
        os.write(writer, f"{name} {pid}\n".encode())


def _work(plan: Plan, config: object, name: str, supervisor: int) -> None:
    become_child_of(supervisor)
    sockets = {key: socket.socket(fileno=number) for key, number in plan.sockets.items()}
    common: dict[str, object] = {"render_address": plan.render_address}
    if name == plan.keeper:
        house = importlib.import_module("archive.background").House
        common["house"] = house(plan.courier_address)
    match kind_of(name):
        case "dicom":
            tls = sockets.get("tls")
            call("dimse.server:run", sockets["dicom"], config, tls_listening=tls, **common)
        case "courier":
            call("dimse.courier:run", config, **common)
        case "health":
            call("dicomweb.worker:run", sockets["http"], config, only_health=True, **common)
        case _:
            call("dicomweb.worker:run", sockets["http"], config, **common)


def _prepare(config: object, writer: int) -> None:
    errors = importlib.import_module("archive.errors")
    try:
        call("archive.assembly:prepare", config, wait=True)
    except errors.ArchiveError as error:
        reason = " ".join(str(error).split())
        os.write(writer, f"{PREPARATION} {reason}\n".encode()[:4000])
        os._exit(1)


def _load(modules: Sequence[str]) -> None:
    """Load modules into the image, without what they only look for."""
    with _without(_UNUSED):
        for name in modules:
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector would write to every page that is shared


@contextlib.contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: not to be found
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
