"""``fileroom demo``: something to look at, real files and made ones."""

from pathlib import Path
from typing import Annotated, Final

import pydicom.data
import typer

from archive.auth.principal import OPERATOR
from archive.cli.common import ConfigOption, JsonOption, console, opened, print_json
from archive.cli.demo_data import synthetic_instances
from archive.cli.importing import ImportReport, run_import
from archive.errors import ConflictingInstanceError
from archive.ingest.incoming import Incoming, Source

_SOURCE: Final = Source(
    site="demo", collection="demo", protocol="import", principal=OPERATOR.name
)


def demo(
    config: ConfigOption = None,
    real: Annotated[bool, typer.Option(help="Also the real files of pydicom's wheel.")] = True,
    as_json: JsonOption = False,
) -> None:
    r"""Store studies to look at: a CT volume, a DX, an ultrasound cine, and real small files.

    Running it again doubles nothing: the made studies have fixed UIDs and the same bytes.

    \b
    Examples:
      fileroom demo
      fileroom demo --no-real

    Exit status: 0.
    """
    with opened(config) as archive:
        stored = known = 0
        for body in synthetic_instances():
            try:
                outcome = archive.ingest.store(OPERATOR, Incoming(body, _SOURCE))
            except ConflictingInstanceError:
                known += 1  # made by another version of a library: the first stays
                continue
            stored += outcome.disposition == "stored"
            known += outcome.disposition == "duplicate"
        report = ImportReport()
        if real:
            folder = Path(pydicom.data.__file__).resolve().parent
            paths = [folder / "test_files", folder / "charset_files"]
            report = run_import(archive, paths, _SOURCE, quiet=as_json)
    if as_json:
        print_json({"synthetic": {"stored": stored, "known": known}, "real": report})
        return
    console.print(f"Made: {stored} instances stored, {known} known already")
    if real:
        console.print(
            f"Real: {report.stored} stored, {report.duplicates} known already, "
            f"{report.held} with UIDs of another file (held aside), "
            f"{report.skipped} that are no instances (pydicom tests with them)"
        )
    console.print(f"Look at http://127.0.0.1:{archive.config.http.port}/ while it runs.")
