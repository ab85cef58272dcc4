"""What every command shares: settings, output, references to resources."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from archive.config import Config, ConfigError, load_config
from archive.errors import ArchiveError
from archive.identity import InstanceRef, ResourceRef, SeriesRef, StudyRef, require_uid
from archive.log import configure_logging
from archive.processes import running_pid

if TYPE_CHECKING:
    from archive.assembly import Archive

# What a command ends with: 0 fine, 1 something is wrong with what was asked about, 2 misuse.
FOUND_FAULTS: Final = 1
MISUSED: Final = 2

console = Console(stderr=False, highlight=False)
errors = Console(stderr=True, highlight=False)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Settings file; default: config.toml, if there is one."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Report as JSON.")]
RefArgument = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="STUDY, STUDY/SERIES or STUDY/SERIES/INSTANCE, by their UIDs.",
        show_default=False,
    ),
]


def fail(message: str, status: int = FOUND_FAULTS) -> NoReturn:
    """Say what is wrong on standard error, and end."""
    errors.print(f"[red]fileroom:[/red] {escape(message)}", soft_wrap=True)
    raise typer.Exit(status)


def read_config(path: Path | None) -> Config:
    """Return the settings, or end with what is wrong in them."""
    if path is not None and not path.is_file():
        fail(f"there is no settings file {path}", MISUSED)
    try:
        config = load_config(path)
        if config.dimse.forward:
            # To know what a search is takes half a second: only who has rules waits for it.
            importlib.import_module("archive.forward.rules").check_rules(config.dimse.forward)
    except ConfigError as error:
        fail(str(error), MISUSED)
    return config


@contextlib.contextmanager
def opened(path: Path | None) -> Iterator["Archive"]:
    """Open the archive for one command; what it refuses ends the command."""
    config = read_config(path)
    configure_logging("ERROR")
    assembly = importlib.import_module("archive.assembly")  # `serve` does without it
    try:
        if running_pid(config.archive.data_dir) is None:
            assembly.prepare(config)
        with assembly.open_archive(config) as archive:
            yield archive
    except ArchiveError as error:
        fail(str(error))


def parse_ref(text: str) -> ResourceRef:
    """Return what UIDs joined by slashes name."""
    parts = text.strip("/").split("/")
    try:
        uids = [require_uid(part, "the reference") for part in parts]
    except ArchiveError as error:
        fail(str(error), MISUSED)
    if len(uids) == 1:
        return StudyRef(*uids)
    if len(uids) == 2:
        return SeriesRef(*uids)
    if len(uids) == 3:
        return InstanceRef(*uids)
    fail(f"{text!r} has {len(parts)} parts; expected STUDY[/SERIES[/INSTANCE]]", MISUSED)


def print_json(value: object) -> None:
    """Write ``value`` to standard output as JSON."""
    sys.stdout.buffer.write(orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2))
    sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a report holds
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def human_bytes(count: float) -> str:
    """Return a size as people read it."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""
