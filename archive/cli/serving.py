"""``fileroom serve``."""

import importlib
from typing import Annotated

import typer

from archive.auth.certificates import check_tls
from archive.cli.common import MISUSED, ConfigOption, console, fail, read_config
from archive.config import Config, ConfigError
from archive.starting import Endpoints, StartError, start


def serve(
    config: ConfigOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log only.")] = False,
) -> None:
    r"""Run the archive until Ctrl-C or SIGTERM.

    Starts the DICOM and HTTP workers, restarts what dies, and at the end lets associations
    and requests finish. Logs are JSON lines on standard error.

    \b
    Examples:
      fileroom serve
      fileroom serve --config /etc/fileroom.toml
      FILEROOM_HTTP__PORT=9000 fileroom serve 2> fileroom.log

    Exit status: 0 stopped in order, 1 could not start or had to be forced, 2 settings wrong.
    """
    settings = read_config(config)
    try:
        check_tls(settings.dimse)
        if settings.auth.jwt_key_file:
            importlib.import_module("archive.auth.tokens").check_tokens(settings.auth)
    except ConfigError as error:
        fail(str(error), MISUSED)

    def announcement(endpoints: Endpoints) -> str:
        return "" if quiet else _announcement(settings, endpoints)

    try:
        start(settings, announcement)
    except StartError as error:
        fail(str(error))


def _announcement(config: Config, endpoints: Endpoints) -> str:
    host, port = endpoints.http
    dicom_host, dicom_port = endpoints.dicom
    web = f"http://{host}:{port}"
    secure = ""
    if endpoints.dicom_tls is not None:
        secure = "\n  DICOM, TLS     {} at {}:{}".format(
            config.dimse.ae_title, *endpoints.dicom_tls
        )
    with console.capture() as captured:
        console.print(
            f"""
[bold]Fileroom is ready.[/bold]

  In a browser   {web}/
  DICOMweb       {web}/dicom-web
  DICOM          {config.dimse.ae_title} at {dicom_host}:{dicom_port}{secure}
  Data           {config.archive.data_dir}

Try next, in another terminal:

  .venv/bin/fileroom demo
  curl '{web}/dicom-web/studies?limit=5'
  curl -H 'Content-Type: application/dicom' \\
       --data-binary @FILE.dcm {web}/dicom-web/studies
  storescu -aec {config.dimse.ae_title} {dicom_host} {dicom_port} FILE.dcm

Ctrl-C stops it.
""",
            soft_wrap=True,
        )
    return captured.get()
