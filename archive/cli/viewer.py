"""``fileroom viewer``: the OHIF viewer, fetched once and served at ``/viewer/``."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from archive.cli.common import (
    FOUND_FAULTS,
    ConfigOption,
    JsonOption,
    console,
    errors,
    fail,
    human_bytes,
    print_json,
    read_config,
)
from archive.viewer.install import current, install, missing_files, remove
from archive.viewer.installed import InstalledViewer, read_installed
from archive.viewer.package import OHIF, ViewerError, fetch

viewer = typer.Typer(
    name="viewer",
    no_args_is_help=True,
    rich_markup_mode=None,
    help=(
        "The OHIF viewer: install, look at, remove.\n\n"
        "It is not part of Fileroom, but fetched once, checked, and then served at /viewer/."
    ),
)


@viewer.command(name="install")
def install_(
    config: ConfigOption = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="The package, fetched elsewhere with `npm pack`; nothing is downloaded then.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Even if it is installed already.")] = False,
    as_json: JsonOption = False,
) -> None:
    r"""Fetch the prebuilt viewer with npm, check it, and unpack it where it is served.

    One version is known, by its checksum; anything else is refused. The archive may run, and
    gives the new one from then on. Running it again does nothing when all is there.

    \b
    Examples:
      fileroom viewer install
      npm pack @ohif/app@3.13.2                                  (where there is a network)
      fileroom viewer install --file ohif-app-3.13.2.tgz         (where there is none)
      FILEROOM_VIEWER__FOLDER=/opt/viewer fileroom viewer install

    Exit status: 0 installed, 1 could not be fetched, checked or written, 2 settings wrong.
    """
    folder = read_config(config).viewer_folder
    found = None if force else current(folder)
    if found is None:
        try:
            found, changed = _install(file, folder, quiet=as_json), True
        except ViewerError as error:
            fail(str(error))
    else:
        changed = False
    if as_json:
        print_json(_report(found) | {"changed": changed})
        return
    what = "installed" if changed else "installed already"
    console.print(f"OHIF {found.version} is {what}: {_summary(found)}", soft_wrap=True)
    console.print("`fileroom serve` gives it at /viewer/.")


def _install(file: Path | None, folder: Path, *, quiet: bool) -> InstalledViewer:
    with _telling(quiet=quiet) as tell, tempfile.TemporaryDirectory() as scratch:
        if file is None:
            tell(f"npm fetches {OHIF.spec} (50 MB)")
            file = fetch(OHIF, Path(scratch))
        tell("checks it")
        return install(file, folder, progress=lambda name, _: tell(f"unpacks {name}"))


@contextlib.contextmanager
def _telling(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show one line that says what is being done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=quiet) as progress:
        line = progress.add_task("", total=None)
        yield lambda text: progress.update(line, description=text)


@viewer.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    r"""Say which viewer is installed, and whether it is whole.

    \b
    Examples:
      fileroom viewer status
      fileroom viewer status --json

    Exit status: 0 installed and whole, 1 not, 2 settings wrong.
    """
    folder = read_config(config).viewer_folder
    found = read_installed(folder)
    if found is None:
        if as_json:
            print_json({"installed": False, "folder": folder})
            raise typer.Exit(FOUND_FAULTS)
        fail(f"no viewer is installed in {folder}; `fileroom viewer install` fetches it")
    missing = missing_files(found)
    if as_json:
        print_json(_report(found) | {"missing": missing})
    else:
        console.print(f"OHIF {found.version}: {_summary(found)}", soft_wrap=True)
    if missing:
        errors.print(f"{len(missing)} files are gone or cut, e.g. {missing[0]}")
        raise typer.Exit(FOUND_FAULTS)


@viewer.command(name="remove")
def remove_(config: ConfigOption = None) -> None:
    r"""Remove the viewer; studies are not touched.

    \b
    Examples:
      fileroom viewer remove

    Exit status: 0 removed or not there, 1 could not be removed, 2 settings wrong.
    """
    folder = read_config(config).viewer_folder
    try:
        there = remove(folder)
    except ViewerError as error:
        fail(str(error))
    console.print("The viewer is removed." if there else "There was no viewer.")


def _report(found: InstalledViewer) -> dict[str, object]:
    return {
        "installed": True,
        "package": OHIF.name,
        "version": found.version,
        "integrity": found.integrity,
        "folder": found.folder,
        "files": len(found.files),
        "bytes": found.size_bytes,
    }


def _summary(found: InstalledViewer) -> str:
    return f"{len(found.files)} files, {human_bytes(found.size_bytes)}, in {found.folder}"
