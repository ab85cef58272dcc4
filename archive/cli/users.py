"""``fileroom user``: who may prove who they are, changed while the archive runs."""

import getpass
import sys
from typing import Annotated

import typer
from rich.table import Table

from archive.auth.principal import OPERATOR, Right
from archive.cli.common import ConfigOption, JsonOption, console, fail, opened, print_json

user = typer.Typer(
    name="user",
    no_args_is_help=True,
    help=(
        "Users who prove who they are over DICOM with a name and a passcode (user identity "
        "negotiation). Changes are live at once. docs/dicom-security.md tells all."
    ),
)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The user's name.", show_default=False)
]
StdinOption = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input, one line."),
]


@user.command()
def add(
    name: NameArgument,
    right: Annotated[
        list[Right] | None,
        typer.Option(help="What the user may do; repeat for more. Default: read."),
    ] = None,
    site: Annotated[str, typer.Option(help="Site the user's instances are counted for.")] = "",
    password_stdin: StdinOption = False,
    config: ConfigOption = None,
) -> None:
    r"""Make a user, or replace the one of that name; asks for the password.

    \b
    Examples:
      fileroom user add anna
      fileroom user add scanner7 --right write --site north --password-stdin < secret

    Exit status: 0 made, 1 refused, with the reason.
    """
    rights = right or [Right.READ]
    password = _password(from_stdin=password_stdin)
    with opened(config) as archive:
        replaced = archive.accounts.add(OPERATOR, name, password, rights=rights, site=site)
    console.print(f"user {name} {'replaced' if replaced else 'added'}")


@user.command(name="list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    r"""List the users.

    \b
    Examples:
      fileroom user list

    Exit status: 0.
    """
    with opened(config) as archive:
        accounts = archive.accounts.all(OPERATOR)
    if as_json:
        print_json([
            {"name": one.name, "rights": sorted(one.rights), "site": one.site,
             "created_at": one.created_at}
            for one in accounts
        ])  # fmt: skip
        return
    if not accounts:
        console.print("no users: `fileroom user add NAME` makes one")
        return
    table = Table("name", "may", "site", "made")
    for one in accounts:
        table.add_row(
            one.name, ", ".join(sorted(one.rights)), one.site, f"{one.created_at:%Y-%m-%d}"
        )
    console.print(table)


@user.command()
def passwd(
    name: NameArgument, password_stdin: StdinOption = False, config: ConfigOption = None
) -> None:
    r"""Change a user's password; the old one is no good at once.

    \b
    Examples:
      fileroom user passwd anna

    Exit status: 0 changed, 1 there is no such user, or the password is refused.
    """
    password = _password(from_stdin=password_stdin)
    with opened(config) as archive:
        changed = archive.accounts.set_password(OPERATOR, name, password)
    if not changed:
        fail(f"no user {name}; `fileroom user list` shows who there is")
    console.print(f"password of {name} changed")


@user.command()
def remove(name: NameArgument, config: ConfigOption = None) -> None:
    r"""Delete a user; associations that are open go on to their end.

    \b
    Examples:
      fileroom user remove anna

    Exit status: 0 deleted, 1 there is no such user.
    """
    with opened(config) as archive:
        removed = archive.accounts.remove(OPERATOR, name)
    if not removed:
        fail(f"no user {name}; `fileroom user list` shows who there is")
    console.print(f"user {name} removed")


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        fail("the two are not the same; nothing was changed")
    return first
