"""Forwarding as an operator sees it: what waits, what went wrong, try again, leave it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from archive.auth.principal import Principal, Right
from archive.errors import ForbiddenError, storage_translated
from archive.forward.queue import ForwardQueue
from archive.forward.rules import ForwardRules
from archive.identity import InstanceRef, ResourceRef, SeriesRef, StudyRef
from storage.index import clock
from storage.index.forward_deliveries import ForwardDeliveryRows, Undelivered
from storage.index.forward_jobs import ForwardJobRows
from storage.index.forward_rows import DONE, WAITING, ForwardJob, JobFilter
from storage.index.selection import Target

__all__ = ["ForwardService", "JobFilter", "JobStatus", "Undelivered"]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How far a job has come.

    Parameters
    ----------
    rule
        Its name; "" for an operator.
    state
        waiting, sending, done, dead or cancelled.
    due_at
        When it is tried next; None when it is not.
    since
        When it last began to wait.
    sent, refused, failed
        Instances: sent in all, refused for good, and to be tried again.
    undelivered
        Instances that were refused or failed, some of them, with the reason of each.
    """

    rule: str
    destination: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    state: str
    attempts: int
    sent: int
    refused: int
    failed: int
    reason: str
    due_at: datetime | None
    since: datetime
    updated_at: datetime
    undelivered: Sequence[Undelivered] = field(default=())


class ForwardService:
    """Shows and changes what is forwarded.

    Parameters
    ----------
    jobs, deliveries
        The index.
    rules
        What is wanted.
    queue
        What carries it out.
    """

    def __init__(
        self,
        jobs: ForwardJobRows,
        deliveries: ForwardDeliveryRows,
        rules: ForwardRules,
        queue: ForwardQueue,
    ) -> None:
        self._jobs = jobs
        self._deliveries = deliveries
        self.rules = rules
        self.queue = queue

    def status(
        self, principal: Principal, asked: JobFilter, *, limit: int = 100, reasons: int = 20
    ) -> list[JobStatus]:
        """Return jobs: what is open first, then what ended last.

        Parameters
        ----------
        reasons
            So many of the instances that were not delivered are named, of each job.
        """
        _require(principal)
        with storage_translated():
            return [
                _status(job, self._undelivered(job, reasons))
                for job in self._jobs.jobs(asked, limit)
            ]

    def counts(self, principal: Principal) -> dict[tuple[str, str], int]:
        """Return how many jobs there are by destination and state."""
        _require(principal)
        with storage_translated():
            return self._jobs.counts()

    def retry(self, principal: Principal, asked: JobFilter) -> int:
        """Try again at once what waits, was given up or refused; return how many jobs."""
        _require(principal)
        with storage_translated():
            return self._deliveries.retry(asked, clock.now_us())

    def cancel(self, principal: Principal, asked: JobFilter) -> int:
        """End what is not done, also what is under way; return how many jobs."""
        _require(principal)
        with storage_translated():
            return self._jobs.cancel(
                asked, reason=f"cancelled by {principal.name}", now_us=clock.now_us()
            )

    def enqueue(
        self, principal: Principal, destination: str, refs: Sequence[ResourceRef]
    ) -> None:
        """Queue what an operator wants sent, whether the destination has it or not."""
        _require(principal)
        with storage_translated():
            for ref in refs:
                self._deliveries.enqueue(
                    _target(ref), destination, principal.name, clock.now_us()
                )

    def _undelivered(self, job: ForwardJob, limit: int) -> list[Undelivered]:
        if not limit or (job.state == DONE and not job.refused):
            return []
        return self._deliveries.undelivered(job, limit)


def _require(principal: Principal) -> None:
    if Right.ADMIN not in principal.rights:
        raise ForbiddenError(f"{principal.name} may not administer forwarding")


def _target(ref: ResourceRef) -> Target:
    match ref:
        case StudyRef():
            return Target(ref.study_instance_uid)
        case SeriesRef():
            return Target(ref.study_instance_uid, ref.series_instance_uid)
        case InstanceRef():
            return Target(ref.study_instance_uid, ref.series_instance_uid, ref.sop_instance_uid)


def _status(job: ForwardJob, undelivered: Sequence[Undelivered]) -> JobStatus:
    return JobStatus(
        rule=job.rule,
        destination=job.destination,
        study_instance_uid=job.study_instance_uid,
        series_instance_uid=job.series_instance_uid,
        sop_instance_uid=job.sop_instance_uid,
        state=job.state,
        attempts=job.attempts,
        sent=job.sent,
        refused=job.refused,
        failed=job.failed,
        reason=job.reason,
        due_at=clock.from_us(job.due_at) if job.state == WAITING else None,
        since=clock.from_us(job.since),
        updated_at=clock.from_us(job.updated_at),
        undelivered=undelivered,
    )
