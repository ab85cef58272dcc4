"""``fileroom peer``: who may speak DICOM with the archive, changed while it runs."""

import importlib
from typing import Annotated, Any, Final, NoReturn

import typer
from pydantic import ValidationError
from rich.table import Table

from archive.auth.principal import OPERATOR
from archive.cli.common import (
    FOUND_FAULTS,
    MISUSED,
    ConfigOption,
    JsonOption,
    console,
    fail,
    opened,
    print_json,
)
from archive.config import Peer, Service
from archive.errors import ArchiveError
from archive.peers import PeerService

peer = typer.Typer(
    name="peer",
    no_args_is_help=True,
    help=(
        "The application entities this archive knows: who may call, what for, and where C-MOVE "
        "and forwarding send to. Changes are live within a second."
    ),
)

TitleArgument = Annotated[
    str, typer.Argument(metavar="TITLE", help="The peer's AE title.", show_default=False)
]
# The archive may not import a face: what speaks DICOM is named (docs/decisions/0002).
_ECHO: Final = "dimse.echo"


@peer.command()
def add(  # noqa: PLR0913, PLR0917 - each is an option of the command
    title: TitleArgument,
    host: Annotated[
        str, typer.Argument(help="Its name or address; without: it only calls.")
    ] = "",
    port: Annotated[int, typer.Argument(help="Its port; 0: it only calls.")] = 0,
    service: Annotated[
        list[Service] | None,
        typer.Option(help="What it may ask for; repeat for more. Default: everything."),
    ] = None,
    calls_from: Annotated[
        list[str] | None,
        typer.Option(
            "--from", help='Network it may call from, or "any"; repeat. Default: its host.'
        ),
    ] = None,
    site: Annotated[str, typer.Option(help="Site its instances are counted for.")] = "",
    tls: Annotated[bool, typer.Option("--tls", help="Speak to it over TLS.")] = False,
    tls_subject: Annotated[
        str, typer.Option(help="Subject of the certificate it must show.")
    ] = "",
    max_associations: Annotated[
        int, typer.Option(help="Associations it may have at once; 0: any number.")
    ] = 0,
    transfer_syntax: Annotated[
        list[str] | None,
        typer.Option(
            help="Transfer syntax it is sent, best first; repeat. Default: as stored."
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Make a peer known, or replace the one of that title.

    \b
    Examples:
      fileroom peer add WORKSTATION 192.0.2.7 104
      fileroom peer add CT_NORTH 192.0.2.8 --service store --site north
      fileroom peer add GATEWAY gw.example.org 2762 --tls --tls-subject "CN=gateway"

    Exit status: 0 known, 1 it stands in config.toml, 2 a value is wrong.
    """
    try:
        made = Peer(
            ae_title=title,
            host=host,
            port=port,
            site=site,
            services=tuple(service or Service),
            calls_from=tuple(calls_from or ()),
            tls=tls,
            tls_subject=tls_subject,
            max_associations=max_associations,
            transfer_syntaxes=tuple(transfer_syntax or ()),
        )
    except ValidationError as error:
        faults = [f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors()]
        fail("; ".join(faults), MISUSED)
    with opened(config) as archive:
        replaced = archive.peers.add(OPERATOR, made)
    if as_json:
        print_json(made.model_dump(mode="json") | {"replaced": replaced})
    else:
        console.print(f"peer {made.ae_title} {'replaced' if replaced else 'added'}")


@peer.command(name="list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    r"""List the peers of config.toml and those that were added.

    \b
    Examples:
      fileroom peer list
      fileroom peer list --json

    Exit status: 0.
    """
    with opened(config) as archive:
        peers = archive.peers.all()
        origins = [_origin(archive.peers, one) for one in peers]
    if as_json:
        print_json(
            [
                one.model_dump(mode="json") | {"origin": origin}
                for one, origin in zip(peers, origins, strict=True)
            ]
        )
        return
    if not peers:
        console.print("no peers: `fileroom peer add TITLE HOST PORT` makes one known")
        return
    table = Table("title", "address", "may", "from", "site", "stands in")
    for one, origin in zip(peers, origins, strict=True):
        address = f"{one.host}:{one.port}" if one.address else "only calls"
        table.add_row(
            one.ae_title,
            f"{address} (TLS)" if one.tls else address,
            "everything" if set(one.services) == set(Service) else ", ".join(one.services),
            one.tls_subject or ", ".join(one.calls_from) or one.host or "any",
            one.site,
            origin,
        )
    console.print(table)


@peer.command()
def remove(title: TitleArgument, config: ConfigOption = None) -> None:
    r"""Forget a peer that was added.

    \b
    Examples:
      fileroom peer remove WORKSTATION

    Exit status: 0 forgotten, 1 nobody of that title was added, or it stands in config.toml.
    """
    with opened(config) as archive:
        removed = archive.peers.remove(OPERATOR, title)
    if not removed:
        fail(f"no peer {title} was added; `fileroom peer list` shows who is known")
    console.print(f"peer {title.strip()} removed")


@peer.command(name="test")
def verify(
    title: TitleArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    r"""Ask a peer for a C-ECHO, and say what is wrong when it does not answer.

    \b
    Examples:
      fileroom peer test WORKSTATION

    Exit status: 0 it answered, 1 it did not, 2 nobody of that title is known.
    """
    with opened(config) as archive:
        known = archive.peers.find(title)
        if known is None:
            fail(f"no peer {title} is known; `fileroom peer list` shows who is", MISUSED)
        try:
            answer: Any = importlib.import_module(_ECHO).echo(archive, known)
        except ArchiveError as error:
            _report_silence(known, error, as_json=as_json)
    if as_json:
        print_json({"peer": known.ae_title, "answered": True, **answer.as_dict()})
    else:
        console.print(f"{known.ae_title} at {known.host}:{known.port} answered: {answer}")


def _report_silence(known: Peer, error: ArchiveError, *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"peer": known.ae_title, "answered": False, "reason": str(error)})
        raise typer.Exit(FOUND_FAULTS)
    fail(str(error))


def _origin(peers: PeerService, one: Peer) -> str:
    return "config.toml" if peers.is_configured(one.ae_title) else "index"
