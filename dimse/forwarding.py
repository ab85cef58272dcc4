"""Forwarding (Storage SCU, PS3.4 Annex B): what the queue says is due, sent to where it goes.

A destination is served by threads of its own, one unless the settings say more, which end when
nothing is due for it. One that cannot be reached is left alone for a while: its jobs wait, and
nobody else's do.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from archive.assembly import Archive
from archive.auth.principal import OPERATOR
from archive.config import Peer
from archive.errors import ArchiveError, PeerError
from archive.forward.queue import FORWARDER, Delivery, ForwardJob, ForwardQueue, Verdict
from archive.log import get_logger
from archive.metrics import FORWARDS_ENDED, FORWARDS_OPEN, INSTANCES_FORWARDED
from archive.retrieve.listing import ListedInstance
from archive.retrieve.values import StoredInstance
from dimse.outgoing import deliver
from dimse.store_answers import Answer, answer

logger = get_logger(__name__)

_PAUSE_S: Final = 1.0
_RENEW_S: Final = 5.0
_COUNT_S: Final = 15.0
# One association carries so many instances: what is known of them stays small.
_BATCH: Final = 500
_WRITE_EVERY: Final = 100
_WRITE_S: Final = 1.0
# A peer that is out of resources for so many in a row is so for the next one too.
_FAILURES_IN_A_ROW: Final = 3
# What cannot be sent at all may be a store that is away for a moment, but not this often.
_UNSENDABLE_TRIES: Final = 3
_LONGEST_REST_S: Final = 300.0
_LONGEST_PAUSE_S: Final = 30.0

_EVENTS: Final = {
    "done": ("forward.done", logging.INFO),
    "waiting": ("forward.postponed", logging.WARNING),
    "dead": ("forward.dead", logging.ERROR),
    "cancelled": ("forward.cancelled", logging.WARNING),
}


class Lost(Exception):  # noqa: N818 - nothing is wrong: another one has the job now
    """The claim on a job holds no more."""


@dataclass(slots=True)
class _Destination:
    """What this process knows of a destination."""

    threads: list[threading.Thread] = field(default_factory=list)
    failures: int = 0
    rests_until_us: int = 0


class Forwarder:
    """Carries out the queue of one archive until it is told to stop.

    Parameters
    ----------
    archive
        Whose queue.
    stopping
        Set when it is to end: what is under way is broken off, and goes on elsewhere or later.
    """

    def __init__(self, archive: Archive, stopping: threading.Event) -> None:
        self._archive = archive
        self._queue: ForwardQueue = archive.forward.queue
        self._limit = archive.config.dimse.forward_associations
        self._stopping = stopping
        self._lock = threading.Lock()
        self._destinations: dict[str, _Destination] = {}
        self._runs: dict[str, Run] = {}
        self._renewed = time.monotonic()
        self._counted = 0.0

    def run(self, pause_s: float = _PAUSE_S) -> None:
        """Look after the queue again and again; return when told to stop."""
        pause = pause_s
        while not self._stopping.wait(pause):
            try:
                self.round()
                pause = pause_s
            except ArchiveError as error:
                pause = min(pause * 2, _LONGEST_PAUSE_S)
                logger.warning("forward.interrupted", extra={"reason": str(error)})
        self.join()

    def round(self) -> None:
        """Follow the feed, hold what is under way, begin what is due; do not wait for it."""
        pulse = self._queue.pulse()
        self._queue.follow(pulse)
        self._renew()
        self._count()
        if pulse.next_due is not None:
            for name in self._queue.due_destinations():
                self._serve(name)

    def join(self) -> None:
        """Wait for the threads of all destinations."""
        for destination in list(self._destinations.values()):
            for thread in destination.threads:
                thread.join()

    def _serve(self, name: str) -> None:
        with self._lock:
            known = self._destinations.setdefault(name, _Destination())
            known.threads = [thread for thread in known.threads if thread.is_alive()]
            if len(known.threads) >= self._limit or self._queue.now_us() < known.rests_until_us:
                return
            thread = threading.Thread(
                target=self._work, args=(name, known), name=f"forward-{name}", daemon=True
            )
            known.threads.append(thread)
        thread.start()

    def _work(self, name: str, known: _Destination) -> None:
        """Send what is due for a destination until nothing is, or it does not answer."""
        try:
            while not self._stopping.is_set():
                job = self._queue.claim(name, limit=self._limit)
                if job is None or not self._carry_out(job, known):
                    return
        except ArchiveError as error:
            logger.warning(
                "forward.interrupted", extra={"destination": name, "reason": str(error)}
            )
            self._rest(known)
        except Exception:
            logger.exception("forward.failed", extra={"destination": name})
            self._rest(known)

    def _carry_out(self, job: ForwardJob, known: _Destination) -> bool:
        """Send one job; return whether the destination may be asked for more."""
        run = Run(self._archive, job, self._stopping)
        with self._lock:
            self._runs[job.claim] = run
        try:
            verdict = run.finish(run.send())
        except Lost:
            return True
        finally:
            with self._lock:
                del self._runs[job.claim]
        self._report(run, verdict)
        if run.tried:  # it answers
            known.failures = 0
        if run.unreachable:
            self._rest(known)
        return not run.unreachable

    def _rest(self, known: _Destination) -> None:
        known.failures += 1
        rest_us = self._queue.retrying.pause_us(known.failures, longest_s=_LONGEST_REST_S)
        known.rests_until_us = self._queue.now_us() + rest_us

    def _renew(self) -> None:
        with self._lock:
            runs = dict(self._runs)
        if runs and time.monotonic() - self._renewed > _RENEW_S:
            held = self._queue.renew(runs)
            for claim, run in runs.items():
                run.lost = claim not in held
            self._renewed = time.monotonic()

    def _count(self) -> None:
        if time.monotonic() - self._counted > _COUNT_S:
            self._counted = time.monotonic()
            for state, jobs in self._queue.open_jobs().items():
                FORWARDS_OPEN.labels(state).set(jobs)

    def _report(self, run: "Run", verdict: Verdict) -> None:
        FORWARDS_ENDED.labels(verdict.state).inc()
        if verdict.state == "done" and not run.tried:
            return  # it did not match, or the destination had everything
        event, level = _EVENTS[verdict.state]
        logger.log(
            level,
            event,
            extra={
                "rule": run.job.rule,
                "destination": run.job.destination,
                "study_instance_uid": run.job.study_instance_uid,
                "sent": run.sent,
                "refused": run.refused,
                "failed": run.failed,
                "reason": verdict.reason,
                "again_in_s": round(verdict.again_in_s, 1),
            },
        )


class Run:
    """One try at one job.

    Parameters
    ----------
    archive
        Where from.
    job
        What; claimed.
    stopping
        Set when the process is to end.
    """

    def __init__(self, archive: Archive, job: ForwardJob, stopping: threading.Event) -> None:
        self.job = job
        self.sent = self.refused = self.failed = 0
        self.unreachable = False
        self.lost = False
        self._archive = archive
        self._queue = archive.forward.queue
        self._stopping = stopping
        self._in_a_row = 0
        self._reason = ""
        self._unwritten: list[Delivery] = []
        self._written = time.monotonic()

    @property
    def tried(self) -> int:
        """How many instances something became of."""
        return self.sent + self.refused + self.failed

    def send(self) -> str:
        """Send what the destination has not; return why it must be tried again, or ""."""
        try:
            if not self._queue.objection(self.job) and self._queue.matches(self.job):
                self._send_all()
        except PeerError as error:
            self.unreachable = True
            self._reason = str(error)
        except ArchiveError as error:
            self._reason = str(error)
        finally:
            self._write()
        return self._reason

    def finish(self, reason: str) -> Verdict:
        """Give the job back, with what became of it."""
        objection = self._queue.objection(self.job)
        if objection:
            return self._queue.give_up(self.job, objection)
        if reason:
            return self._queue.failed(
                self.job, reason, progress=self.sent > 0, failed=self.failed
            )
        if self._stopping.is_set():
            return self._queue.release(self.job)
        return self._queue.done(self.job, tried=self.tried)

    def _peer(self) -> Peer:
        peer = self._archive.peers.find(self.job.destination)
        if peer is None or peer.address is None:
            what = "is not known" if peer is None else "has no host and port"
            raise PeerError(
                f"peer {self.job.destination} {what}: "
                f"fileroom peer add {self.job.destination} HOST PORT"
            )
        return peer

    def _send_all(self) -> None:
        after = 0
        while not self._is_over():
            batch = self._queue.pending(self.job, after=after, limit=_BATCH)
            if not batch:
                return
            after = batch[-1].instance_id
            deliver(
                self._archive,
                OPERATOR if not self.job.rule else FORWARDER,
                self._peer(),
                _rotated(batch, self.job.attempts),
                on_each=self._on_each,
                cancelled=self._is_over,
            )

    def _is_over(self) -> bool:
        return self.lost or self._stopping.is_set() or self._in_a_row >= _FAILURES_IN_A_ROW

    def _on_each(self, entry: ListedInstance, status: int | None, reason: str) -> None:
        became = self._judge(status)
        self.sent += became is Answer.SENT
        self.refused += became is Answer.REFUSED
        self.failed += became is Answer.FAILED
        if became is Answer.FAILED:
            self._reason = reason
        self._in_a_row = self._in_a_row + 1 if became is Answer.FAILED else 0
        INSTANCES_FORWARDED.labels(became.value).inc()
        self._unwritten.append(Delivery(entry.instance_id, became.value, status, reason))
        due = time.monotonic() - self._written > _WRITE_S
        if due or len(self._unwritten) >= _WRITE_EVERY:
            self._write()

    def _judge(self, status: int | None) -> Answer:
        if status is not None:
            return answer(status)
        often = self.job.attempts + 1 >= _UNSENDABLE_TRIES
        return Answer.REFUSED if often else Answer.FAILED

    def _write(self) -> None:
        if self._unwritten and not self._queue.record(self.job, self._unwritten):
            self.lost = True
        self._unwritten = []
        self._written = time.monotonic()
        if self.lost:
            raise Lost


def _rotated(batch: Sequence[StoredInstance], by: int) -> list[StoredInstance]:
    # One that breaks the association each time must not stand before the others for ever.
    start = by % len(batch)
    return [*batch[start:], *batch[:start]]


def forward_due(archive: Archive, stopping: threading.Event) -> None:
    """Be the courier's step that forwards; returns when told to stop."""
    Forwarder(archive, stopping).run()
