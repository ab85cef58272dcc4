"""``fileroom forward``: which newly arrived studies go to whom, and how they fare."""

from collections import Counter
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from archive.assembly import Archive
from archive.auth.principal import OPERATOR
from archive.cli.common import (
    FOUND_FAULTS,
    MISUSED,
    ConfigOption,
    JsonOption,
    console,
    errors,
    fail,
    opened,
    print_json,
)
from archive.config import ForwardRule
from archive.errors import InvalidRequestError
from archive.forward.service import JobFilter, JobStatus

forward = typer.Typer(
    name="forward",
    no_args_is_help=True,
    help=(
        "Rules by which newly arrived studies are sent on to peers, and the queue of what is "
        "sent. Changes are live within a second. docs/forwarding.md tells all."
    ),
)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The rule's name.", show_default=False)
]
StudyArgument = Annotated[
    str, typer.Argument(metavar="[STUDY]", help="Only this study.", show_default=False)
]
ToOption = Annotated[str, typer.Option("--to", help="Only what goes to this peer.")]
RuleOption = Annotated[str, typer.Option("--rule", help="Only what this rule wants.")]
_STATES: Final = ("waiting", "sending", "dead", "done", "cancelled")


@forward.command()
def add(  # noqa: PLR0913, PLR0917 - each is an option of the command
    name: NameArgument,
    to: Annotated[str, typer.Option("--to", help="AE title of the peer.")],
    where: Annotated[
        str, typer.Option(help="Which studies, as QIDO-RS searches. Default: all.")
    ] = "",
    settle: Annotated[
        float, typer.Option(help="Seconds without anything new before a study is sent.")
    ] = 60.0,
    site: Annotated[str, typer.Option(help="Only instances of this site.")] = "",
    source: Annotated[str, typer.Option(help="Only instances from this AE title.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Forward what arrives from now on, or replace the rule of that name.

    \b
    Examples:
      fileroom forward add all --to BACKUP
      fileroom forward add chest --to READING --where "Modality=CT&StudyDescription=*CHEST*"
      fileroom forward add north --to HUB --site north --settle 300

    Exit status: 0 it holds, 1 it stands in config.toml, 2 a value is wrong or nobody is
    known by that AE title.
    """
    try:
        rule = ForwardRule(
            name=name, to=to, where=where, settle_s=settle, site=site, source=source
        )
    except ValidationError as error:
        faults = [f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors()]
        fail("; ".join(faults), MISUSED)
    with opened(config) as archive:
        known = archive.peers.find(rule.to)
        if known is None or known.address is None:
            fail(f"no peer {rule.to} with a host and port is known: fileroom peer add", MISUSED)
        try:
            replaced = archive.forward.rules.add(OPERATOR, rule)
        except InvalidRequestError as error:
            fail(
                str(error),
                FOUND_FAULTS if archive.forward.rules.is_configured(name) else MISUSED,
            )
    if as_json:
        print_json(rule.model_dump(mode="json") | {"replaced": replaced})
    else:
        console.print(f"rule {rule.name} {'replaced' if replaced else 'added'}")


@forward.command(name="list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    r"""List the rules of config.toml and those that were added.

    \b
    Examples:
      fileroom forward list
      fileroom forward list --json

    Exit status: 0.
    """
    with opened(config) as archive:
        rules = archive.forward.rules.all()
        origins = {
            rule.name: "config.toml"
            if archive.forward.rules.is_configured(rule.name)
            else "index"
            for rule in rules
        }
    if as_json:
        print_json(
            [rule.model_dump(mode="json") | {"origin": origins[rule.name]} for rule in rules]
        )
        return
    if not rules:
        console.print("no rules: `fileroom forward add NAME --to PEER` makes one")
        return
    table = Table("name", "to", "where", "settles in", "only from", "stands in")
    for rule in rules:
        table.add_row(
            rule.name,
            escape(rule.to),
            escape(rule.where) or "all",
            f"{rule.settle_s:g} s",
            escape(" ".join(filter(None, (rule.site, rule.source)))),
            origins[rule.name],
        )
    console.print(table)


@forward.command()
def remove(name: NameArgument, config: ConfigOption = None) -> None:
    r"""Forget a rule that was added; what waits because of it is not sent any more.

    \b
    Examples:
      fileroom forward remove chest

    Exit status: 0 forgotten, 1 no rule of that name was added, or it stands in config.toml.
    """
    with opened(config) as archive:
        removed = archive.forward.rules.remove(OPERATOR, name)
    if not removed:
        fail(f"no rule {name} was added; `fileroom forward list` shows which there are")
    console.print(f"rule {name} removed")


@forward.command()
def status(  # noqa: PLR0913, PLR0917 - each is an option of the command
    study: StudyArgument = "",
    to: ToOption = "",
    rule: RuleOption = "",
    state: Annotated[
        list[str] | None, typer.Option(help=f"Only {', '.join(_STATES)}; repeat for more.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many studies.")] = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Show what waits, what is being sent, and what went wrong, why and how often.

    \b
    Examples:
      fileroom forward status
      fileroom forward status --state dead --to BACKUP
      fileroom forward status 1.2.826.0.1.3680043.8.498.1 --json

    Exit status: 0, or 1 when something was given up or refused.
    """
    unknown = [one for one in state or () if one not in _STATES]
    if unknown:
        fail(f"no state {unknown[0]!r}: expected one of {', '.join(_STATES)}", MISUSED)
    asked = JobFilter(to.strip(), rule, study, tuple(state or ()))
    with opened(config) as archive:
        counts = archive.forward.counts(OPERATOR)
        jobs = archive.forward.status(OPERATOR, asked, limit=limit)
    if as_json:
        totals: dict[str, dict[str, int]] = {}
        for (destination, of), number in sorted(counts.items()):
            totals.setdefault(destination, {})[of] = number
        print_json({"destinations": totals, "studies": jobs})
    else:
        _print_counts(counts)
        _print_jobs(jobs)
    if any(one.state == "dead" or one.refused for one in jobs):
        raise typer.Exit(FOUND_FAULTS)


@forward.command()
def retry(
    study: StudyArgument = "",
    to: ToOption = "",
    rule: RuleOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Try at once what waits, and again what was given up or refused.

    What was cancelled is only tried again when its study is named.

    \b
    Examples:
      fileroom forward retry
      fileroom forward retry --to BACKUP

    Exit status: 0.
    """
    with opened(config) as archive:
        count = archive.forward.retry(OPERATOR, JobFilter(to.strip(), rule, study))
        _print_changed(archive, count, "to be tried again", as_json=as_json)


@forward.command()
def cancel(
    study: StudyArgument = "",
    to: ToOption = "",
    rule: RuleOption = "",
    everything: Annotated[bool, typer.Option("--all", help="All that is not done.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Do not send what waits, what is being sent or was given up.

    What arrives for the same study later is forwarded again, if a rule wants it.

    \b
    Examples:
      fileroom forward cancel 1.2.826.0.1.3680043.8.498.1
      fileroom forward cancel --to BACKUP
      fileroom forward cancel --all

    Exit status: 0 cancelled, 1 there was nothing to cancel, 2 not said what.
    """
    if not (study or to or rule or everything):
        fail("say what: STUDY, --to PEER, --rule NAME or --all", MISUSED)
    with opened(config) as archive:
        count = archive.forward.cancel(OPERATOR, JobFilter(to.strip(), rule, study))
        _print_changed(archive, count, "cancelled", as_json=as_json)
    if not count:
        raise typer.Exit(FOUND_FAULTS)


def _print_changed(archive: Archive, count: int, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"studies": count, "left": archive.forward.queue.open_jobs()})
    else:
        console.print(f"{count} {'study' if count == 1 else 'studies'} {what}")


def _print_counts(counts: dict[tuple[str, str], int]) -> None:
    if not counts:
        console.print("nothing was forwarded, and nothing waits")
        return
    by_destination: dict[str, Counter[str]] = {}
    for (destination, state), number in counts.items():
        by_destination.setdefault(destination, Counter())[state] += number
    table = Table("to", *_STATES)
    for destination, numbers in sorted(by_destination.items()):
        table.add_row(escape(destination), *(str(numbers[state]) for state in _STATES))
    console.print(table)


def _print_jobs(jobs: list[JobStatus]) -> None:
    for job in jobs:
        uids = filter(
            None, (job.study_instance_uid, job.series_instance_uid, job.sop_instance_uid)
        )
        tries = f", tried {job.attempts} times in vain" if job.attempts else ""
        due = f", next {job.due_at:%Y-%m-%d %H:%M:%S} UTC" if job.due_at else ""
        console.print(
            f"{job.state:9s} {escape('/'.join(uids))} to {escape(job.destination)} "
            f"({job.rule or 'by hand'}): {job.sent} sent, {job.refused} refused, "
            f"{job.failed} failed{tries}{due}",
            soft_wrap=True,
        )
        if job.reason:
            errors.print(f"          {escape(job.reason)}", soft_wrap=True)
        for one in job.undelivered:
            errors.print(
                f"          {one.outcome}: {one.sop_instance_uid}: {escape(one.reason)}",
                soft_wrap=True,
            )
