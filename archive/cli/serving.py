"""``fileroom serve``."""

import importlib
from typing import Annotated

import typer

from archive.auth.certificates import check_tls
from archive.cli.common import MISUSED, ConfigOption, console, fail, read_config
from archive.config import WEB_ROLES, Config, ConfigError, Role
from archive.starting import Endpoints, StartError, start


def serve(
    config: ConfigOption = None,
    role: Annotated[
        Role | None,
        typer.Option(
            help="What this node does, of several over one index; else [archive] role."
        ),
    ] = None,
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
      fileroom serve --role dicom

    Exit status: 0 stopped in order, 1 could not start or had to be forced, 2 settings wrong.
    """
    settings = read_config(config)
    if role is not None:
        of_role = settings.archive.model_copy(update={"role": role})
        settings = settings.model_copy(update={"archive": of_role})
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
    role = config.archive.role
    web = "http://{}:{}".format(*endpoints.http)
    name = config.dimse.ae_title
    lines = [f"  Data           {config.archive.data_dir}"]
    if endpoints.dicom_tls is not None:
        lines.insert(0, "  DICOM, TLS     {} at {}:{}".format(name, *endpoints.dicom_tls))
    if endpoints.dicom is not None:
        lines.insert(0, "  DICOM          {} at {}:{}".format(name, *endpoints.dicom))
    if role in WEB_ROLES:
        lines.insert(0, f"  In a browser   {web}/\n  DICOMweb       {web}/dicom-web")
    else:
        lines.insert(0, f"  Health         {web}/health/ready")
    title = "Fileroom is ready." if role == "all" else f"Fileroom is ready, as a {role} node."
    tour = _tour(config, web, endpoints) if role == "all" else ""
    with console.capture() as captured:
        console.print(
            f"\n[bold]{title}[/bold]\n\n" + "\n".join(lines) + f"\n{tour}\nCtrl-C stops it.\n",
            soft_wrap=True,
        )
    return captured.get()


def _tour(config: Config, web: str, endpoints: Endpoints) -> str:
    host, port = endpoints.dicom or ("", 0)
    return f"""
Try next, in another terminal:

  .venv/bin/fileroom demo
  curl '{web}/dicom-web/studies?limit=5'
  curl -H 'Content-Type: application/dicom' \\
       --data-binary @FILE.dcm {web}/dicom-web/studies
  storescu -aec {config.dimse.ae_title} {host} {port} FILE.dcm
"""
