"""``fileroom migrate-objects``: from disk to a bucket, and back."""

import contextlib
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

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

from archive.assembly import migration
from archive.auth.principal import OPERATOR
from archive.cli.common import (
    FOUND_FAULTS,
    MISUSED,
    ConfigOption,
    JsonOption,
    console,
    errors,
    fail,
    human_bytes,
    opened,
    print_json,
    read_config,
)
from archive.lifecycle.migration import MigrationReport, Outcome, Row

_Note = Callable[[list[Row]], None]


def migrate_objects(  # noqa: PLR0913, PLR0917 - the options of a command
    source: Annotated[str, typer.Option("--from", help='"disk", "s3://bucket/prefix", ...')],
    target: Annotated[str, typer.Option("--to", help='"disk", "s3://bucket/prefix", ...')],
    config: ConfigOption = None,
    threads: Annotated[int, typer.Option(help="Objects copied at once.")] = 8,
    check: Annotated[
        bool, typer.Option("--check", help="Read what is there already, too, and compare.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write a line for each object to this file (CSV).")
    ] = None,
    remove_source: Annotated[
        bool,
        typer.Option("--remove-source", help="Remove at --from what --to holds, at the end."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    r"""Copy every object of the archive to another store, compared by digest.

    Endpoint, region and the like are those of [storage]; credentials come from the environment.
    The archive may run: run this again when it is stopped, for what has arrived meanwhile; then
    set [storage] url, start, and let `verify` read everything. Interrupted, it goes on where
    it was when it is run again.

    \b
    Examples:
      fileroom migrate-objects --from disk --to s3://archive/objects
      fileroom migrate-objects --from s3://archive/objects --to disk --report moved.csv

    Exit status: 0 everything is there, 1 some objects could not be copied, 2 misuse.
    """
    settings = read_config(config)
    if source == target:
        fail("--from and --to are the same store", MISUSED)
    if remove_source and settings.storage.url == source:
        fail(
            f"[storage] url is still {source!r}, which --remove-source would empty: "
            f"set it to {target!r}, restart the archive, and run this again",
            MISUSED,
        )
    with opened(config) as archive:
        totals = archive.changes.totals(OPERATOR)
        moving = migration(archive, source, target, check=check)
        expected = totals.instances + totals.held + totals.deleted
        with _lines(report) as line, _progress(expected, quiet=as_json) as advance:

            def note(rows: list[Row]) -> None:
                line(rows)
                advance(rows)

            done = moving.run(threads=threads, note=note)
        if remove_source and not done.failed:
            done.removed = moving.remove_source()
    _say(done, as_json=as_json)
    if done.failed:
        raise typer.Exit(FOUND_FAULTS)


def _say(done: MigrationReport, *, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    console.print(
        f"{done.copied} copied ({human_bytes(done.bytes_)}), {done.there} there already, "
        f"{len(done.failed)} failed, {done.removed} removed"
    )
    for row in done.failed:
        console.print(f"  {row.key}: {escape(row.reason)}", soft_wrap=True)


@contextlib.contextmanager
def _lines(path: Path | None) -> Iterator[_Note]:
    if path is None:
        yield lambda _rows: None
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("key", "size_bytes", "outcome", "sha256", "reason"))
        yield lambda rows: writer.writerows(
            (row.key, row.size_bytes, row.outcome, row.sha256, row.reason) for row in rows
        )


@contextlib.contextmanager
def _progress(expected: int, *, quiet: bool) -> Iterator[_Note]:
    columns = (
        TextColumn("copying"),
        BarColumn(),
        MofNCompleteColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, disable=quiet, transient=True) as progress:
        objects = progress.add_task("objects", total=expected)
        volume = progress.add_task("bytes", total=None)

        def advance(rows: list[Row]) -> None:
            progress.advance(objects, len(rows))
            copied = (row.size_bytes for row in rows if row.outcome is Outcome.COPIED)
            progress.advance(volume, sum(copied))

        yield advance
