"""Memory of the archive while one very large instance goes in and comes out.

    python -m benchmarks.streaming [--megabytes 2048] [--json]

Stores it by STOW-RS, retrieves it by every WADO-RS way that streams, and looks every 20 ms at
each process of the archive. The promise: none grows by more than 150 MB above idle.
"""

import argparse
import contextlib
import http.client
import io
import json
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from benchmarks.harness import Server, served

PROMISED_MB = 150
_CHUNK = 1024 * 1024
_SIDE = 2048  # a frame is 8 MiB
_FRAME_BYTES = _SIDE * _SIDE * 2
_EVERY_S = 0.02


@dataclass
class Watch:
    """Memory of each process of the archive, looked at again and again."""

    server: Server
    idle_mb: dict[int, float] = field(default_factory=dict)
    peak_mb: dict[int, float] = field(default_factory=dict)

    def settle(self) -> None:
        """Remember what the processes take now."""
        self.idle_mb = {pid: _resident_mb(pid) for pid in self.server.processes()}
        self.peak_mb = dict(self.idle_mb)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Look while the block runs."""
        end = threading.Event()
        looking = threading.Thread(target=self._look, args=(end,))
        looking.start()
        try:
            yield
        finally:
            end.set()
            looking.join()

    def _look(self, end: threading.Event) -> None:
        while not end.wait(_EVERY_S):
            for pid in self.peak_mb:
                self.peak_mb[pid] = max(self.peak_mb[pid], _resident_mb(pid))

    @property
    def growth_mb(self) -> float:
        """How much the process that grew most has grown."""
        return max(self.peak_mb[pid] - idle for pid, idle in self.idle_mb.items())


def _resident_mb(pid: int) -> float:
    """Memory that is the process's own, and what it has mapped of files."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def large_instance(megabytes: int) -> tuple[Dataset, Iterator[bytes], int]:
    """Return an instance, its bytes piece by piece, and how many they are."""
    frames = max(1, megabytes * 1024 * 1024 // _FRAME_BYTES)
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = generate_uid(), generate_uid()
    dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), "OT"
    dataset.PatientID, dataset.PatientName = "LARGE", "Large^Instance"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = _SIDE
    dataset.NumberOfFrames = frames
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    output = io.BytesIO()
    whole = FileDataset("", dataset, file_meta=meta, preamble=bytes(128))
    whole.save_as(output, enforce_file_format=True)
    length = frames * _FRAME_BYTES
    head = output.getvalue() + b"\xe0\x7f\x10\x00OW\0\0" + length.to_bytes(4, "little")

    def pieces() -> Iterator[bytes]:
        yield head
        for number in range(length // _CHUNK):
            yield number.to_bytes(4, "little") * (_CHUNK // 4)

    return dataset, pieces(), len(head) + length


def _store(server: Server, pieces: Iterator[bytes], length: int) -> None:
    opening = b"--x\r\nContent-Type: application/dicom\r\n\r\n"
    closing = b"\r\n--x--\r\n"
    connection = http.client.HTTPConnection(_host(server), timeout=600)
    connection.putrequest("POST", "/dicom-web/studies")
    connection.putheader(
        "Content-Type", 'multipart/related; type="application/dicom"; boundary=x'
    )
    connection.putheader("Accept", "application/dicom+json")
    connection.putheader("Content-Length", str(len(opening) + length + len(closing)))
    connection.endheaders()
    connection.send(opening)
    for piece in pieces:
        connection.send(piece)
    connection.send(closing)
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"storing was answered {answer.status}: {answer.read()[:500]!r}")
    connection.close()


def _retrieve(server: Server, path: str, accept: str) -> int:
    connection = http.client.HTTPConnection(_host(server), timeout=600)
    connection.request("GET", path, headers={"Accept": accept})
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{path} was answered {answer.status}: {answer.read()[:500]!r}")
    buffer, total = bytearray(_CHUNK), 0
    while count := answer.readinto(buffer):
        total += count
    connection.close()
    return total


def _host(server: Server) -> str:
    return urllib.parse.urlsplit(server.url).netloc


def measure(megabytes: int) -> list[dict[str, object]]:
    """Return what each way took: seconds, megabytes, growth of the largest process."""
    rows: list[dict[str, object]] = []
    with served(FILEROOM_HTTP__WORKERS="1", FILEROOM_LOGGING__LEVEL="WARNING") as server:
        # A small instance goes all ways first: idle is a worker that has done all this once.
        small, pieces, length = large_instance(8)
        _store(server, pieces, length)
        for _, path, accept in _ways(small):
            _retrieve(server, path, accept)
        watch = Watch(server)
        dataset, pieces, length = large_instance(megabytes)

        def note(name: str, act) -> None:
            time.sleep(1)
            watch.settle()
            started = time.perf_counter()
            with watch.running():
                act()
            rows.append(
                {
                    "what": name,
                    "seconds": round(time.perf_counter() - started, 2),
                    "idle_mb": round(max(watch.idle_mb.values())),
                    "growth_mb": round(watch.growth_mb, 1),
                }
            )

        note("STOW-RS", lambda: _store(server, pieces, length))
        for name, path, accept in _ways(dataset):
            note(name, lambda path=path, accept=accept: _retrieve(server, path, accept))
    return rows


def _ways(dataset: Dataset) -> list[tuple[str, str, str]]:
    study = f"/dicom-web/studies/{dataset.StudyInstanceUID}"
    instance = f"{study}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"
    octets = 'multipart/related; type="application/octet-stream"'
    return [
        ("WADO-RS instance", instance, "application/dicom"),
        ("WADO-RS study", study, 'multipart/related; type="application/dicom"'),
        ("WADO-RS study as zip", study, "application/zip"),
        ("WADO-RS pixel data", f"{instance}/bulkdata/7FE00010", "application/octet-stream"),
        ("WADO-RS pixel data, in frames", f"{instance}/pixeldata", octets),
        ("WADO-RS metadata", f"{instance}/metadata", "application/dicom+json"),
        ("WADO-RS frame 1", f"{instance}/frames/1", octets),
    ]


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=2048, help="size of the instance")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    options = parser.parse_args()
    rows = measure(options.megabytes)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"One instance of {options.megabytes} MB; idle and growth of a process, in MB")
        for row in rows:
            print(
                f"  {row['what']:32} {row['seconds']:8} s   idle {row['idle_mb']:5}"
                f"   grew by {row['growth_mb']:7}"
            )
    if any(row["growth_mb"] > PROMISED_MB for row in rows):
        sys.exit(f"a process grew by more than {PROMISED_MB} MB")


if __name__ == "__main__":
    main()
