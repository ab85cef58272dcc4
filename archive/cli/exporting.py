"""``fileroom export``: instances out of the archive, byte for byte."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from archive.assembly import Archive
from archive.auth.principal import OPERATOR
from archive.cli.common import (
    ConfigOption,
    JsonOption,
    console,
    errors,
    fail,
    human_bytes,
    opened,
    parse_ref,
    print_json,
)
from archive.dicom.attributes import resolve_path
from archive.errors import NotFoundError
from archive.identity import ResourceRef, StudyRef
from archive.query.request import Level, SearchKey, SearchRequest
from archive.retrieve.values import StoredInstance


def export(
    destination: Annotated[Path, typer.Argument(help="Folder to write to; made if missing.")],
    refs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REF...]", help="STUDY[/SERIES[/INSTANCE]]; none: everything."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where", "-w", help="KEY=VALUE, as in a search; several must all match."
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Write instances as files, STUDY/SERIES/INSTANCE.dcm, exactly as they are stored.

    Files that are there already and whole are left alone, so an export that was interrupted
    is resumed by running it again.

    \b
    Examples:
      fileroom export out
      fileroom export out 1.2.840.113619.2.1 1.2.840.113619.2.2/1.2.3
      fileroom export out --where PatientID=1CT1 --where StudyDate=20240101-20241231

    Exit status: 0 everything written, 1 nothing matched.
    """
    with opened(config) as archive:
        wanted = _wanted(archive, refs or [], where or [])
        found = list(archive.retrieve.instances(OPERATOR, wanted))
        if not found:
            raise NotFoundError("nothing matches: nothing was written")
        written = size = 0
        for stored in track(found, "writing", console=errors, disable=as_json, transient=True):
            if _write(archive, stored, destination):
                written += 1
                size += stored.size_bytes
    report = {"instances": len(found), "written": written, "bytes": size}
    if as_json:
        print_json(report)
    else:
        console.print(
            f"{written} instances written ({human_bytes(size)}), "
            f"{len(found) - written} were there already"
        )


def _wanted(archive: Archive, refs: list[str], where: list[str]) -> list[ResourceRef]:
    if refs:
        return [parse_ref(ref) for ref in refs]
    request = SearchRequest(Level.STUDY, keys=tuple(_keys(where)), combined_date_time=True)
    ignored = archive.query.ignored_keys(request)
    if ignored:
        fail(f"{ignored[0]} is not indexed: it cannot select what is exported", 2)
    return [
        StudyRef(match["0020000D"]["Value"][0])
        for match in archive.query.search(OPERATOR, request)
    ]


def _keys(where: list[str]) -> Iterator[SearchKey]:
    for condition in where:
        name, separator, value = condition.partition("=")
        path = resolve_path(name)
        if path is None or not separator:
            fail(f"{condition!r} is no condition: expected KEY=VALUE, e.g. PatientID=123", 2)
        yield SearchKey(tuple(attribute.tag for attribute in path), value)


def _write(archive: Archive, stored: StoredInstance, destination: Path) -> bool:
    folder = destination / stored.study_instance_uid / stored.series_instance_uid
    file = folder / f"{stored.sop_instance_uid}.dcm"
    if file.is_file() and file.stat().st_size == stored.size_bytes:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    with part.open("wb") as out:
        for chunk in archive.retrieve.iter_chunks(stored):
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    part.rename(file)
    return True
