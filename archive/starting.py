"""How an archive is started: what can be refused at once is, and then it is supervised.

The command takes the sockets, and whatever else may be wrong is found while somebody reads what
it says. Then the supervisor takes its place in the same process, which keeps its number.
"""

import os
import pickle
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from archive.config import DICOM_ROLES, Config, Role
from archive.image import Plan
from archive.processes import RunningError, hold
from archive.readiness import RUN_FOLDER
from archive.render.pool import bind_socket

# A render worker that had no job for so long makes room for one without decoders.
_RENDER_IDLE_S: Final = 300.0
# Where prometheus-client keeps the numbers that the processes of one archive share.
_METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
# What runs by role; the first worker of the first kind keeps the node in order.
_KINDS: Final[Mapping[Role, Sequence[str]]] = {
    "all": ("dicom", "http", "render", "courier"),
    "http": ("http", "render"),
    "dicom": ("dicom", "health", "render"),
    "background": ("courier", "health", "render"),
}
# What is started only when it is called.
_WAITS: Final[Mapping[Role, Sequence[str]]] = {
    "all": ("render", "courier"),
    "http": ("render",),
    "dicom": ("render",),
    "background": ("render",),
}
_SUPERVISOR: Final = (
    "import sys; sys.path[:] = {path!r}; from archive.supervisor import main; main()"
)


class StartError(Exception):
    """The archive cannot be started; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a running archive listens."""

    http: tuple[str, int]
    dicom: tuple[str, int] | None = None
    dicom_tls: tuple[str, int] | None = None


def start(config: Config, announcement: Callable[[Endpoints], str]) -> NoReturn:
    """Run an archive until it is told to stop, in place of this program.

    Parameters
    ----------
    config
        The settings.
    announcement
        What to write once every worker is up.

    Raises
    ------
    StartError
        If a port or the data directory is in use.
    """
    data_dir = config.archive.data_dir
    run_dir = data_dir / RUN_FOLDER
    try:
        held = hold(data_dir)
    except RunningError as error:
        raise StartError(
            f"an archive is already running on {data_dir} (process {error}); stop it first, "
            "or set [archive] data_dir to another folder"
        ) from error
    sockets = _listen(config)
    for kind in _WAITS[config.archive.role]:
        sockets[kind] = bind_socket(run_dir / f"{kind}.sock")
    _share_metrics(run_dir / "metrics")
    addresses = {key: one.getsockname()[:2] for key, one in sockets.items()}
    endpoints = Endpoints(addresses["http"], addresses.get("dicom"), addresses.get("tls"))
    plan = _plan(config, sockets, run_dir, announcement(endpoints))
    _become_supervisor(plan, [held.fileno(), *(one.fileno() for one in sockets.values())])


def _plan(
    config: Config, sockets: dict[str, socket.socket], run_dir: Path, announcement: str
) -> Plan:
    cores = min(os.cpu_count() or 2, 4)
    role = config.archive.role
    counts = {
        "dicom": config.dimse.workers or cores,
        "http": config.http.workers or cores,
        "render": config.render.workers or max(cores // 2, 1),
        "courier": 1,
        "health": 1,
    }
    waits = _WAITS[role]
    return Plan(
        data_dir=str(config.archive.data_dir),
        drain_timeout_s=config.archive.drain_timeout_s,
        log_level=config.logging.level,
        announcement=announcement,
        workers={kind: counts[kind] for kind in _KINDS[role]},
        waits=waits,
        keeper=f"{_KINDS[role][0]}-1",
        sockets={name: one.fileno() for name, one in sockets.items()},
        render_address=str(run_dir / "render.sock"),
        courier_address=str(run_dir / "courier.sock") if "courier" in waits else "",
        render={
            "timeout_s": config.render.timeout_s,
            "memory_limit_bytes": config.render.memory_limit_bytes,
            "decoded_bytes": config.render.decoded_bytes,
            "idle_s": _RENDER_IDLE_S,
        },
        config=pickle.dumps(config),
    )


def _become_supervisor(plan: Plan, kept: list[int]) -> NoReturn:
    # What this program has loaded is of no use any more, and goes with it.
    with tempfile.TemporaryFile() as file:
        file.write(pickle.dumps(plan))
        file.seek(0)
        for descriptor in (*kept, file.fileno()):
            os.set_inheritable(descriptor, True)
        sys.stdout.flush()
        sys.stderr.flush()
        program = _SUPERVISOR.format(path=sys.path)
        os.execv(  # noqa: S606 - ourselves
            sys.executable, [sys.executable, "-c", program, str(file.fileno())]
        )


def _listen(config: Config) -> dict[str, socket.socket]:
    found = {"http": _bind("http", config.http.host, config.http.port)}
    if config.archive.role not in DICOM_ROLES:
        return found
    found["dicom"] = _bind("dimse", config.dimse.host, config.dimse.port)
    if config.dimse.tls_port:
        found["tls"] = _bind("dimse", config.dimse.host, config.dimse.tls_port, "tls_port")
    return found


def _bind(section: str, host: str, port: int, key: str = "port") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise StartError(
            f"cannot listen on {host}:{port}: {error.strerror}. Set [{section}] host and "
            f"{key}, or FILEROOM_{section.upper()}__{key.upper()}, to one that is free"
        ) from error
    # Workers listen, once they can serve: who called before would wait for they know not what.
    return listening


def _share_metrics(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.db"):
        old.unlink(missing_ok=True)
    os.environ[_METRICS_VARIABLE] = str(folder)
