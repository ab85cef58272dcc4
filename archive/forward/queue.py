"""What is to be sent, from the change feed to the last instance: lasting, and shared by nodes.

The feed is followed from a cursor of its own; what newly arrived arms a job for each rule that
may want it. Once the study has settled, whoever claims the job asks whether the rule matches,
sends what the destination has not, and writes down what became of each instance. A job that is
armed while it is sent waits again afterwards.
"""

import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from archive.auth.principal import PUBLIC_SCOPE, Principal, Right
from archive.changes import ChangeRow, ChangeService
from archive.config import ForwardRule
from archive.errors import storage_translated
from archive.forward.retrying import Retrying
from archive.forward.rules import ForwardRules
from archive.query.request import SearchKey
from archive.query.service import QueryService
from archive.query.where import parse_where
from archive.retrieve.values import StoredInstance
from storage.index import clock
from storage.index.forward_deliveries import (
    FAILED,
    REFUSED,
    SENT,
    Delivery,
    ForwardDeliveryRows,
    Origin,
)
from storage.index.forward_jobs import ForwardJobRows
from storage.index.forward_rows import (
    CANCELLED,
    DEAD,
    DONE,
    WAITING,
    Arming,
    ForwardJob,
    Pulse,
)

__all__ = ["FAILED", "FORWARDER", "REFUSED", "SENT", "Delivery", "ForwardJob", "ForwardQueue"]

# Who forwards by rule: it sees what is public, whoever wrote the rule.
FORWARDER: Final = Principal(
    name="forwarding", site="", rights=frozenset({Right.READ}), scope=PUBLIC_SCOPE
)

_ARRIVALS: Final = frozenset({"stored", "replaced", "restored"})
_PAGE: Final = 1000
_LEASE_US: Final = 30_000_000
# Without rules the cursor only has to be near: moving it is a write.
_LAX_US: Final = 60_000_000
_STUDY_UID: Final = "0020000D"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job ended, this time: for logs and counters.

    Parameters
    ----------
    state
        done, dead, cancelled, or waiting for another try.
    """

    state: str
    reason: str = ""
    again_in_s: float = 0.0


class ForwardQueue:
    """The persistent queue, as those who carry it out see it.

    Parameters
    ----------
    jobs, deliveries
        The index.
    rules
        What is wanted.
    changes
        What arrived.
    query
        Whether a study matches.
    retrying
        How failures are met.
    """

    def __init__(
        self,
        jobs: ForwardJobRows,
        deliveries: ForwardDeliveryRows,
        rules: ForwardRules,
        changes: ChangeService,
        query: QueryService,
        retrying: Retrying,
    ) -> None:
        self._jobs = jobs
        self._deliveries = deliveries
        self._rules = rules
        self._changes = changes
        self._query = query
        self.retrying = retrying
        self._advanced_us = 0
        self._was_looked_at = False

    @staticmethod
    def now_us() -> int:
        """Return this moment as the queue has it, in microseconds."""
        return clock.now_us()

    # -- following the feed ----------------------------------------------------------------

    def pulse(self) -> Pulse:
        """Look whether there is anything to do; cheap."""
        with storage_translated():
            return self._jobs.pulse()

    def begin(self) -> None:
        """Follow the feed from its end, if nobody has followed it yet."""
        with storage_translated():
            self._jobs.begin()

    def follow(self, pulse: Pulse) -> None:
        """Take over what has arrived since the last time."""
        now = clock.now_us()
        cursor = pulse.cursor
        if cursor is None:
            self.begin()
            return
        rules = self._rules.all() if pulse.last_change > cursor else []
        if not rules:
            self._advance(pulse, cursor, now)
            return
        more = pulse.last_change > cursor
        while more:
            page = self._changes.page(FORWARDER, cursor, limit=_PAGE, kinds=_ARRIVALS)
            armed = list(self._armed(page.changes, rules))
            with storage_translated():
                if not self._jobs.follow(cursor, page.next_sequence, armed, now):
                    return  # another node goes on
            cursor, more = page.next_sequence, page.more

    def _advance(self, pulse: Pulse, cursor: int, now_us: int) -> None:
        if pulse.last_change > cursor and now_us - self._advanced_us > _LAX_US:
            with storage_translated():
                self._jobs.follow(cursor, pulse.last_change, (), now_us)
            self._advanced_us = now_us

    def is_wanted(self) -> bool:
        """Tell whether somebody has to look after the queue; cheap.

        Where nobody has, the cursor is moved along all the same.
        """
        pulse = self.pulse()
        if pulse.next_due is not None or self._rules.all():
            return True
        self.follow(pulse)
        if self._was_looked_at:
            return False
        given_up = any(self.open_jobs().values())  # counted by who carries out
        self._was_looked_at = True
        return given_up

    # -- carrying out ----------------------------------------------------------------------

    def due_destinations(self) -> list[str]:
        """Return the destinations that something is due for."""
        with storage_translated():
            return self._jobs.due_destinations(clock.now_us())

    def open_jobs(self) -> dict[str, int]:
        """Return how many jobs wait, are being sent, or were given up; by state."""
        with storage_translated():
            return self._jobs.open_jobs()

    def claim(self, destination: str, *, limit: int) -> ForwardJob | None:
        """Take over what is longest due for a destination; None when there is nothing.

        It is the caller's for half a minute, and for as long as `renew` is called.
        """
        claim = f"{os.getpid()}-{secrets.token_hex(8)}"
        with storage_translated():
            return self._jobs.claim(
                destination,
                claim,
                now_us=clock.now_us(),
                lease_us=_LEASE_US,
                limit=limit,
            )

    def renew(self, claims: Iterable[str]) -> set[str]:
        """Hold claims for longer; return those that still hold."""
        with storage_translated():
            return self._jobs.renew(set(claims), now_us=clock.now_us(), lease_us=_LEASE_US)

    def objection(self, job: ForwardJob) -> str:
        """Return why a job must not be carried out any more; "" for nothing."""
        if not job.rule:
            return ""
        rule = self._rules.find(job.rule)
        if rule is None:
            return f"rule {job.rule} is gone"
        if rule.to != job.destination:
            return f"rule {job.rule} sends to {rule.to} now"
        return ""

    def matches(self, job: ForwardJob) -> bool:
        """Tell whether the study is one that the job's rule wants."""
        rule = self._rules.find(job.rule) if job.rule else None
        if rule is None:
            return not job.rule
        request = parse_where(rule.where)
        keys = (SearchKey((_STUDY_UID,), job.study_instance_uid), *request.keys)
        return self._query.count(FORWARDER, replace(request, keys=keys)) > 0

    def pending(self, job: ForwardJob, *, after: int, limit: int) -> list[StoredInstance]:
        """Return instances that the destination has not, in the order they were stored.

        What came from the destination itself is left out, unless an operator wants it sent.
        """
        with storage_translated():
            return self._deliveries.pending(
                FORWARDER.scope, job, self._origin(job), after=after, limit=limit
            )

    def record(self, job: ForwardJob, deliveries: Sequence[Delivery]) -> bool:
        """Write what became of instances; return whether the claim still holds."""
        with storage_translated():
            return self._deliveries.record(job, deliveries, clock.now_us())

    def done(self, job: ForwardJob, *, tried: int) -> Verdict:
        """Give back a job of which nothing is left; without a trace where nothing ever was."""
        now = clock.now_us()
        with storage_translated():
            if job.rule and not (tried or job.sent or job.refused) and self._jobs.drop(job):
                return Verdict(DONE)
            self._jobs.finish(job, now_us=now, state=DONE, attempts=0, failed=0, reason="")
        return Verdict(DONE)

    def failed(
        self, job: ForwardJob, reason: str, *, progress: bool = False, failed: int = 0
    ) -> Verdict:
        """Give back a job that must be tried again, or is given up.

        Parameters
        ----------
        progress
            Whether something was sent: then failures are counted anew.
        failed
            How many instances were tried in vain.
        """
        now = clock.now_us()
        attempts = (0 if progress else job.attempts) + 1
        over = self.retrying.is_over(attempts, since_us=job.since, now_us=now)
        pause = self.retrying.pause_us(attempts)
        with storage_translated():
            self._jobs.finish(
                job,
                now_us=now,
                state=DEAD if over else WAITING,
                attempts=attempts,
                due_at=now if over else now + pause,
                failed=failed,
                reason=reason,
            )
        return Verdict(DEAD, reason) if over else Verdict(WAITING, reason, pause / 1e6)

    def give_up(self, job: ForwardJob, reason: str) -> Verdict:
        """Give back a job that must not be carried out any more."""
        with storage_translated():
            self._jobs.finish(job, now_us=clock.now_us(), state=CANCELLED, reason=reason)
        return Verdict(CANCELLED, reason)

    def release(self, job: ForwardJob) -> Verdict:
        """Give back a job that was broken off through no fault of anyone."""
        with storage_translated():
            self._jobs.finish(job, now_us=clock.now_us(), state=WAITING)
        return Verdict(WAITING)

    def _armed(
        self, changes: Sequence[ChangeRow], rules: Sequence[ForwardRule]
    ) -> Iterable[Arming]:
        """Yield a job for each study that arrived and each rule that may want it."""
        for rule in rules:
            since = self._rules.since(rule.name)
            last: dict[str, ChangeRow] = {
                one.study_instance_uid: one
                for one in changes
                if one.sequence > since and rule.site in ("", one.site)
            }
            for uid, one in last.items():
                settled = clock.to_us(one.at) + int(rule.settle_s * 1_000_000)
                yield Arming(rule.name, rule.to, uid, one.sequence, settled)

    def _origin(self, job: ForwardJob) -> Origin:
        if not job.rule:
            return Origin()
        rule = self._rules.find(job.rule)
        if rule is None:
            return Origin(never_from=job.destination)
        return Origin(rule.site, rule.source, never_from=job.destination)
