"""`python -m benchmarks [NAME...] [--scale N]`: ingest, search, retrieve."""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

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


def search(scale: int) -> list[Row]:
    """Queries at 10,000 studies of one tiny instance each."""
    import io

    import pydicom
    from pydicom.data import get_testdata_file

    studies = 10_000 if scale >= 2 else 2_000
    dataset = pydicom.dcmread(get_testdata_file("rtplan.dcm"))
    names = [f"{last}^{first}" for last in ("Mueller", "Smith", "Jones", "Sonnberg", "Okafor")
             for first in ("Anna", "Ben", "Carla", "Dov", "Eun")]  # fmt: skip
    with served() as server:
        items = []
        for number in range(studies):
            dataset.StudyInstanceUID = f"2.25.7.{number}"
            dataset.SeriesInstanceUID = f"2.25.7.{number}.1"
            dataset.SOPInstanceUID = f"2.25.7.{number}.1.1"
            dataset.PatientID, dataset.PatientName = f"P{number % 4000:05d}", names[number % 25]
            dataset.StudyDate = (
                f"{2010 + number % 15}{1 + number % 12:02d}{1 + number % 28:02d}"
            )
            dataset.Modality = ("CT", "MR", "DX", "US")[number % 4]
            output = io.BytesIO()
            dataset.save_as(output)
            items.append((dataset.SOPInstanceUID, output.getvalue()))
            if len(items) == 500:
                stow(server, items)
                items = []
        rows = []
        for name, query in (
            (
                "study list as OHIF asks, 101",
                "limit=101&offset=0&includefield=00081030,00080060",
            ),
            ("exact PatientID", "PatientID=P00123"),
            ("name prefix, page of 100", "PatientName=Sonn*"),
            ("name contains, page of 100", "PatientName=*smith*"),
            ("month and modality", "ModalitiesInStudy=CT&StudyDate=20200101-20200131"),
            ("deep offset", f"limit=100&offset={studies - 200}"),
        ):
            paths = [f"/dicom-web/studies?{query}"] * (20 * scale)
            get(server, paths[:5], "*/*")
            rows.append(
                measured(
                    server,
                    f"{studies} studies: {name}",
                    len(paths),
                    partial(get, server, paths, "application/dicom+json"),
                )
            )
    return rows


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


_ALL = {"ingest": ingest, "search": search, "retrieve": retrieve}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*_ALL, []], help="default: all")
    parser.add_argument(
        "--scale", type=int, default=1, help="how much of it; 2 for 10,000 studies"
    )
    parser.add_argument("--save", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    lines = [f"# {time.strftime('%Y-%m-%d')}, {environment()}", ""]
    for name in arguments.names or _ALL:
        rows = _ALL[name](arguments.scale)
        lines += [f"## {name}", "", (_ALL[name].__doc__ or "").strip(), ""]
        lines += ["| what | operations | a second | server CPU ms each |", "|---|---|---|---|"]
        lines += [*(row.text() for row in rows), ""]
    text = "\n".join(lines)
    sys.stdout.write(text + "\n")
    if arguments.save:
        arguments.save.write_text(text)


if __name__ == "__main__":
    main()
