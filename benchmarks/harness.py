"""A real `fileroom serve`, the CPU its processes use, and clients that cost little."""

import contextlib
import http.client
import os
import platform
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pynetdicom import AE
from pynetdicom.presentation import build_context

from dimse import messages

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Server:
    """A running archive."""

    pid: int
    url: str
    dicom_port: int
    data_dir: Path

    def processes(self) -> list[int]:
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [self.pid, *(int(line) for line in listed.stdout.split())]

    def cpu_s(self) -> float:
        """Time on a processor of all its processes, in seconds."""
        total = 0.0
        for pid in self.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += max(_of_threads(pid), _of_process(pid))
        return total

    def memory_mb(self) -> float:
        """Memory of all its processes, what they share counted once."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(FileNotFoundError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        return total / 1024


def postgres_cpu_s(url: str) -> float:
    """Time on a processor of all processes of a PostgreSQL server on this machine, in seconds.

    Those that have ended count, too: parallel workers live as long as a statement.
    """
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        own = connection.info.backend_pid
        fields = Path(f"/proc/{own}/stat").read_text().rpartition(")")[2].split()
        first = Server(int(fields[1]), "", 0, Path())
        ended = Path(f"/proc/{first.pid}/stat").read_text().rpartition(")")[2].split()
        return first.cpu_s() + (int(ended[13]) + int(ended[14])) / _TICKS


def _of_threads(pid: int) -> float:
    """To the nanosecond, but for threads that have ended."""
    counted = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            counted += int(thread.read_text().split()[0])
    return counted / 1e9


def _of_process(pid: int) -> float:
    """Threads that have ended with it, but to the hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextlib.contextmanager
def served(folder: Path | None = None, **environment: str) -> Iterator[Server]:
    """Start an archive as `make serve` would, on a folder of its own if none is given."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            where = os.environ.get("BENCH_DIR")
            made = tempfile.TemporaryDirectory(prefix="fileroom-bench-", dir=where)
            folder = Path(stack.enter_context(made))
        yield stack.enter_context(_serving(folder, environment))


@contextlib.contextmanager
def _serving(folder: Path, environment: dict[str, str]) -> Iterator[Server]:
    http_port, dicom_port = free_port(), free_port()
    settings = {
        "FILEROOM_ARCHIVE__DATA_DIR": str(folder),
        "FILEROOM_HTTP__PORT": str(http_port),
        "FILEROOM_DIMSE__PORT": str(dicom_port),
        **environment,
    }
    url = f"http://127.0.0.1:{http_port}"
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "archive", "serve", "--quiet"],
            env=os.environ | settings,
            stderr=log,
        )
        try:
            # A large index that is of an older schema is brought to this one first.
            for _ in range(3000):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{url}/health/ready", timeout=2)
                    break
                time.sleep(0.1)
            yield Server(process.pid, url, dicom_port, folder)
        finally:
            process.terminate()
            process.wait()


def connect(server: Server) -> http.client.HTTPConnection:
    """Return a connection that stays open."""
    where = urllib.parse.urlsplit(server.url)
    return http.client.HTTPConnection(where.hostname, where.port, timeout=120)


def ct_template(size: int = 512) -> bytes:
    """A CT of ``size`` x ``size`` x 16 bit, with UIDs of a fixed length to be replaced."""
    import io

    import numpy as np
    import pydicom
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.Rows = dataset.Columns = size
    noise = np.random.default_rng(1).integers(0, 2000, (size, size), dtype=np.int16)
    dataset.PixelData = noise.tobytes()
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.StudyInstanceUID = "2.25.1000000000.00000001"
    dataset.SeriesInstanceUID = "2.25.1000000000.00000002"
    dataset.SOPInstanceUID = "2.25.1000000000.00000003"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    output = io.BytesIO()
    dataset.save_as(output)
    return output.getvalue()


def instance(template: bytes, study: int, number: int) -> tuple[str, bytes]:
    """The template under other UIDs of the same length."""
    uid = f"2.25.2{study:04d}{number:05d}.00000003"
    body = template.replace(
        b"2.25.1000000000.00000001", f"2.25.2{study:04d}00000.00000001".encode()
    )
    body = body.replace(
        b"2.25.1000000000.00000002", f"2.25.2{study:04d}00000.00000002".encode()
    )
    return uid, body.replace(b"2.25.1000000000.00000003", uid.encode())


def data_set(body: bytes) -> bytes:
    (length,) = struct.unpack_from("<I", body, 140)
    return body[144 + length :]


def c_store(port: int, items: list[tuple[str, bytes]]) -> None:
    """Send Part 10 objects on one association; the client costs next to nothing."""
    association = AE("BENCH").associate(
        "127.0.0.1", port, [build_context(CT, [EXPLICIT])], ae_title="FILEROOM"
    )
    context = association.accepted_contexts[0].context_id
    # Its own threads would read the answers: the socket is ours from here on.
    association._reactor_checkpoint.clear()
    raw = association.dul.socket.socket
    association.dul._is_transport_event = lambda: time.sleep(0.2) or False
    time.sleep(0.3)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.settimeout(60)
    for number, (uid, body) in enumerate(items):
        command = messages.store_request(
            sop_class_uid=CT, sop_instance_uid=uid, message_id=number % 65535 + 1
        )
        pdus = messages.iter_pdus(context, [data_set(body)], maximum_pdu=131072)
        raw.sendall(messages.pdu(context, 3, command) + b"".join(pdus))
        answer = messages.parse_command(answered(raw))
        status = messages.number(answer, messages.STATUS)
        if status:
            raise RuntimeError(f"status {status:04X}")
    raw.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")


def answered(raw: socket.socket) -> bytes:
    """Return the command set of the next message, which has no data set."""
    head = _exactly(raw, 12)
    (length,) = struct.unpack_from(">I", head, 6)
    return _exactly(raw, length - 2)


def _exactly(raw: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = raw.recv(count - len(data))
        if not chunk:
            raise RuntimeError("the connection was closed")
        data += chunk
    return data


def in_processes(jobs: list[Callable[[], None]]) -> None:
    """Run each job in a process of its own, and wait for all."""
    children = []
    for job in jobs:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                job()
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    for pid in children:
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("a sender failed")


@dataclass(frozen=True)
class Row:
    """One measurement."""

    name: str
    operations: int
    wall_s: float
    cpu_s: float

    def text(self) -> str:
        rate = self.operations / self.wall_s
        cpu = 1000 * self.cpu_s / self.operations
        return f"| {self.name} | {self.operations} | {rate:,.0f} | {cpu:.2f} |"


def measured(server: Server, name: str, operations: int, act: Callable[[], None]) -> Row:
    """Measure ``act``, which does ``operations`` operations; deferred work is waited for."""
    before, started = server.cpu_s(), time.perf_counter()
    act()
    wall = time.perf_counter() - started
    time.sleep(0.3)
    return Row(name, operations, wall, server.cpu_s() - before)


def environment() -> str:
    """The machine and the commit, as one line."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return (
        f"commit {commit or 'unknown'}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
