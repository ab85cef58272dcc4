"""Objects in a bucket: the client alone, then ingest and frames beside the disk store.

    python -m tests.servers [--gateway] -- python -m benchmarks.buckets

CPU is that of the archive's processes, or of this one; never of the server of buckets.
"""

import os
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.__main__ import _stow_batches, get
from benchmarks.harness import (
    Row,
    c_store,
    ct_template,
    environment,
    in_processes,
    instance,
    measured,
    served,
)
from storage.objects.opening import open_store
from storage.objects.settings import BucketSettings

COUNT = 200
_SERIES = "/dicom-web/studies/2.25.2{0:04d}00000.00000001/series/2.25.2{0:04d}00000.00000002"


def client(url: str, folder: Path) -> list[Row]:
    """Put and get of 529 KB, one after the other and eight at once."""
    settings = BucketSettings(
        url,
        endpoint=os.environ.get("FILEROOM_STORAGE__ENDPOINT", ""),
        region=os.environ.get("FILEROOM_STORAGE__REGION", ""),
        allow_http=True,
    )
    store = open_store(settings, folder)
    body = ct_template()
    rows = []
    for threads in (1, 8):
        names = [f"bench/{threads}/{number}" for number in range(COUNT)]
        with ThreadPoolExecutor(threads) as pool:
            for what, act in (
                ("put", lambda name: store.put(name, body)),
                ("get", lambda name: store.read(name, 0, len(body))),
            ):
                rows.append(_own(f"{what}, {threads} at once", pool, act, names))
        store.forget(names)
    return rows


def _own(
    name: str, pool: ThreadPoolExecutor, act: Callable[[str], object], names: list[str]
) -> Row:
    before, started = time.process_time(), time.perf_counter()
    list(pool.map(act, names))
    return Row(name, len(names), time.perf_counter() - started, time.process_time() - before)


def archive(url: str) -> list[Row]:
    """Ingest by C-STORE and STOW-RS, then frames of a series: first time, and again."""
    template = ct_template()
    stored = "application/octet-stream; transfer-syntax=*"
    rows = []
    with served(FILEROOM_STORAGE__URL=url) as server:
        study = 0
        for senders in (1, 4, 8):
            jobs = []
            for _ in range(senders):
                study += 1
                items = [instance(template, study, n) for n in range(COUNT // senders)]
                jobs.append(partial(c_store, server.dicom_port, items))
            act = partial(in_processes, jobs)
            rows.append(measured(server, f"C-STORE, {senders} senders", COUNT, act))
        for senders in (1, 4):
            jobs = []
            for _ in range(senders):
                study += 1
                items = [instance(template, study, n) for n in range(COUNT // senders)]
                jobs.append(partial(_stow_batches, server, items))
            act = partial(in_processes, jobs)
            rows.append(measured(server, f"STOW-RS, {senders} senders", COUNT, act))
        paths = [
            f"{_SERIES.format(1)}/instances/{instance(template, 1, n)[0]}/frames/1"
            for n in range(COUNT)
        ]
        for name in ("frame, first time", "frame, again", "frame, again"):
            act = partial(get, server, paths, stored)
            rows.append(measured(server, name, COUNT, act))
        rows.append(_memory(server.memory_mb()))
    return rows


def _memory(mb: float) -> Row:
    return Row(f"memory after it: {mb:.0f} MB (PSS)", 1, 1, 0)


def main() -> None:
    warnings.filterwarnings("ignore", module="pydicom")
    bucket = os.environ["TEST_BUCKET"]
    lines = [f"# {time.strftime('%Y-%m-%d')}, {environment()}", ""]
    with TemporaryDirectory() as folder:
        sections = [("client", client(f"{bucket}/client", Path(folder)))]
    sections.append(("archive, bucket", archive(f"{bucket}/{uuid.uuid4().hex}")))
    sections.append(("archive, disk", archive("disk")))
    for title, rows in sections:
        lines += [f"## {title}", "", "| what | operations | a second | CPU ms each |"]
        lines += ["|---|---|---|---|", *(row.text() for row in rows), ""]
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
