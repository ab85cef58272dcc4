"""``fileroom export``: instances out of the archive, byte for byte; or the index, as tables."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import track

from archive.assembly import Archive
from archive.auth.principal import OPERATOR
from archive.cli.common import (
    MISUSED,
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
from archive.errors import NotFoundError, UnavailableError
from archive.identity import ResourceRef, StudyRef
from archive.query.request import Level, SearchKey, SearchRequest
from archive.retrieve.values import StoredInstance

# Libraries that only this needs, and that need not be there.
_TABLES: Final = "archive.export.service"
_DESTINATION: Final = "archive.export.destination"


def export(  # noqa: PLR0913, PLR0917 - each is an option
    destination: Annotated[
        str,
        typer.Argument(
            help="Folder to write to; made if missing. Tables: or s3://BUCKET/PREFIX."
        ),
    ],
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
    parquet: Annotated[
        bool,
        typer.Option("--parquet", help="Write the index as Parquet tables instead of files."),
    ] = False,
    part_by: Annotated[
        str, typer.Option(metavar="NAMES", help="What tables are parted by; none: one part.")
    ] = "collection,study_year",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Write instances as files, STUDY/SERIES/INSTANCE.dcm, exactly as they are stored.

    Files that are there already and whole are left alone, so an export that was interrupted
    is resumed by running it again.

    With --parquet the index is written instead, as tables that DuckDB, Spark, Trino and
    BigQuery read: one row a series and one row an instance, attributes as columns, patients'
    attributes too (docs/analytics.md). Each export is a folder of its own, of one moment.

    \b
    Examples:
      fileroom export out
      fileroom export out 1.2.840.113619.2.1 1.2.840.113619.2.2/1.2.3
      fileroom export out --where PatientID=1CT1 --where StudyDate=20240101-20241231
      fileroom export --parquet tables
      fileroom export --parquet s3://bucket/tables --where ModalitiesInStudy=CT

    Exit status: 0 everything written, 1 nothing matched.
    """
    if parquet:
        if refs:
            fail("tables are of whole studies: choose them with --where", MISUSED)
        _export_tables(destination, where or [], part_by, config, as_json=as_json)
    elif "://" in destination:
        fail("only tables (--parquet) are written to a bucket; name a folder", MISUSED)
    else:
        _export_files(Path(destination), refs or [], where or [], config, as_json=as_json)


def _export_files(
    destination: Path, refs: list[str], where: list[str], config: Path | None, *, as_json: bool
) -> None:
    with opened(config) as archive:
        wanted = _wanted(archive, refs, where)
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


def _export_tables(
    destination: str, where: list[str], part_by: str, config: Path | None, *, as_json: bool
) -> None:
    with opened(config) as archive:
        tables, destinations = _library(_TABLES), _library(_DESTINATION)
        parted_by = [name.strip() for name in part_by.split(",") if name.strip()]
        unknown = sorted(set(parted_by) - set(tables.PARTED_BY))
        if unknown:
            fail(
                f"tables cannot be parted by {unknown[0]!r}: by {', '.join(tables.PARTED_BY)}",
                MISUSED,
            )
        chosen: frozenset[str] | None = None
        if where:
            chosen = frozenset(ref.study_instance_uid for ref in _wanted(archive, [], where))
            if not chosen:
                raise NotFoundError("nothing matches: nothing was written")
        export = tables.TableExport(archive.engine, archive.config.archive.public_url)
        report = export.run(
            OPERATOR,
            destinations.open_destination(destination),
            studies=chosen,
            selection=where,
            parted_by=parted_by,
        )
    if as_json:
        print_json(report)
    elif report.is_new:
        console.print(
            f"{report.series} series and {report.instances} instances in {report.files} files "
            f"({human_bytes(report.size_bytes)}) written to {report.place}",
            soft_wrap=True,
        )
        for column, instances in report.unconverted.items():
            console.print(
                f"  {column}: {instances} instances have a value that is none of its type; "
                "it is in other_attributes"
            )
    else:
        console.print(f"nothing has changed since {report.place} was written", soft_wrap=True)


def _library(module: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"tables need {error.name}: install Fileroom with the extra, fileroom[parquet]"
        ) from error


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
