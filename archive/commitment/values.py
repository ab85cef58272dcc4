"""What a request for storage commitment says, and what becomes of it (PS3.3 §C.14)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

import orjson

from archive.auth.principal import Principal, Right
from archive.dicom.compression import compress, decompress
from storage.index import clock
from storage.index.commitments import CommitmentRow

_NEVER: Final = 0


class FailureReason(IntEnum):
    """Why storage of an instance is not committed to (PS3.3 §C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION_UID = 0x0131
    RESOURCE_LIMITATION = 0x0213


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """An instance that a request names (PS3.3 Table 10-11)."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """What a peer asks: the Action Information of PS3.4 Table J.3-1.

    Parameters
    ----------
    ae_title
        Of the peer that asks, and that is told.
    references
        In the order of the request; an instance may be named twice.
    """

    transaction_uid: str
    ae_title: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Commitment:
    """A request being worked on by the one who holds its lease.

    Parameters
    ----------
    owner
        Who holds the lease.
    principal
        Who asked: what it may not see does not exist for it.
    checked_at
        When the outcome was established; None when it is not yet.
    failed
        What is not committed to, by its place in the request.
    attempts
        How often the present step, checking or reporting, was tried in vain.
    """

    id: int
    owner: str
    principal: Principal
    transaction_uid: str
    ae_title: str
    references: tuple[Reference, ...]
    duplicate: bool
    accepted_at: datetime
    checked_at: datetime | None
    failed: dict[int, FailureReason]
    attempts: int


@dataclass(frozen=True, slots=True)
class CommitmentStatus:
    """A request as an operator sees it.

    Parameters
    ----------
    state
        accepted: to be checked; checked: to be reported; unaddressed: checked, but it is not
        known where the peer listens; reported: the peer has answered; failed: given up.
    answer
        The status that the peer answered to the report, as four hexadecimal digits.
    reason
        What went wrong last.
    """

    transaction_uid: str
    ae_title: str
    state: str
    instances: int
    failed: int
    attempts: int
    answer: str
    reason: str
    accepted_at: datetime
    checked_at: datetime | None
    due_at: datetime | None


def encode_references(references: Sequence[Reference]) -> bytes:
    """Return references as the index keeps them."""
    plain = [[one.sop_class_uid, one.sop_instance_uid] for one in references]
    return compress(orjson.dumps(plain))


def digest_of(references: Sequence[Reference]) -> bytes:
    """Return what tells the same set of references, in any order, from another."""
    digest = hashlib.sha256()
    for one in sorted(set(references)):
        digest.update(f"{one.sop_class_uid}\0{one.sop_instance_uid}\n".encode())
    return digest.digest()


def encode_failed(failed: dict[int, FailureReason]) -> bytes:
    """Return failures as the index keeps them."""
    return compress(orjson.dumps(list(failed.items())))


def commitment_of(row: CommitmentRow, owner: str) -> Commitment:
    """Return what a row says, for the one who works on it."""
    return Commitment(
        id=row.id,
        owner=owner,
        principal=Principal(
            name=row.principal,
            site=row.site,
            rights=frozenset({Right.READ}),
            scope=row.scope,
        ),
        transaction_uid=row.transaction_uid,
        ae_title=row.ae_title,
        references=_references(row.requested),
        duplicate=row.duplicate,
        accepted_at=clock.from_us(row.accepted_at),
        checked_at=_moment(row.checked_at),
        failed=_failed(row.failed),
        attempts=row.attempts,
    )


def status_of(row: CommitmentRow, *, is_open: bool) -> CommitmentStatus:
    """Return what a row says, for an operator."""
    return CommitmentStatus(
        transaction_uid=row.transaction_uid,
        ae_title=row.ae_title,
        state=row.state,
        instances=row.number_of_instances,
        failed=row.number_failed,
        attempts=row.attempts,
        answer="" if row.status is None else f"{row.status:04X}",
        reason=row.reason,
        accepted_at=clock.from_us(row.accepted_at),
        checked_at=_moment(row.checked_at),
        due_at=clock.from_us(row.due_at) if is_open else None,
    )


def _references(raw: bytes) -> tuple[Reference, ...]:
    plain = orjson.loads(decompress(raw))
    return tuple(Reference(sop_class, sop_instance) for sop_class, sop_instance in plain)


def _failed(raw: bytes) -> dict[int, FailureReason]:
    if not raw:
        return {}
    pairs = orjson.loads(decompress(raw))
    return {place: FailureReason(reason) for place, reason in pairs}


def _moment(moment_us: int) -> datetime | None:
    return None if moment_us == _NEVER else clock.from_us(moment_us)
