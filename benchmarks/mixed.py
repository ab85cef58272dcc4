"""`python -m benchmarks.mixed [--seconds N]`: viewers browse while sites push; overload.

Eight viewers ask as OHIF 3.13 does (list, series, metadata, thumbnails, every frame in order),
four sites push, two by C-STORE and two by STOW-RS, into a real `fileroom serve`. Each side is
measured alone and beside the other. Then ten times as many of both: what is refused must be
refused with 503 or A700, what is acknowledged must be there, memory must stay bounded, and the
archive must be itself again at once.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.harness import (
    Server,
    c_store,
    connect,
    ct_template,
    environment,
    in_processes,
    instance,
    served,
)

_STUDIES, _IMAGES = 8, 60
_JSON = "application/dicom+json"
_FRAME = "multipart/related; type=application/octet-stream; transfer-syntax=*"
_LIST = (
    "/dicom-web/studies?limit=101&offset=0&fuzzymatching=false"
    "&includefield=00081030%2C00080060%2C00080090%2C00100030"
)
_SERIES = "/series?includefield=00080021%2C00080031%2C0008103E%2C00200011"
_BOUNDARY = "mixed"


@dataclass
class Seen:
    """What one client was answered."""

    took_s: dict[str, list[float]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    acknowledged: list[str] = field(default_factory=list)

    def note(self, what: str, begun: float, answer: str) -> None:
        self.answers[f"{what} {answer}"] += 1
        if answer in ("200", "0000"):
            self.took_s.setdefault(what, []).append(time.perf_counter() - begun)

    def merge(self, other: "Seen") -> None:
        for what, took in other.took_s.items():
            self.took_s.setdefault(what, []).extend(took)
        self.answers.update(other.answers)
        self.acknowledged.extend(other.acknowledged)


class Viewer:
    """One viewer: opens a study, loads it, opens the next."""

    def __init__(self, server: Server, seen: Seen, number: int) -> None:
        self._server, self._seen, self._number = server, seen, number
        self._connection = connect(server)

    def browse(self, end: float) -> None:
        study = self._number
        while time.perf_counter() < end:
            study = (study + 1) % _STUDIES
            path = f"/dicom-web/studies/2.25.2{study:04d}00000.00000001"
            series = f"{path}/series/2.25.2{study:04d}00000.00000002"
            self._get("list", _LIST, _JSON)
            self._get("list", f"{_LIST}&StudyInstanceUID={path.rpartition('/')[2]}", _JSON)
            self._get("series", path + _SERIES, _JSON)
            self._get("metadata", series + "/metadata", _JSON)
            self._images(study, series, end)

    def _images(self, study: int, series: str, end: float) -> None:
        for number in range(_IMAGES):
            if time.perf_counter() >= end:
                return
            at = f"{series}/instances/2.25.2{study:04d}{number:05d}.00000003"
            if number % 20 == 0:
                self._get("thumbnail", f"{at}/thumbnail?accept=image/jpeg", "image/jpeg")
            self._get("frame", at + "/frames/1", _FRAME)

    def _get(self, what: str, path: str, accept: str) -> None:
        begun = time.perf_counter()
        try:
            self._connection.request("GET", path, headers={"Accept": accept})
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self._seen.note(what, begun, type(error).__name__)
            self._connection = connect(self._server)
            return
        self._seen.note(what, begun, str(response.status))
        if response.status == 503:
            self._seen.answers["503 without Retry-After"] += not response.getheader(
                "Retry-After"
            )
            time.sleep(1)


def push_stow(server: Server, template: bytes, seen: Seen, number: int, end: float) -> None:
    """Store ten instances a request."""
    connection, count = connect(server), 0
    while time.perf_counter() < end:
        items = [instance(template, number, count + n) for n in range(10)]
        head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join(head + part + b"\r\n" for _, part in items)
        begun = time.perf_counter()
        kind = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
        try:
            connection.request(
                "POST",
                "/dicom-web/studies",
                body + f"--{_BOUNDARY}--\r\n".encode(),
                {"Content-Type": kind, "Accept": _JSON},
            )
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            seen.note("STOW", begun, type(error).__name__)
            connection = connect(server)
            time.sleep(1)
            continue
        seen.note("STOW", begun, str(response.status))
        if response.status == 200:
            seen.acknowledged += [uid for uid, _ in items]
            count += 10
        else:
            time.sleep(1)


def push_c_store(server: Server, template: bytes, seen: Seen, number: int, end: float) -> None:
    """Send fifty instances an association."""
    count = 0
    while time.perf_counter() < end:
        items = [instance(template, number, count + n) for n in range(50)]
        begun = time.perf_counter()
        try:
            c_store(server.dicom_port, items)
        except Exception as error:  # noqa: BLE001 - counted by what it says
            seen.note("C-STORE", begun, f"{error}"[:40] or type(error).__name__)
            time.sleep(1)
            continue
        seen.note("C-STORE", begun, "0000")
        seen.acknowledged += [uid for uid, _ in items]
        count += 50


def _threads(jobs: list[Callable[[Seen], Any]], queue: Any) -> None:
    seen = [Seen() for _ in jobs]
    threads = [
        threading.Thread(target=job, args=(one,)) for job, one in zip(jobs, seen, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in seen[1:]:
        seen[0].merge(one)
    queue.put(seen[0])
    queue.close()
    queue.join_thread()
    os._exit(0)  # the threads of associations that were only sent on never end


@dataclass
class Outcome:
    """What a time of load showed."""

    seen: Seen
    wall_s: float
    cpu_s: float
    peak_mb: float


def load(
    server: Server, template: bytes, *, viewers: int, sites: int, seconds: float, first: int
) -> Outcome:
    """Let viewers browse and sites push for some time, in a few client processes."""
    end = time.perf_counter() + seconds
    jobs: list[Callable[[Seen], Any]] = [
        partial(_browse, server, number, end) for number in range(viewers)
    ]
    for number in range(sites):
        push = push_stow if number % 2 else push_c_store
        jobs.append(partial(_push, push, server, template, first + number, end))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    crews = [crew for n in range(4) if (crew := jobs[n::4])]
    before, begun = server.cpu_s(), time.perf_counter()
    crowd = [context.Process(target=_threads, args=(crew, queue)) for crew in crews]
    for process in crowd:
        process.start()
    peak, seen = 0.0, Seen()
    while time.perf_counter() < end:
        peak = max(peak, server.memory_mb())
        time.sleep(0.5)
    for _ in crowd:
        seen.merge(queue.get(timeout=180))
    for process in crowd:
        process.join()
    return Outcome(seen, time.perf_counter() - begun, server.cpu_s() - before, peak)


def _browse(server: Server, number: int, end: float, seen: Seen) -> None:
    Viewer(server, seen, number).browse(end)


def _push(
    push: Callable[..., None],
    server: Server,
    template: bytes,
    number: int,
    end: float,
    seen: Seen,
) -> None:
    push(server, template, seen, number, end)


def _quantile(values: list[float], share: float) -> str:
    if not values:
        return "-"
    ordered = sorted(values)
    return f"{1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]:,.0f}"


def told(name: str, outcome: Outcome) -> None:
    print(f"\n### {name}\n")
    print("| what | answered | per s | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|---|---|")
    for what, took in sorted(outcome.seen.took_s.items()):
        times = " | ".join(_quantile(took, share) for share in (0.5, 0.95, 0.99))
        print(f"| {what} | {len(took)} | {len(took) / outcome.wall_s:.1f} | {times} |")
    stored = len(outcome.seen.acknowledged)
    cores = outcome.cpu_s / outcome.wall_s
    print(f"\nInstances stored: {stored}, {stored / outcome.wall_s:.1f} a second.")
    print(f"Memory at most {outcome.peak_mb:.0f} MB (shared once), server {cores:.2f} cores.")
    print("Answers:", json.dumps(dict(sorted(outcome.seen.answers.items()))))


def missing(server: Server, acknowledged: list[str]) -> int:
    """Count acknowledged instances that are not there."""
    connection, absent = connect(server), 0
    for start in range(0, len(acknowledged), 100):
        uids = acknowledged[start : start + 100]
        query = f"limit=200&SOPInstanceUID={'%5C'.join(uids)}"
        for _ in range(20):
            connection.request(
                "GET", f"/dicom-web/instances?{query}", headers={"Accept": _JSON}
            )
            response = connection.getresponse()
            body = response.read()
            if response.status != 503:
                break
            time.sleep(1)
        absent += len(uids) - len(json.loads(body))
    return absent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--times", type=int, default=10, help="how much the overload is")
    arguments = parser.parse_args()
    template = ct_template()
    print(environment())
    with served() as server:
        print(f"idle: {server.memory_mb():.0f} MB (shared once)")
        for study in range(_STUDIES):
            items = [instance(template, study, number) for number in range(_IMAGES)]
            in_processes([partial(c_store, server.dicom_port, items)])
        run = partial(load, server, template, seconds=arguments.seconds)
        told("8 viewers alone", run(viewers=8, sites=0, first=0))
        told("4 sites alone", run(viewers=0, sites=4, first=100))
        told("8 viewers and 4 sites", run(viewers=8, sites=4, first=200))
        times = arguments.times
        over = run(viewers=8 * times, sites=4 * times, first=1000)
        told(f"{8 * times} viewers and {4 * times} sites", over)
        print("Acknowledged but absent:", missing(server, over.seen.acknowledged))
        told("8 viewers alone, just afterwards", run(viewers=8, sites=0, first=0))
        print(f"Memory afterwards: {server.memory_mb():.0f} MB (shared once)")


if __name__ == "__main__":
    main()
