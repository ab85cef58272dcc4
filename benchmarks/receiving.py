"""`python -m benchmarks.receiving [--count N]`: what C-STORE costs before file and index.

The DICOM face alone, with an ingest that throws away what it is given, beside DCMTK's
``storescp --ignore``: both in a process of their own, in turn, three times. Figures are the CPU
of that process for each instance.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from archive.assembly import open_archive, prepare
from archive.config import load_config
from archive.identity import InstanceRef
from archive.ingest.outcome import Disposition, Outcome
from benchmarks.harness import (
    CT,
    Row,
    c_store,
    ct_template,
    environment,
    free_port,
    in_processes,
    instance,
)
from dimse.server import DicomServer

_OUTCOME = Outcome(InstanceRef("1.2", "1.3", "1.4"), CT, Disposition.STORED)


def serve(port: int) -> None:
    """Be the DICOM face over nothing, until SIGTERM."""
    sys.setswitchinterval(0.0005)
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("", port)) as listening:
        os.environ["FILEROOM_ARCHIVE__DATA_DIR"] = folder
        config = load_config()
        prepare(config)
        with open_archive(config) as archive:
            ingest: Any = archive.ingest
            ingest.store = lambda _principal, _incoming: _OUTCOME
            server = DicomServer(archive, listening)
            signal.signal(signal.SIGTERM, lambda *_: server.stop())
            server.serve()


@contextlib.contextmanager
def running(*command: str, port: int) -> Iterator[int]:
    """A receiver; yields its process."""
    process = subprocess.Popen(
        command, env=os.environ | {"TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        time.sleep(0.5)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def received(name: str, pid: int, port: int, items: list[tuple[str, bytes]]) -> Row:
    """Send over one association; the CPU of threads that end with it counts as well."""
    ticks = os.sysconf("SC_CLK_TCK")

    def used() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    before, began = used(), time.monotonic()
    in_processes([partial(c_store, port, items)])
    return Row(name, len(items), time.monotonic() - began, used() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    ours, theirs = free_port(), free_port()
    table = []
    with (
        running(
            sys.executable, "-m", "benchmarks.receiving", "--serve", str(ours), port=ours
        ) as a,
        running("storescp", "--ignore", "-pdu", "131072", str(theirs), port=theirs) as b,
    ):
        for size, name in ((512, "529 KB"), (128, "39 KB")):
            template = ct_template(size)
            few = [instance(template, 1, n) for n in range(50)]
            items = few * (arguments.count // len(few))
            for _ in range(3):
                table.append(received(f"fileroom, {name}", a, ours, items))
                table.append(received(f"storescp --ignore, {name}", b, theirs, items))
    print(environment())
    print("| what | n | a second | CPU ms each |\n|---|---|---|---|")
    print("\n".join(row.text() for row in table))


if __name__ == "__main__":
    main()
