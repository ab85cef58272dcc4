"""An archive of real files moves to PostgreSQL and a bucket, and back: is it the same?

    python -m tests.servers -- python -m benchmarks.moving \\
        --files DICOM-FILES --studies 1000 --index postgresql://postgres@127.0.0.1/moved

Copies of the files become studies under new UIDs (`benchmarks.copies`); the archive takes them
in, deletes, holds aside, forwards and commits some, so that no table is empty. Then both
migrations, by the commands that an operator uses. Before and after, every row of every table,
every byte of every object and the answers over HTTP are compared, by `benchmarks.comparing`,
which shares no code with the migrations; after the way back the folders, too.
"""

import argparse
import contextlib
import filecmp
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE

from benchmarks.comparing import (
    Answer,
    Rows,
    answers,
    bucket_digests,
    differing,
    differing_answers,
    disk_digests,
    index_rows,
)
from benchmarks.copies import Copied, copies, large
from benchmarks.harness import Server, free_port, served

_PUSH: Final = "1.2.840.10008.1.20.1"
_PUSH_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
# What waits to be reported or forwarded is tried again by whoever serves.
_WORKED_AT: Final = ("commitment", "forward_job")
_FOLDERS: Final = ("objects", "sources", "ledger")


@dataclass
class Step:
    """One thing that was done or compared."""

    name: str
    seconds: float
    told: str


@dataclass
class Moving:
    """The archive that moves.

    Parameters
    ----------
    folder
        Where its folder and the files are put.
    index, bucket
        Where it moves to: an empty database, and an address in a bucket.
    """

    folder: Path
    index: str
    bucket: str
    steps: list[Step] = field(default_factory=list)

    @property
    def data_dir(self) -> Path:
        """The archive's own folder."""
        return self.folder / "data"

    # -- what is done ----------------------------------------------------------------------

    def run(self, sources: list[Path], studies: int) -> list[Step]:
        """Do all of it; a step whose text begins with DIFFERENT is a fault."""
        self.data_dir.mkdir(parents=True)
        made = list(copies(sources, self.folder / "files", studies))
        large(self.folder / "files" / "large.dcm")
        self._timed("import", self._imported)
        with self._serving() as server:
            self._lived_in(server, made)
        rows = index_rows(self.data_dir / "index.db")
        digests = disk_digests(self.data_dir)
        before = self._answers("answers, SQLite and disk")
        # What serves may work on (leases, counters): what is compared is what it left.
        rows = index_rows(self.data_dir / "index.db")
        self._there(rows, digests, before)
        self._back(rows, digests, before)
        return self.steps

    def _there(self, rows: Rows, digests: dict[str, str], before: dict[str, Answer]) -> None:
        self._timed("migrate-index to PostgreSQL", lambda: self._index("sqlite", self.index))
        self._compared("rows", rows, differing(rows, index_rows(self.index)))
        self._timed("migrate-objects to the bucket", lambda: self._objects("disk", self.bucket))
        self._compared("objects", digests, _other(digests, self._in_bucket()))
        # Nothing of the old place is left where the archive could find it.
        self._set_aside()
        self._timed("verify, PostgreSQL and bucket", lambda: self._verify(**self._moved))
        after = self._answers("answers, PostgreSQL and bucket", **self._moved)
        self._compared("answers", before, differing_answers(before, after))

    def _back(self, rows: Rows, digests: dict[str, str], before: dict[str, Answer]) -> None:
        here = {"FILEROOM_INDEX__URL": self.index}
        self._timed(
            "migrate-objects to disk", lambda: self._objects(self.bucket, "disk", **here)
        )
        left = index_rows(self.index)
        self._timed("migrate-index to SQLite", lambda: self._index(self.index, "sqlite"))
        found = index_rows(self.data_dir / "index.db")
        self._compared("rows, as PostgreSQL had them", left, differing(left, found))
        self._compared("rows, as at first", _resting(rows), _resting_differ(rows, found))
        self._compared("objects", digests, _other(digests, disk_digests(self.data_dir)))
        self._compared("folders, as diff -r", digests, list(self._unlike_folders()))
        self._timed("verify, SQLite and disk", self._verify)
        after = self._answers("answers, SQLite and disk again")
        self._compared("answers", before, differing_answers(before, after))

    @property
    def _moved(self) -> dict[str, str]:
        return {"FILEROOM_INDEX__URL": self.index, "FILEROOM_STORAGE__URL": self.bucket}

    # -- the commands ----------------------------------------------------------------------

    def _command(self, *arguments: str, stdin: str = "", **environment: str) -> str:
        own = {
            "FILEROOM_ARCHIVE__DATA_DIR": str(self.data_dir),
            "FILEROOM_ARCHIVE__KEEP_FREE_BYTES": "0",
        }
        ended = subprocess.run(
            [sys.executable, "-m", "archive", *arguments],
            env=os.environ | own | environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise RuntimeError(f"{arguments}: {ended.returncode}\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def _imported(self) -> str:
        report = json.loads(self._command("import", str(self.folder / "files"), "--json"))
        return ", ".join(f"{name} {told}" for name, told in report.items() if told)

    def _index(self, source: str, target: str) -> str:
        tables = json.loads(
            self._command("migrate-index", "--from", source, "--to", target, "--json")
        )
        return f"{sum(table['rows'] for table in tables):,} rows"

    def _objects(self, source: str, target: str, **environment: str) -> str:
        report = json.loads(
            self._command(
                "migrate-objects", "--from", source, "--to", target, "--json", **environment
            )
        )
        return f"{report['copied']:,} objects, {report['bytes_'] / 1e6:,.0f} MB"

    def _verify(self, **environment: str) -> str:
        report = json.loads(self._command("verify", "--json", **environment))
        return ", ".join(f"{name} {told}" for name, told in report.items() if told)

    # -- the archive at work ---------------------------------------------------------------

    @contextlib.contextmanager
    def _serving(self, **environment: str) -> Iterator[Server]:
        named = {
            # The URLs in its answers are then the same, whatever its port.
            "FILEROOM_ARCHIVE__PUBLIC_URL": "http://archive.example",
            "FILEROOM_ARCHIVE__KEEP_FREE_BYTES": "0",
            "FILEROOM_RENDER__WORKERS": "1",
        }
        with served(self.data_dir, **(named | environment)) as server:
            yield server

    def _answers(self, name: str, **environment: str) -> dict[str, Answer]:
        found: dict[str, Answer] = {}

        def asked() -> str:
            with self._serving(**environment) as server:
                found.update(answers(server.url))
            good = sum(answer.status == 200 for answer in found.values())
            return f"{len(found):,} requests, {good:,} answered with 200"

        self._timed(name, asked)
        return found

    def _lived_in(self, server: Server, made: list[Copied]) -> None:
        """Let an archive have something in each of its tables."""
        # It calls, and is never reached: what is forwarded to it waits.
        self._command("peer", "add", "AWAY", "127.0.0.1", str(free_port()))
        self._command("user", "add", "anna", "--password-stdin", stdin="a long passphrase\n")
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder)))
            other = stack.enter_context(served(folder, FILEROOM_DIMSE__AE_TITLE="OTHER"))
            self._command("peer", "add", "OTHER", "127.0.0.1", str(other.dicom_port))
            self._command("forward", "add", "all", "--to", "OTHER", "--settle", "0")
            self._command("forward", "add", "away", "--to", "AWAY", "--settle", "0")
            self._sent(server, made[-1])
            self._until_forwarded()
        self._command("forward", "remove", "away")
        self._command("delete", made[0].study_instance_uid, "--reason", "a trial")

    def _sent(self, server: Server, study: Copied) -> None:
        """Send a study again under other UIDs, one instance also with other content."""
        datasets = [pydicom.dcmread(file) for file in study.files]
        for dataset in datasets:
            dataset.StudyInstanceUID += ".9"
            dataset.SOPInstanceUID += ".9"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        changed = pydicom.dcmread(study.files[0])
        changed.StudyDescription = "OTHER THAN IT WAS"
        entity = AE("SCANNER")
        for dataset in [*datasets, changed]:
            syntax = dataset.file_meta.TransferSyntaxUID
            if len(entity.requested_contexts) < 100:
                entity.add_requested_context(dataset.SOPClassUID, syntax)
        entity.add_requested_context(_PUSH)
        association = entity.associate("127.0.0.1", server.dicom_port, ae_title="FILEROOM")
        for dataset in [*datasets, changed]:
            association.send_c_store(dataset)
        asked = Dataset()
        asked.TransactionUID = "2.25.27182818284"
        item = Dataset()
        item.ReferencedSOPClassUID = datasets[0].SOPClassUID
        item.ReferencedSOPInstanceUID = datasets[0].SOPInstanceUID
        asked.ReferencedSOPSequence = [item]
        association.send_n_action(asked, 1, _PUSH, _PUSH_INSTANCE)
        association.release()

    def _until_forwarded(self) -> None:
        for _ in range(120):
            rows = index_rows(self.data_dir / "index.db")
            if any(
                found for name, found in rows.items() if name.startswith("forward_delivery")
            ):
                return
            time.sleep(0.5)
        raise RuntimeError("nothing was forwarded")

    # -- what is compared ------------------------------------------------------------------

    def _in_bucket(self) -> dict[str, str]:
        return bucket_digests(
            self.bucket,
            endpoint=os.environ["FILEROOM_STORAGE__ENDPOINT"],
            region=os.environ["FILEROOM_STORAGE__REGION"],
            client_options={"allow_http": True},
        )

    def _set_aside(self) -> None:
        aside = self.folder / "aside"
        aside.mkdir()
        for name in (*_FOLDERS, "index.db"):
            (self.data_dir / name).rename(aside / name)
        for rest in self.data_dir.glob("index.db-*"):
            rest.unlink()

    def _unlike_folders(self) -> Iterator[str]:
        for name in _FOLDERS:
            yield from _unlike(
                filecmp.dircmp(self.folder / "aside" / name, self.data_dir / name)
            )

    def _timed(self, name: str, act: Callable[[], str]) -> None:
        started = time.monotonic()
        told = act()
        self.steps.append(Step(name, time.monotonic() - started, told))

    def _compared(self, name: str, of: dict[str, Any], found: list[str]) -> None:
        count = sum(len(rows) if isinstance(rows, list) else 1 for rows in of.values())
        told = f"DIFFERENT: {found[:20]}" if found else f"{count:,} compared, all equal"
        self.steps.append(Step(f"compared: {name}", 0.0, told))


def _resting(rows: Rows) -> Rows:
    """Return the tables that an archive does not go on working at while it serves."""
    return {name: of for name, of in rows.items() if not name.startswith(_WORKED_AT)}


def _resting_differ(first: Rows, second: Rows) -> list[str]:
    return differing(_resting(first), _resting(second))


def _other(first: dict[str, str], second: dict[str, str]) -> list[str]:
    keys = first.keys() | second.keys()
    return sorted(key for key in keys if first.get(key) != second.get(key))


def _unlike(compared: filecmp.dircmp[str]) -> Iterator[str]:
    yield from (*compared.left_only, *compared.right_only, *compared.diff_files)
    for below in compared.subdirs.values():
        yield from _unlike(below)


def table(steps: list[Step]) -> str:
    """Return what was done as Markdown."""
    lines = ["| step | s | |", "|---|---|---|"]
    lines += [f"| {step.name} | {step.seconds:.1f} | {step.told} |" for step in steps]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moving", description=__doc__)
    parser.add_argument("--files", type=Path, required=True, help="folder of real files")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--index", required=True, help="postgresql://..., an empty database")
    parser.add_argument("--folder", type=Path, help="where the archive is put")
    arguments = parser.parse_args()
    bucket = f"{os.environ['TEST_BUCKET']}/{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        moving = Moving(Path(folder), arguments.index, bucket)
        sources = sorted(arguments.files.rglob("*.dcm"))
        try:
            moving.run(sources, arguments.studies)
        finally:
            sys.stdout.write(table(moving.steps) + "\n")
    sys.exit(any(step.told.startswith("DIFFERENT") for step in moving.steps))


if __name__ == "__main__":
    main()
