"""How cost grows with the archive: the same searches and the same ingest at several sizes.

    python -m benchmarks.growth --sizes 1000,10000,100000,1000000 --out docs/performance
    python -m benchmarks.growth --sizes 1000,10000 --index 'postgresql://postgres@127.0.0.1/g{}'

With ``--index`` there is a database for each size, ``{}`` its number of studies, filled where
it is empty; all that its server does is counted, so nobody else should use that.

Each size is an index filled with the population (`benchmarks.filling`), served by a real
`fileroom serve` with its settings as they are. ``--keep FOLDER`` keeps the indexes there, and
takes them from there the next time: a million studies take about twenty minutes to fill.
"""

import argparse
import http.client
import json
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.filling import Filling, fill
from benchmarks.harness import (
    Server,
    c_store,
    connect,
    ct_template,
    environment,
    in_processes,
    instance,
    postgres_cpu_s,
    served,
)
from benchmarks.plots import curves
from benchmarks.population import family_name, instances, study_uid

_OHIF = "includefield=00081030%2C00080060%2C00080090%2C00100030"
_LARGE = 9_000_000
_ACCEPT = {"Accept": "application/dicom+json"}


@dataclass(frozen=True)
class Cost:
    """What one kind of request costs."""

    p50_ms: float
    p95_ms: float
    cpu_ms: float
    requests: int
    postgres_ms: float = 0.0


class Meter:
    """The CPU of the archive, and of its PostgreSQL server, where it has one."""

    def __init__(self, server: Server, index: str) -> None:
        self._server, self._index = server, index

    def read(self) -> tuple[float, float]:
        """Return the seconds that each has used."""
        other = postgres_cpu_s(self._index) if self._index else 0.0
        return self._server.cpu_s(), other

    def since(self, before: tuple[float, float], count: int) -> tuple[float, float]:
        """Return the milliseconds for each of ``count`` operations."""
        own, other = self.read()
        return 1000 * (own - before[0]) / count, 1000 * (other - before[1]) / count


# -- what is asked -----------------------------------------------------------------------------


def searches(studies: int) -> dict[str, list[str]]:
    """Return the paths of each kind of search in an archive of so many studies."""
    chance = random.Random(studies)
    some = [chance.randrange(studies) for _ in range(40)]
    names = [family_name(number).lower() for number in (0, 1, 30, 200, 900, 2500, 6000, 9000)]
    years = range(2012, 2026)
    return {
        "study list as OHIF asks": [f"/studies?limit=101&offset=0&fuzzymatching=false&{_OHIF}"],
        "exact PatientID": [
            f"/studies?PatientID=P{1_000_000 + n // 3000 * 1000 + n % 1000}" for n in some
        ],
        "exact StudyInstanceUID": [f"/studies?StudyInstanceUID={study_uid(n)}" for n in some],
        "PatientName prefix": [f"/studies?PatientName={name}*&limit=100" for name in names],
        "PatientName contains": [
            f"/studies?PatientName=*{name[1:]}*&limit=100" for name in names
        ],
        "date range and modality": [
            f"/studies?StudyDate={year}0101-{year}0630&ModalitiesInStudy={modality}&limit=100"
            for year in years
            for modality in ("CT", "NM")
        ],
        "deep offset": [
            f"/studies?limit=100&offset={max(studies - 100 - 7 * n, 0)}" for n in range(10)
        ],
        "middle offset": [
            f"/studies?limit=100&offset={studies // 2 + 7 * n}" for n in range(10)
        ],
        "series of a study": [f"/studies/{study_uid(n)}/series" for n in some],
        "instances of a series": [
            f"/studies/{study_uid(n)}/series/{study_uid(n)}.1/instances" for n in some
        ],
        "series by modality": [f"/series?Modality={m}&limit=100" for m in ("MR", "NM", "CT")],
    }


def any_attribute(studies: int) -> dict[str, list[str]]:
    """Return the same for attributes that the index has no column for."""
    chance = random.Random(studies)
    some = [chance.randrange(studies) for _ in range(20)]
    return {
        "KVP, common": ["/studies?KVP=120&limit=100"],
        "ConvolutionKernel, rare": ["/series?ConvolutionKernel=FC52&limit=100"],
        "ManufacturerModelName": ["/studies?ManufacturerModelName=Aera&limit=100"],
        "InstitutionName with wildcard": ["/studies?InstitutionName=*pital%207&limit=100"],
        "FrameOfReferenceUID, exact": [
            f"/series?FrameOfReferenceUID={study_uid(n)}.1.9" for n in some
        ],
        "SliceThickness, of instances": ["/instances?SliceThickness=0.6&limit=100"],
        "PatientAge and modality": ["/studies?PatientAge=050Y&ModalitiesInStudy=CT&limit=100"],
        "a value nothing has": ["/series?ConvolutionKernel=NOSUCH&limit=100"],
    }


def cost(server: Server, paths: list[str], requests: int, index: str = "") -> Cost:
    """Ask ``paths`` in turn on one connection; each once before it is measured."""
    connection = connect(server)
    for path in paths:
        _get(connection, path)
    took = []
    meter = Meter(server, index)
    before = meter.read()
    for number in range(requests):
        started = time.perf_counter()
        _get(connection, paths[number % len(paths)])
        took.append(1000 * (time.perf_counter() - started))
    own, other = meter.since(before, requests)
    connection.close()
    took.sort()
    return Cost(statistics.median(took), took[int(0.95 * len(took))], own, requests, other)


def _get(connection: http.client.HTTPConnection, path: str) -> int:
    connection.request("GET", f"/dicom-web{path}", headers=_ACCEPT)
    response = connection.getresponse()
    length = 0
    while chunk := response.read(1 << 20):
        length += len(chunk)
    if response.status != 200:
        raise RuntimeError(f"{path} answered {response.status}")
    return length


# -- what comes in -----------------------------------------------------------------------------


def ingest(server: Server, count: int, first: int, index: str = "") -> dict[str, float]:
    """Store CT instances on one association; return instances a second, and CPU ms each."""
    template = ct_template()
    warm = [instance(template, first, number) for number in range(20)]
    in_processes([partial(c_store, server.dicom_port, warm)])
    items = [instance(template, first + 1, number) for number in range(count)]
    meter = Meter(server, index)
    before, started = meter.read(), time.perf_counter()
    in_processes([partial(c_store, server.dicom_port, items)])
    seconds = time.perf_counter() - started
    time.sleep(1)
    own, other = meter.since(before, count)
    found = {"instances a second": count / seconds, "CPU ms each": own}
    return found | ({"CPU ms each, PostgreSQL": other} if index else {})


# -- what is large -----------------------------------------------------------------------------


def large(server: Server) -> dict[str, float]:
    """Read a study of 50,000 instances in series of 10,000; return times, sizes and memory."""
    study = study_uid(_LARGE)
    connection = connect(server)
    _get(connection, "/studies?limit=1")
    found: dict[str, float] = {}
    for name, path in (
        ("series list", f"/studies/{study}/series"),
        ("metadata of a series of 10,000", f"/studies/{study}/series/{study}.1/metadata"),
        ("metadata of the study of 50,000", f"/studies/{study}/metadata"),
    ):
        idle = server.memory_mb()
        with _watched(server) as most:
            started, before = time.perf_counter(), server.cpu_s()
            length = _get(connection, path)
            found[f"{name}: s"] = time.perf_counter() - started
            found[f"{name}: CPU s"] = server.cpu_s() - before
        found[f"{name}: MB"] = length / 1e6
        found[f"{name}: memory grew by MB"] = max(most) - idle
    connection.close()
    return found


@contextmanager
def _watched(server: Server) -> Iterator[list[float]]:
    """Note the memory of the server's processes all the while."""
    seen = [server.memory_mb()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            seen.append(server.memory_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


# -- all of it ---------------------------------------------------------------------------------


def measure(
    folder: Path, studies: int, requests: int, stored: int, index: str = ""
) -> dict[str, object]:
    """Measure one size; its index is in ``folder``, or ``index``, or is filled there."""
    folder.mkdir(parents=True, exist_ok=True)
    place = index or folder / "index.db"
    seconds = None if _is_filled(place) else _filled(place, studies)
    settings = {"FILEROOM_INDEX__URL": index} if index else {}
    with served(folder, **settings) as server:
        found: dict[str, object] = {
            name: asdict(cost(server, paths, max(requests, 5), index))
            for kinds in (searches(studies), any_attribute(studies))
            for name, paths in kinds.items()
        }
        return {
            "studies": studies,
            "filled in s": seconds,
            "index MB": _size_bytes(place) / 1e6,
            "searches": found,
            "ingest": ingest(server, stored, random.randrange(1, 9000), index),
            "large": large(server),
        }


def _is_filled(place: Path | str) -> bool:
    if isinstance(place, Path):
        return place.exists()
    import psycopg

    with psycopg.connect(place) as connection:
        found = connection.execute("SELECT to_regclass('study') IS NOT NULL").fetchone()
    return bool(found and found[0])


def _filled(place: Path | str, studies: int) -> float:
    seconds = fill(place, studies)
    filling = Filling(place)
    filling.add(instances(_LARGE, (10_000,) * 5))
    filling.close()
    return seconds


def _size_bytes(place: Path | str) -> int:
    if isinstance(place, Path):
        return place.stat().st_size
    import psycopg

    with psycopg.connect(place) as connection:
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(found[0]) if found else 0


def table(results: list[dict[str, object]]) -> str:
    """Return the costs as Markdown: a row for each kind, a column for each size."""
    sizes = [f"{result['studies']:,}" for result in results]
    lines = [
        "Each cell: p50 / p95 ms as the client sees it, server CPU ms"
        " (+ that of PostgreSQL).", "",
        "| studies | " + " | ".join(sizes) + " |", "|---|" + "---|" * len(sizes),
    ]  # fmt: skip
    for name in results[0]["searches"]:
        cells = [_cell(result["searches"][name]) for result in results]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name in results[0]["ingest"]:
        cells = [f"{result['ingest'][name]:,.2f}" for result in results]
        lines.append(
            f"| C-STORE of 529 KB, 1 association: {name} | " + " | ".join(cells) + " |"
        )
    lines += ["", "A study of 50,000 instances in five series, in each of them:", ""]
    lines += ["| studies | " + " | ".join(sizes) + " |", "|---|" + "---|" * len(sizes)]
    for name in results[0]["large"]:
        cells = [f"{result['large'][name]:,.2f}" for result in results]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _cell(cost: dict[str, float]) -> str:
    other = f" + {cost['postgres_ms']:.2f}" if cost["postgres_ms"] else ""
    return f"{cost['p50_ms']:.1f} / {cost['p95_ms']:.1f}, {cost['cpu_ms']:.2f}{other}"


def plots(results: list[dict[str, object]]) -> dict[str, str]:
    """Return pictures by file name."""

    def lines(names: list[str], what: str) -> dict[str, list[tuple[float, float]]]:
        return {
            name: [(r["studies"], r["searches"][name][what]) for r in results] for name in names
        }

    columns, others = list(searches(1000)), list(any_attribute(1000))
    rate = [(r["studies"], r["ingest"]["instances a second"]) for r in results]
    cpu = [(r["studies"], r["ingest"]["CPU ms each"]) for r in results]
    pictures = {
        "search-p95.svg": ("Searches, 95th percentile", lines(columns, "p95_ms")),
        "search-cpu.svg": ("Searches, server CPU", lines(columns, "cpu_ms")),
        "any-attribute-p95.svg": (
            "Attributes without a column, 95th percentile",
            lines(others, "p95_ms"),
        ),
    }
    drawn = {name: curves(title, "studies", "ms", of) for name, (title, of) in pictures.items()}
    stored = {"instances a second": rate, "server CPU ms each": cpu}
    drawn["ingest.svg"] = curves("C-STORE, one association", "studies", "", stored)
    return drawn


def run(
    sizes: list[int],
    out: Path | None,
    keep: Path | None,
    requests: int,
    stored: int,
    index: str = "",
) -> str:
    """Measure every size; write JSON, Markdown and pictures; return the Markdown."""
    results = []
    for studies in sizes:
        with _folder(keep, studies) as folder:
            named = index.format(studies)
            results.append(measure(folder, studies, requests, stored, named))
    text = table(results)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        name, more = ("growth-postgresql", "postgresql-") if index else ("growth", "")
        head = f"# Growth, {time.strftime('%Y-%m-%d')}, {environment()}"
        (out / f"{name}.json").write_text(
            json.dumps({"environment": environment(), "results": results}, indent=1) + "\n"
        )
        (out / f"{name}.md").write_text(f"{head}\n\n{text}")
        for picture, drawn in plots(results).items():
            (out / f"{more}{picture}").write_text(drawn)
    return text


@contextmanager
def _folder(keep: Path | None, studies: int) -> Iterator[Path]:
    if keep is not None:
        yield keep / str(studies)
        return
    folder = Path(tempfile.mkdtemp(prefix="fileroom-growth-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--sizes", default="1000,10000", help="studies, separated by commas")
    parser.add_argument("--out", type=Path, help="folder for JSON, Markdown and pictures")
    parser.add_argument("--keep", type=Path, help="folder that keeps the indexes")
    parser.add_argument("--requests", type=int, default=100, help="of each kind")
    parser.add_argument("--stored", type=int, default=200, help="instances sent in")
    parser.add_argument("--index", default="", help="postgresql://.../name-with-{}")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    print(
        run(
            sizes,
            arguments.out,
            arguments.keep,
            arguments.requests,
            arguments.stored,
            arguments.index,
        )
    )


if __name__ == "__main__":
    main()
