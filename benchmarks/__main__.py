"""`python -m benchmarks [NAME...] [--scale N]`: ingest, retrieve, growth; a few minutes.

With ``--harness`` and ``--peer`` the comparison harness runs too.
"""

import argparse
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.growth import run
from benchmarks.harness import (
    Row,
    Server,
    c_store,
    connect,
    ct_template,
    environment,
    in_processes,
    instance,
    measured,
    served,
)

_BOUNDARY = "benchmark"


def stow(server: Server, items: list[tuple[str, bytes]]) -> None:
    body = b"".join(
        b"--"
        + _BOUNDARY.encode()
        + b"\r\nContent-Type: application/dicom\r\n\r\n"
        + part
        + b"\r\n"
        for _, part in items
    )
    connection = connect(server)
    connection.request(
        "POST",
        "/dicom-web/studies",
        body + b"--" + _BOUNDARY.encode() + b"--\r\n",
        {"Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'},
    )
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise RuntimeError(f"STOW answered {response.status}")


def get(server: Server, paths: list[str], accept: str) -> None:
    connection = connect(server)
    for path in paths:
        connection.request("GET", path, headers={"Accept": accept})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"{path} answered {response.status}")


def ingest(scale: int) -> list[Row]:
    """CT 512 x 512 x 16 bit, 529 KB, stored durably by 1, 4 and 8 senders."""
    template = ct_template()
    rows = []
    with served() as server:
        study = 0
        for senders in (1, 4, 8):
            for name in ("C-STORE", "STOW-RS, 10 a request"):
                jobs = []
                each = max(60 * scale // senders, 10)
                for _ in range(senders):
                    study += 1
                    items = [instance(template, study, n) for n in range(each)]
                    if name == "C-STORE":
                        jobs.append(partial(c_store, server.dicom_port, items))
                    else:
                        jobs.append(partial(_stow_batches, server, items))
                label = f"{name}, {senders} sender{'s' * (senders > 1)}"
                rows.append(
                    measured(server, label, each * senders, partial(in_processes, jobs))
                )
        rows.append(Row(f"memory after it: {server.memory_mb():.0f} MB (PSS)", 1, 1, 0))
    return rows


def _stow_batches(server: Server, items: list[tuple[str, bytes]]) -> None:
    for first in range(0, len(items), 10):
        stow(server, items[first : first + 10])


def retrieve(scale: int) -> list[Row]:
    """Metadata, frames, instances and pictures of a series of 120 CT slices."""
    template = ct_template()
    with served() as server:
        items = [instance(template, 1, number) for number in range(120)]
        _stow_batches(server, items)
        series = "/dicom-web/studies/2.25.2000100000.00000001/series/2.25.2000100000.00000002"
        paths = [f"{series}/instances/{uid}" for uid, _ in items]
        stored = "application/octet-stream; transfer-syntax=*"
        rows = []
        for name, asked, accept in (
            ("metadata of 120 instances", [f"{series}/metadata"] * (5 * scale), "*/*"),
            ("frame, 512 KB", [f"{path}/frames/1" for path in paths] * scale, stored),
            ("instance, 529 KB", paths * scale, "application/dicom; transfer-syntax=*"),
            ("rendered CT, first time", [f"{path}/rendered" for path in paths], "image/jpeg"),
            ("thumbnail, first time", [f"{path}/thumbnail" for path in paths], "image/jpeg"),
            ("rendered CT, again", [f"{path}/rendered" for path in paths], "image/jpeg"),
        ):
            rows.append(measured(server, name, len(asked), partial(get, server, asked, accept)))
    return rows


def growth(scale: int) -> str:
    """The same searches and the same ingest in archives of 1,000 and of 10,000 studies."""
    return run([1000, 10_000], None, None, requests=20 * scale, stored=60 * scale)


def compare(arguments: argparse.Namespace) -> None:
    """Run the comparison harness on a fresh archive and a peer that is up already."""
    with served() as server:
        ours = (
            f"name=fileroom,url={server.url}/dicom-web,dicom=127.0.0.1:{server.dicom_port},"
            f"aet=FILEROOM,pid={server.pid},settle=3"
        )
        command = [sys.executable, "bench.py", "compare", "--server", arguments.peer]
        command += ["--server", ours, *shlex.split(arguments.harness_arguments)]
        subprocess.run(command, cwd=arguments.harness, check=True)


_ALL: dict[str, Callable[[int], list[Row] | str]] = {
    "ingest": ingest,
    "retrieve": retrieve,
    "growth": growth,
}


def section(name: str, scale: int) -> list[str]:
    """Measure one thing; return its lines of Markdown."""
    found = _ALL[name](scale)
    title = [f"## {name}", "", (_ALL[name].__doc__ or "").strip(), ""]
    if isinstance(found, str):
        return [*title, found, ""]
    head = ["| what | operations | a second | server CPU ms each |", "|---|---|---|---|"]
    return [*title, *head, *(row.text() for row in found), ""]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*_ALL, []], help="default: all")
    parser.add_argument("--scale", type=int, default=1, help="how much of it")
    parser.add_argument("--save", type=Path, help="write the tables to this file too")
    parser.add_argument("--harness", type=Path, help="folder of a comparison harness: bench.py")
    parser.add_argument("--peer", default="", help="its --server of a peer that is running")
    parser.add_argument("--harness-arguments", default="", help="what else it is given")
    arguments = parser.parse_args()
    # The UIDs of the template are as long as those that replace them, and not registered.
    warnings.filterwarnings("ignore", module="pydicom")
    lines = [f"# {time.strftime('%Y-%m-%d')}, {environment()}", ""]
    for name in arguments.names or _ALL:
        lines += section(name, arguments.scale)
    text = "\n".join(lines)
    sys.stdout.write(text + "\n")
    if arguments.save:
        arguments.save.write_text(text)
    if arguments.harness:
        compare(arguments)


if __name__ == "__main__":
    main()
