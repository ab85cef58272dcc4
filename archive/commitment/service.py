"""Requests for storage commitment, from acceptance to the peer's answer (PS3.4 Annex J).

A request is kept in the index before it is answered, and is worked on under a lease: by the
association that brought it as long as that lasts, else by the courier of any node. Each step
is one conditional UPDATE, so that what a killed process was at is simply done again.
"""

import logging
from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import Any, Final

from archive.auth.principal import Principal, Right
from archive.commitment.check import Check
from archive.commitment.values import (
    Commitment,
    CommitmentRequest,
    CommitmentStatus,
    FailureReason,
    commitment_of,
    digest_of,
    encode_failed,
    encode_references,
    status_of,
)
from archive.config import CommitmentSection
from archive.errors import ForbiddenError, NotFoundError, TooLargeError, storage_translated
from archive.log import get_logger
from archive.metrics import COMMITMENTS_FINISHED, COMMITMENTS_REQUESTED
from storage.index import clock
from storage.index.commitments import (
    ACCEPTED,
    CHECKED,
    FAILED,
    OPEN,
    REPORTED,
    UNADDRESSED,
    CommitmentRow,
    CommitmentTable,
    Lease,
    NewCommitment,
)
from storage.objects.base import ObjectStore

logger = get_logger(__name__)

# How long nobody else works on a request after its holder was last heard of.
LEASE_S: Final = 30.0
# Attempts to check while the store does not answer, after which that is the outcome.
_CHECKS: Final = 5
_LONGEST_PAUSE_S: Final = 6 * 3600.0
# To look whether a peer is known by now costs nothing.
_LONGEST_UNADDRESSED_S: Final = 600.0
_MOST_REFERENCES: Final = 200_000
_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND


class CommitmentService:
    """Takes requests in, checks them, and remembers what became of them.

    Parameters
    ----------
    table, objects
        Index and store.
    settings
        How long and how often a report is tried.
    """

    def __init__(
        self, table: CommitmentTable, objects: ObjectStore, settings: CommitmentSection
    ) -> None:
        self._table = table
        self._objects = objects
        self._settings = settings

    # -- the way of a request --------------------------------------------------------------

    def accept(
        self, principal: Principal, request: CommitmentRequest, *, owner: str
    ) -> Commitment | None:
        """Keep a request, durable; ``owner`` holds its lease.

        The same request of the same peer again begins anew, for its report may have been lost.
        Another request under a Transaction UID that the peer has used fails as a whole
        (PS3.3 §C.14.1.1: 0131), for a Transaction UID is never used again (PS3.4 §J.3.3.1.2).

        Returns
        -------
        Commitment or None
            None when the same request is being worked on already: it will be reported.

        Raises
        ------
        ForbiddenError
            If ``principal`` may neither read nor store.
        TooLargeError
            If it names more instances than one request may.
        """
        if not principal.rights & {Right.READ, Right.WRITE}:
            raise ForbiddenError(f"{principal.name} may not ask for storage commitment")
        if len(request.references) > _MOST_REFERENCES:
            raise TooLargeError(f"more than {_MOST_REFERENCES} instances in one request")
        new = NewCommitment(
            transaction_uid=request.transaction_uid,
            ae_title=request.ae_title,
            principal=principal.name,
            site=principal.site,
            scope=principal.scope,
            digest=digest_of(request.references),
            requested=encode_references(request.references),
            number_of_instances=len(request.references),
        )
        with storage_translated():
            row = self._table.add(new, _lease(owner, LEASE_S))
        outcome = "repeated" if row is None else "duplicate" if row.duplicate else "accepted"
        COMMITMENTS_REQUESTED.labels(outcome).inc()
        logger.info(
            "commitment.requested",
            extra={
                "transaction_uid": request.transaction_uid,
                "principal": principal.name,
                "instances": len(request.references),
                "outcome": outcome,
            },
        )
        return None if row is None else commitment_of(row, owner)

    def is_due(self, principal: Principal) -> bool:
        """Tell whether `claim_due` would find something; cheap."""
        _require_admin(principal)
        with storage_translated():
            return self._table.is_due()

    def claim_due(
        self, principal: Principal, *, owner: str, limit: int, without: Iterable[str] = ()
    ) -> list[Commitment]:
        """Take requests that are due and that nobody works on, the longest due first.

        Parameters
        ----------
        without
            AE titles whose requests are left.
        """
        _require_admin(principal)
        with storage_translated():
            rows = self._table.claim_due(_lease(owner, LEASE_S), limit, without=without)
        return [commitment_of(row, owner) for row in rows]

    def hold(self, commitment: Commitment, *, lease_s: float = LEASE_S) -> bool:
        """Renew the lease; False when it was lost, and another one works on it."""
        until = _lease(commitment.owner, lease_s).until_us
        return self._change(commitment, lease_until=until)

    def check(self, commitment: Commitment) -> Generator[None, None, Commitment]:
        """Establish what is committed to; yield between pieces of the work.

        Each instance must be visible to the principal that asked, of the class that was named,
        and its object's bytes must match the digest recorded.

        Raises
        ------
        UnavailableError, BusyError
            If index or store do not answer now: `postpone` it.
        """
        if commitment.duplicate:
            places = range(len(commitment.references))
            failed = dict.fromkeys(places, FailureReason.DUPLICATE_TRANSACTION_UID)
        else:
            check = Check(
                self._table,
                self._objects,
                scope=commitment.principal.scope,
                asker=commitment.ae_title,
                last=commitment.attempts + 1 >= _CHECKS,
            )
            failed = yield from check.run(commitment.references)
        now = clock.now_us()
        self._change(
            commitment,
            state=CHECKED,
            state_at=now,
            checked_at=now,
            attempts=0,
            failed=encode_failed(failed),
            number_failed=len(failed),
        )
        return replace(commitment, checked_at=clock.from_us(now), failed=failed, attempts=0)

    def reported(self, commitment: Commitment, status: int) -> None:
        """Note that the peer has answered the report, with this status (PS3.7 §10.1.1)."""
        self._finish(commitment, REPORTED, status=status, reason="")
        logger.log(
            _level(status),
            "commitment.reported",
            extra=_named(commitment)
            | {"failed": len(commitment.failed), "status": f"{status:04X}"},
        )

    def postpone(self, commitment: Commitment, reason: str, *, addressed: bool = True) -> None:
        """Let a step that failed be tried again later, or give up when it took too long.

        Parameters
        ----------
        reason
            What went wrong, for the operator.
        addressed
            False when it is not known where the peer listens.
        """
        now = clock.now_us()
        limit = clock.to_us(commitment.accepted_at) + int(self._settings.retry_days * _DAY)
        if now >= limit:
            self._finish(commitment, FAILED, status=None, reason=reason)
            logger.error("commitment.failed", extra=_named(commitment) | {"reason": reason})
            return
        longest_s = _LONGEST_PAUSE_S if addressed else _LONGEST_UNADDRESSED_S
        pause_s = min(self._settings.retry_s * 2 ** min(commitment.attempts, 30), longest_s)
        state = ACCEPTED if commitment.checked_at is None else CHECKED
        self._change(
            commitment,
            state=state if addressed else UNADDRESSED,
            state_at=now,
            reason=reason,
            attempts=commitment.attempts + 1,
            due_at=min(now + int(pause_s * _SECOND), limit),
            **_FREE,
        )
        logger.warning("commitment.postponed", extra=_named(commitment) | {"reason": reason})

    def leave(self, commitment: Commitment) -> None:
        """Let somebody else go on with it, at once."""
        self._change(commitment, due_at=clock.now_us(), **_FREE)

    # -- the operator ----------------------------------------------------------------------

    def requests(
        self, principal: Principal, *, transaction_uid: str = "", limit: int = 1000
    ) -> list[CommitmentStatus]:
        """Return requests, the newest first; all, or those of one Transaction UID."""
        _require_admin(principal)
        with storage_translated():
            rows = self._table.rows(transaction_uid=transaction_uid, limit=limit)
        return [status_of(row, is_open=row.state in OPEN) for row in rows]

    def retry(self, principal: Principal, transaction_uid: str) -> int:
        """Let requests be checked and reported anew, now; return how many.

        Raises
        ------
        NotFoundError
            If there is none of that Transaction UID.
        """
        rows = self._named_rows(principal, transaction_uid)
        with storage_translated():
            return self._table.begin_again([row.id for row in rows], now_us=clock.now_us())

    def remove(self, principal: Principal, transaction_uid: str) -> int:
        """Forget requests, answered or not; return how many.

        Raises
        ------
        NotFoundError
            If there is none of that Transaction UID.
        """
        rows = self._named_rows(principal, transaction_uid)
        with storage_translated():
            return self._table.remove([row.id for row in rows])

    def forget_finished(self, principal: Principal) -> int:
        """Forget what was answered or given up long ago; return how many."""
        _require_admin(principal)
        age = int(self._settings.keep_days * _DAY)
        with storage_translated():
            return self._table.remove_finished(clock.now_us() - age)

    def free_all(self, principal: Principal) -> None:
        """End every lease: at the start of the only node there is."""
        _require_admin(principal)
        with storage_translated():
            self._table.free_all()

    # -- inside ----------------------------------------------------------------------------

    def _named_rows(self, principal: Principal, transaction_uid: str) -> list[CommitmentRow]:
        _require_admin(principal)
        with storage_translated():
            rows = self._table.rows(transaction_uid=transaction_uid)
        if not rows:
            raise NotFoundError(f"no request has the Transaction UID {transaction_uid}")
        return rows

    def _finish(
        self, commitment: Commitment, state: str, *, status: int | None, reason: str
    ) -> None:
        finished = self._change(
            commitment,
            state=state,
            state_at=clock.now_us(),
            status=status,
            reason=reason,
            **_FREE,
        )
        if finished:
            outcome = "partly" if commitment.failed else "committed"
            COMMITMENTS_FINISHED.labels(state if state == FAILED else outcome).inc()

    def _change(self, commitment: Commitment, **values: Any) -> bool:  # noqa: ANN401 - columns
        with storage_translated():
            return self._table.change(commitment.id, commitment.owner, **values)


_FREE: Final = {"lease_owner": "", "lease_until": 0}


def _lease(owner: str, seconds: float) -> Lease:
    return Lease(owner, clock.now_us() + int(seconds * _SECOND))


def _named(commitment: Commitment) -> dict[str, Any]:
    return {
        "transaction_uid": commitment.transaction_uid,
        "ae_title": commitment.ae_title,
        "instances": len(commitment.references),
    }


def _level(status: int) -> int:
    return logging.INFO if status == 0 else logging.WARNING


def _require_admin(principal: Principal) -> None:
    if Right.ADMIN not in principal.rights:
        raise ForbiddenError(f"{principal.name} may not look after storage commitment")
