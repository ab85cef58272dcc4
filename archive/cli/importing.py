"""``fileroom import``: folders, files and zip archives into the archive."""

import contextlib
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from archive.assembly import Archive
from archive.auth.principal import OPERATOR
from archive.cli.common import (
    FOUND_FAULTS,
    ConfigOption,
    JsonOption,
    console,
    errors,
    fail,
    human_bytes,
    opened,
    print_json,
)
from archive.errors import ArchiveError, ConflictingInstanceError, InvalidInstanceError
from archive.ingest.incoming import Incoming, Source, Spool, collection_name

_THREADS: Final = 8
_IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_CHUNK_BYTES: Final = 1 << 20
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file, or a member of a zip archive, that may be an instance.

    Parameters
    ----------
    name
        How it is reported.
    read
        Yields its content in chunks.
    """

    name: str
    size_bytes: int
    read: Callable[[], Iterator[bytes]]


@dataclass(slots=True)
class ImportReport:
    """What an import did."""

    stored: int = 0
    duplicates: int = 0
    held: int = 0
    skipped: int = 0
    failed: int = 0
    bytes_: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)

    def note(self, name: str, reason: str) -> None:
        """Count why something was not stored, and keep the first few names."""
        self.reasons[reason.split(":", maxsplit=1)[0][:100]] += 1
        if len(self.examples) < _SHOWN:
            self.examples.append((name, reason))


def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Folders, files or zip archives.", exists=True),
    ],
    config: ConfigOption = None,
    site: Annotated[str, typer.Option(help="Site the instances are counted for.")] = "",
    collection: Annotated[str, typer.Option(help="Collection they go to.")] = "",
    as_json: JsonOption = False,
) -> None:
    r"""Store every DICOM file found under PATHs.

    Folders are searched to the bottom, zip archives opened. What is not DICOM is skipped and
    counted. What is stored already is recognised and not doubled: run the same command again
    to resume an import that was interrupted.

    \b
    Examples:
      fileroom import /media/cdrom
      fileroom import study.zip more/*.dcm --site north
      fileroom import /data/trial --collection trial-7 --json > report.json

    Exit status: 0 all stored or known, 1 something could not be stored or was held aside.
    """
    with opened(config) as archive:
        settings = archive.config.archive
        try:
            name = collection_name(collection or settings.collection)
        except ArchiveError as error:
            fail(str(error), 2)
        source = Source(
            site=site or settings.site,
            collection=name,
            protocol="import",
            principal=OPERATOR.name,
        )
        report = run_import(archive, paths, source, quiet=as_json)
    _print_report(report, as_json=as_json)
    if report.failed or report.held or report.interrupted:
        raise typer.Exit(FOUND_FAULTS)


def run_import(
    archive: Archive, paths: list[Path], source: Source, *, quiet: bool
) -> ImportReport:
    """Store what is under ``paths``; Ctrl-C finishes what has begun."""
    report = ImportReport()
    started = time.monotonic()
    with _progress(quiet=quiet) as progress, ThreadPoolExecutor(_THREADS) as pool:
        total = sum(1 for path in paths for _ in _files(path))
        files = progress.add_task("files", total=total)
        volume = progress.add_task("bytes", total=None)
        running: dict[Future[str], Candidate] = {}
        try:
            for path in paths:
                for file in _files(path):
                    for candidate in _candidates(file, report):
                        running[pool.submit(_store, archive, candidate, source)] = candidate
                        if len(running) >= 2 * _THREADS:
                            _collect(running, report)
                        progress.update(volume, completed=report.bytes_)
                    progress.advance(files)
        except KeyboardInterrupt:
            report.interrupted = True
        while running:
            _collect(running, report)
            progress.update(volume, completed=report.bytes_)
    report.seconds = time.monotonic() - started
    return report


def _progress(*, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description:>5}"),
        BarColumn(),
        MofNCompleteColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=quiet,
        transient=True,
    )


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry)
        elif entry.is_file():
            yield entry


def _candidates(file: Path, report: ImportReport) -> Iterator[Candidate]:
    try:
        if file.suffix.lower() == ".zip" and zipfile.is_zipfile(file):
            yield from _members(file)
        else:
            yield Candidate(str(file), file.stat().st_size, lambda: _chunks(file))
    except (OSError, zipfile.BadZipFile) as error:
        report.failed += 1
        report.note(str(file), f"cannot be read: {error}")


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def _members(file: Path) -> Iterator[Candidate]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield Candidate(
                    f"{file}:{info.filename}",
                    info.file_size,
                    lambda info=info: _member_chunks(file, info),  # type: ignore[misc] # bound
                )


def _member_chunks(file: Path, info: zipfile.ZipInfo) -> Iterator[bytes]:
    # Opened anew for each member: several are read at once.
    with zipfile.ZipFile(file) as archive, archive.open(info) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def _store(archive: Archive, candidate: Candidate, source: Source) -> str:
    chunks = candidate.read()
    first = next(chunks, b"")
    if _is_directory_file(first):
        raise InvalidInstanceError("a DICOMDIR, which is no instance")
    body = _body(archive, first, chunks, candidate.size_bytes)
    return archive.ingest.store(OPERATOR, Incoming(body, source)).disposition.value


def _is_directory_file(first: bytes) -> bool:
    # Media Storage Directory Storage (PS3.10 §8.6) in the File Meta Information.
    return b"1.2.840.10008.1.3.10" in first[132:512]


def _body(
    archive: Archive, first: bytes, rest: Iterator[bytes], size_bytes: int
) -> bytearray | Spool:
    if size_bytes <= _IN_MEMORY_BYTES:
        body = bytearray(first)
        for chunk in rest:
            body += chunk
        return body
    spool = archive.ingest.new_spool()
    with contextlib.ExitStack() as undo:
        undo.callback(spool.discard)
        spool.write(first)
        for chunk in rest:
            spool.write(chunk)
        undo.pop_all()
    return spool


def _collect(running: dict[Future[str], Candidate], report: ImportReport) -> None:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        candidate = running.pop(future)
        report.bytes_ += candidate.size_bytes
        try:
            if future.result() == "duplicate":
                report.duplicates += 1
            else:
                report.stored += 1
        except ConflictingInstanceError as error:
            report.held += 1
            report.note(candidate.name, str(error))
        except InvalidInstanceError as error:
            report.skipped += 1
            report.note(candidate.name, str(error))
        except (ArchiveError, OSError, zipfile.BadZipFile) as error:
            report.failed += 1
            report.note(candidate.name, str(error))


def _print_report(report: ImportReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    rate = report.bytes_ / report.seconds if report.seconds else 0.0
    console.print(
        f"{report.stored} stored, {report.duplicates} known already, {report.held} held aside, "
        f"{report.skipped} skipped, {report.failed} failed; "
        f"{human_bytes(report.bytes_)} in {report.seconds:.1f} s ({human_bytes(rate)}/s)"
    )
    for reason, count in report.reasons.most_common():
        console.print(f"  {count:6d}  {escape(reason)}", soft_wrap=True)
    for name, reason in report.examples:
        console.print(f"[dim]  {escape(f'{name}: {reason}')}[/dim]", soft_wrap=True)
    if report.interrupted:
        console.print("Interrupted. The same command again goes on where this one stopped.")
