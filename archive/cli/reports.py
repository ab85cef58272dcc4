"""``fileroom status`` and ``fileroom verify``."""

import shutil
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from archive.auth.principal import OPERATOR
from archive.cli.common import (
    FOUND_FAULTS,
    ConfigOption,
    JsonOption,
    console,
    errors,
    human_bytes,
    opened,
    print_json,
)
from archive.lifecycle.verify import VerifyReport
from archive.processes import running_pid
from storage.index.rows import Totals, UnusualInstance


def status(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="How many conflicts to list.")] = 20,
) -> None:
    r"""Say what the archive holds, who sent it, and what needs a look.

    Conflicts are instances whose UIDs arrived with other content (held aside), and SOP
    Instance UIDs that are stored in more than one series.

    \b
    Examples:
      fileroom status
      fileroom status --json

    Exit status: 0.
    """
    with opened(config) as archive:
        totals = archive.changes.totals(OPERATOR)
        unusual = archive.changes.unusual(OPERATOR, limit=limit)
        data_dir = archive.config.archive.data_dir
        disk = shutil.disk_usage(data_dir)
        pid = running_pid(data_dir)
        accepts = archive.objects.has_room()
    if as_json:
        print_json(
            {
                "running": pid,
                "data_dir": data_dir,
                "accepts_instances": accepts,
                "disk_free_bytes": disk.free,
                "totals": totals,
                "conflicts": unusual,
            }
        )
        return
    console.print(_summary(totals, pid, accepts, f"{data_dir}, {human_bytes(disk.free)} free"))
    _print_details(totals, unusual)


def _summary(totals: Totals, pid: int | None, accepts: bool, place: str) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in (
        ("Running", f"yes, process {pid}" if pid else "no"),
        ("Data", place),
        ("Accepts instances", "yes" if accepts else "no: the disk is nearly full"),
        ("Patients", totals.patients),
        ("Studies", totals.studies),
        ("Series", totals.series),
        ("Instances", f"{totals.instances} ({human_bytes(totals.bytes_)})"),
        ("Held aside", totals.held),
        ("UIDs in several series", totals.elsewhere),
        ("Duplicates received", totals.duplicates),
        ("Deleted, not purged", totals.deleted),
        ("Last change", totals.last_change),
    ):
        table.add_row(name, str(value))
    return table


def _print_details(totals: Totals, unusual: list[UnusualInstance]) -> None:
    if totals.by_source:
        console.print("\n[bold]Received from[/bold]")
        for name, count in totals.by_source:
            console.print(f"  {count:8d}  {name}")
    if unusual:
        console.print("\n[bold]Conflicts[/bold], newest first")
        for one in unusual:
            console.print(
                f"  {one.received_at:%Y-%m-%d %H:%M}  {one.why}, version {one.version}: "
                f"{one.study_instance_uid}/{one.series_instance_uid}/{one.sop_instance_uid}",
                soft_wrap=True,
            )


def verify(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    threads: Annotated[int, typer.Option(help="Objects read at once.")] = 4,
    remove_orphans: Annotated[
        bool, typer.Option("--remove-orphans", help="Remove what is orphaned.")
    ] = False,
    orphan_hours: Annotated[
        float, typer.Option(help="Younger objects are not orphaned: they may be arriving.")
    ] = 1.0,
) -> None:
    r"""Read every object again and compare it with what was acknowledged.

    Lists what is lost (indexed, but gone), corrupt (other bytes than were received) and
    orphaned (there, but not indexed; an instance that is just arriving is no orphan).
    Orphans are what a node left behind that died while it was storing, and acknowledged to
    nobody; but if the index was brought back from a backup, use `rebuild-index` instead of
    removing them.

    \b
    Examples:
      fileroom verify
      fileroom verify --json --threads 8
      fileroom verify --remove-orphans

    Exit status: 0 sound, 1 something is wrong.
    """
    with opened(config) as archive:
        total = archive.changes.totals(OPERATOR)
        expected = total.instances + total.held + total.deleted
        with Progress(
            TextColumn("verifying"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            console=errors,
            disable=as_json,
            transient=True,
        ) as progress:
            task = progress.add_task("verify", total=expected)
            report = archive.verifier.verify(
                progress=lambda count, _size: progress.advance(task, count),
                threads=threads,
                grace_s=orphan_hours * 3600,
                remove_orphans=remove_orphans,
            )
    if as_json:
        print_json(report)
    else:
        _print_verification(report)
    if not report.sound:
        raise typer.Exit(FOUND_FAULTS)


def _print_verification(report: VerifyReport) -> None:
    console.print(f"{report.objects} objects read ({human_bytes(report.bytes_)})")
    for name, keys in (
        ("lost", report.lost),
        ("corrupt", report.corrupt),
        ("orphaned", report.orphans),
    ):
        console.print(f"  {len(keys)} {name}")
        for key in keys:
            console.print(f"    {key}", soft_wrap=True)
    if report.removed:
        console.print(f"  {report.removed} orphans removed")
