"""``fileroom migrate-index``: from SQLite to PostgreSQL, and back."""

from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from archive import assembly
from archive.cli.common import (
    FOUND_FAULTS,
    MISUSED,
    ConfigOption,
    JsonOption,
    console,
    errors,
    fail,
    print_json,
    read_config,
)
from archive.errors import ArchiveError
from archive.log import configure_logging
from archive.processes import running_pid


def migrate_index(
    source: Annotated[str, typer.Option("--from", help='"sqlite" or "postgresql://..."')],
    target: Annotated[str, typer.Option("--to", help='"sqlite" or "postgresql://..."')],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Copy the index to an empty database, every row under its key, and compare them.

    Objects stay where they are. Stop the archive, run this, set [index] url to --to, and start
    it again. It is all or nothing: interrupted, it begins anew. The old index is left as it is.

    \b
    Examples:
      fileroom migrate-index --from sqlite --to postgresql://fileroom@db.example.org/fileroom

    Exit status: 0 both hold the same, 1 they do not or nothing was copied, 2 misuse.
    """
    settings = read_config(config)
    configure_logging("ERROR")
    if source == target:
        fail("--from and --to are the same index", MISUSED)
    if (pid := running_pid(settings.archive.data_dir)) is not None:
        fail(f"the archive is running (process {pid}): stop it, or what arrives stays behind")
    columns = (
        TextColumn("copying rows"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=errors, disable=as_json, transient=True) as progress:
            task = progress.add_task("rows", total=None)

            def note(expected: int, rows: int) -> None:
                progress.update(task, total=expected, advance=rows)

            tables = assembly.migrate_index(settings, source, target, note)
    except ArchiveError as error:
        fail(str(error))
    if as_json:
        print_json(tables)
    else:
        for table in tables:
            equal = "equal" if table.is_equal else f"NOT EQUAL: {table.target_rows} arrived"
            console.print(f"{table.name:24} {table.rows:>12} rows  {equal}")
    if not all(table.is_equal for table in tables):
        raise typer.Exit(FOUND_FAULTS)
