"""``fileroom send``: stored instances to a peer, now or by the queue."""

import importlib
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

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
    human_bytes,
    opened,
    parse_ref,
    print_json,
)
from archive.config import Peer
from archive.errors import InvalidRequestError, PeerError
from archive.identity import InstanceRef, ResourceRef, SeriesRef, StudyRef
from archive.query.request import Level
from archive.query.where import parse_where
from archive.retrieve.listing import ListedInstance
from archive.retrieve.values import StoredInstance

# The archive may not import a face: what speaks DICOM is named (docs/decisions/0002).
_OUTGOING: Final = "dimse.outgoing"
_ANSWERS: Final = "dimse.store_answers"
_LEVELS: Final = {"study": Level.STUDY, "series": Level.SERIES, "instance": Level.INSTANCE}
_REFS: Final[dict[Level, Callable[..., ResourceRef]]] = {
    Level.STUDY: StudyRef,
    Level.SERIES: SeriesRef,
    Level.INSTANCE: InstanceRef,
}
_UIDS: Final = ("0020000D", "0020000E", "00080018")
_SHOWN: Final = 20


@dataclass(slots=True)
class SendReport:
    """What became of what was to be sent.

    Attributes
    ----------
    instances
        How many were to be sent.
    sent
        The peer has them; ``warned`` of them with a warning.
    refused, failed
        It will never take them, or not now.
    reason
        Why it ended before everything was tried.
    not_sent
        Each instance that was refused or failed, with the reason.
    """

    peer: str
    instances: int = 0
    sent: int = 0
    warned: int = 0
    refused: int = 0
    failed: int = 0
    bytes_: int = 0
    seconds: float = 0.0
    reason: str = ""
    not_sent: list[dict[str, str]] = field(default_factory=list)

    @property
    def untried(self) -> int:
        """How many nothing is known of."""
        return self.instances - self.sent - self.refused - self.failed


def send(  # noqa: PLR0913, PLR0917 - each is an option of the command
    peer: Annotated[
        str, typer.Argument(metavar="PEER", help="Its AE title.", show_default=False)
    ],
    refs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REF...]", help="STUDY, STUDY/SERIES or STUDY/SERIES/INSTANCE."
        ),
    ] = None,
    where: Annotated[str, typer.Option(help="What a search finds, as QIDO-RS searches.")] = "",
    level: Annotated[
        str, typer.Option(help="What it finds: study, series or instance.")
    ] = "study",
    queue: Annotated[
        bool, typer.Option("--queue", help="Let the running archive send it, and try again.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Send stored instances to a peer (C-STORE).

    Each goes as it is stored where the peer takes it so, or else uncompressed. Send the same
    again to resume: a peer knows what it has.

    \b
    Examples:
      fileroom send WORKSTATION 1.2.826.0.1.3680043.8.498.1
      fileroom send BACKUP --where "Modality=CT&StudyDate=20240101-"
      fileroom send BACKUP --where "Modality=SR" --level series --queue

    Exit status: 0 all sent (or queued, or nothing matches), 1 something was not sent,
    2 misuse, or the peer is not reached.
    """
    if not refs and not where:
        fail("say what to send: REF, or --where SEARCH", MISUSED)
    named = [parse_ref(ref) for ref in refs or ()]
    with opened(config) as archive:
        known = _known(archive, peer)
        wanted = [*named, *_found(archive, where, level)] if where else named
        if queue:
            _queue(archive, known, wanted, as_json=as_json)
            return
        report = _send(archive, known, _instances(archive, wanted, named), quiet=as_json)
    _print_report(report, as_json=as_json)
    if report.reason and not (report.sent or report.refused or report.failed):
        raise typer.Exit(MISUSED)
    if report.sent < report.instances:
        raise typer.Exit(FOUND_FAULTS)


def _known(archive: Archive, title: str) -> Peer:
    known = archive.peers.find(title)
    if known is None:
        fail(f"no peer {title} is known; `fileroom peer list` shows who is", MISUSED)
    if known.address is None:
        fail(f"peer {title} only calls: it has no host and port to send to", MISUSED)
    return known


def _found(archive: Archive, where: str, level: str) -> list[ResourceRef]:
    if level not in _LEVELS:
        fail(f"no level {level!r}: expected {', '.join(_LEVELS)}", MISUSED)
    at = _LEVELS[level]
    try:
        request = parse_where(where, at)
    except InvalidRequestError as error:
        fail(f"--where: {error}", MISUSED)
    uids = _UIDS[: list(_LEVELS).index(level) + 1]
    return [
        _REFS[at](*(str(_value(match, tag)) for tag in uids))
        for match in archive.query.search(OPERATOR, request)
    ]


def _value(match: dict[str, Any], tag: str) -> Any:  # noqa: ANN401 - a value of DICOM JSON
    return match[tag]["Value"][0]


def _instances(
    archive: Archive, wanted: list[ResourceRef], named: list[ResourceRef]
) -> list[StoredInstance]:
    for ref in named:  # what was named must be there; what was searched for may not
        if next(archive.retrieve.instances(OPERATOR, [ref]), None) is None:
            fail(f"nothing is stored under {'/'.join(astuple(ref))}")
    return list(archive.retrieve.instances(OPERATOR, wanted)) if wanted else []


def _queue(archive: Archive, known: Peer, wanted: list[ResourceRef], *, as_json: bool) -> None:
    _instances(archive, [], wanted)
    archive.forward.enqueue(OPERATOR, known.ae_title, wanted)
    if as_json:
        print_json({"peer": known.ae_title, "queued": len(wanted)})
    else:
        console.print(
            f"{len(wanted)} queued for {known.ae_title}: sent while `fileroom serve` runs; "
            "`fileroom forward status` shows how they fare"
        )


def _send(
    archive: Archive, known: Peer, found: list[StoredInstance], *, quiet: bool
) -> SendReport:
    report = SendReport(known.ae_title, instances=len(found))
    answers: Any = importlib.import_module(_ANSWERS)
    outgoing: Any = importlib.import_module(_OUTGOING)
    started = time.monotonic()
    with _progress(quiet=quiet) as progress:
        count = progress.add_task("instances", total=len(found))
        volume = progress.add_task("bytes", total=sum(one.size_bytes for one in found))

        known_by_key = {one.instance_id: one for one in found}

        def on_each(entry: ListedInstance, status: int | None, reason: str) -> None:
            stored = known_by_key[entry.instance_id]
            became = "failed" if status is None else answers.answer(status).value
            _note(report, stored, became, reason)
            report.warned += bool(status) and became == "sent"
            progress.advance(count)
            progress.advance(volume, stored.size_bytes)

        try:
            outgoing.deliver(archive, OPERATOR, known, found, on_each=on_each)
        except PeerError as error:
            report.reason = str(error)
        except KeyboardInterrupt:
            report.reason = "interrupted"
    report.seconds = time.monotonic() - started
    return report


def _note(report: SendReport, stored: StoredInstance, became: str, reason: str) -> None:
    if became == "sent":
        report.sent += 1
        report.bytes_ += stored.size_bytes
        return
    if became == "refused":
        report.refused += 1
    else:
        report.failed += 1
    report.not_sent.append(
        {
            "study_instance_uid": stored.study_instance_uid,
            "series_instance_uid": stored.series_instance_uid,
            "sop_instance_uid": stored.sop_instance_uid,
            "outcome": became,
            "reason": reason,
        }
    )


def _progress(*, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=quiet,
        transient=True,
    )


def _print_report(report: SendReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    if report.reason and not report.sent:
        errors.print(f"[red]fileroom:[/red] {escape(report.reason)}", soft_wrap=True)
        return
    rate = report.bytes_ / report.seconds if report.seconds else 0.0
    console.print(
        f"{report.sent} sent to {report.peer}"
        + (f" ({report.warned} with a warning)" if report.warned else "")
        + f", {report.refused} refused, {report.failed} failed, {report.untried} not tried; "
        f"{human_bytes(report.bytes_)} in {report.seconds:.1f} s ({human_bytes(rate)}/s)",
        soft_wrap=True,
    )
    for one in report.not_sent[:_SHOWN]:
        errors.print(
            f"  {one['outcome']}: {one['sop_instance_uid']}: {escape(one['reason'])}",
            soft_wrap=True,
        )
    if report.reason:
        errors.print(f"[red]fileroom:[/red] {escape(report.reason)}", soft_wrap=True)
