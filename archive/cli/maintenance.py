"""``fileroom delete``, ``restore``, ``purge`` and ``rebuild-index``."""

from datetime import timedelta
from typing import Annotated

import typer

from archive.assembly import finish_rebuild, rebuilder
from archive.auth.principal import OPERATOR
from archive.cli.common import (
    FOUND_FAULTS,
    MISUSED,
    ConfigOption,
    JsonOption,
    RefArgument,
    console,
    errors,
    fail,
    human_bytes,
    opened,
    parse_ref,
    print_json,
    read_config,
)
from archive.log import configure_logging
from archive.processes import running_pid


def delete(
    ref: RefArgument,
    reason: Annotated[
        str, typer.Option(help="Why; kept with the deletion.", show_default=False)
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Take a study, series or instance out of sight. `restore` undoes it.

    The bytes stay until `purge`, or until [archive] keep_deleted_days are over.

    \b
    Examples:
      fileroom delete 1.2.840.113619.2.1 --reason "sent by mistake"
      fileroom delete 1.2.840.113619.2.1/1.2.3 --reason "consent withdrawn"

    Exit status: 0 deleted, 1 there was nothing.
    """
    with opened(config) as archive:
        count = archive.lifecycle.delete(OPERATOR, parse_ref(ref), reason=reason)
    _say(count, "deleted", as_json=as_json)


def restore(ref: RefArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    r"""Bring back what was deleted and not yet purged.

    \b
    Examples:
      fileroom restore 1.2.840.113619.2.1

    Exit status: 0 restored, 1 nothing under REF is deleted.
    """
    with opened(config) as archive:
        count = archive.lifecycle.restore(OPERATOR, parse_ref(ref))
    _say(count, "restored", as_json=as_json)


def _say(count: int, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({what: count})
    else:
        console.print(f"{count} instances {what}")


def purge(
    config: ConfigOption = None,
    older_than_days: Annotated[
        float, typer.Option(help="Only what was deleted at least so many days ago.")
    ] = 30.0,
    as_json: JsonOption = False,
) -> None:
    r"""Free the bytes of deleted instances, for good.

    \b
    Examples:
      fileroom purge
      fileroom purge --older-than-days 0

    Exit status: 0.
    """
    with opened(config) as archive:
        age = timedelta(days=older_than_days)
        purged = archive.lifecycle.purge(OPERATOR, older_than=age)
    if as_json:
        print_json(purged)
    else:
        console.print(
            f"{purged.instances} instances purged, {human_bytes(purged.bytes_)} freed"
        )


def rebuild_index(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    r"""Make the index again from the objects alone.

    The archive must not be running. The old index is replaced only when the new one is
    complete; with SQLite it stays beside it as index.db.old.

    \b
    Examples:
      fileroom rebuild-index

    Exit status: 0 rebuilt, 1 some objects could not be indexed, 2 the archive is running.
    """
    settings = read_config(config)
    configure_logging("ERROR")
    pid = running_pid(settings.archive.data_dir)
    if pid is not None:
        fail(f"the archive is running (process {pid}); stop it first", MISUSED)
    worker = rebuilder(settings)
    with errors.status("reading objects") as status:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            status.update(f"reading objects: {done} instances")

        report = worker.rebuild(progress=None if as_json else progress)
    finish_rebuild(settings, worker)
    if as_json:
        print_json(report)
    else:
        console.print(f"{report.instances} instances of {report.studies} studies indexed")
        for key, reason in report.unreadable:
            console.print(f"  not indexed: {key}: {reason}", soft_wrap=True)
    if report.unreadable:
        raise typer.Exit(FOUND_FAULTS)
