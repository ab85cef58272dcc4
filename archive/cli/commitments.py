"""``fileroom commitments``: who asked for storage commitment, and what became of it."""

from typing import Annotated

import typer
from rich.markup import escape

from archive.auth.principal import OPERATOR
from archive.cli.common import (
    FOUND_FAULTS,
    ConfigOption,
    JsonOption,
    console,
    opened,
    print_json,
)
from archive.commitment.values import CommitmentStatus

commitments = typer.Typer(
    name="commitments",
    no_args_is_help=True,
    help=(
        "Requests for storage commitment (PS3.4 Annex J): what a sender asks before it deletes "
        "its own copies. Every request is checked against the objects, and its sender told."
    ),
)

UidArgument = Annotated[
    str,
    typer.Argument(metavar="UID", help="The Transaction UID.", show_default=False),
]


@commitments.command(name="list")
def list_(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="How many to list.")] = 100,
) -> None:
    r"""List requests, the newest first.

    accepted: to be checked; checked: to be reported; unaddressed: checked, but it is not known
    where the sender listens; reported: it has answered; failed: given up.

    \b
    Examples:
      fileroom commitments list
      fileroom commitments list --json

    Exit status: 0.
    """
    with opened(config) as archive:
        found = archive.commitments.requests(OPERATOR, limit=limit)
    if as_json:
        print_json(found)
        return
    if not found:
        console.print("nobody has asked for storage commitment")
    for one in found:
        console.print(_line(one), soft_wrap=True)
        console.print(f"    {one.transaction_uid}", soft_wrap=True)
        if one.reason:
            console.print(f"    {escape(one.reason)}", soft_wrap=True)


def _line(one: CommitmentStatus) -> str:
    parts = [f"{one.accepted_at:%Y-%m-%d %H:%M:%S}", f"{one.state:11s}", f"{one.ae_title:16s}"]
    parts.append(f"{one.instances} instances, {one.failed} not committed to")
    if one.answer:
        parts.append(f"answered {one.answer}")
    if one.due_at is not None and one.attempts:
        parts.append(f"tried {one.attempts} times, next {one.due_at:%Y-%m-%d %H:%M:%S}")
    return escape("  ".join(parts))


@commitments.command()
def retry(uid: UidArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    r"""Check and report a request anew, now, whatever became of it.

    \b
    Examples:
      fileroom commitments retry 1.2.840.113619.2.1

    Exit status: 0 it is tried again, 1 there is none, or it is being worked on.
    """
    with opened(config) as archive:
        count = archive.commitments.retry(OPERATOR, uid)
    _say(count, "tried again", as_json=as_json)


@commitments.command()
def remove(uid: UidArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    r"""Forget a request: its sender is told nothing more.

    \b
    Examples:
      fileroom commitments remove 1.2.840.113619.2.1

    Exit status: 0 removed, 1 there is none.
    """
    with opened(config) as archive:
        count = archive.commitments.remove(OPERATOR, uid)
    _say(count, "removed", as_json=as_json)


def _say(count: int, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({what.replace(" ", "_"): count})
    else:
        console.print(f"{count} {what}")
    if not count:
        raise typer.Exit(FOUND_FAULTS)
