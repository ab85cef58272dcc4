"""Commitments on the association that asked: checked and reported between its messages.

PS3.4 §J.3.3.1.2 lets the report come on the same association. Whoever releases it first, or
answers nothing, is called on a new one by the courier (`dimse.commitment_delivery`).
"""

import os
import socket
import time
import uuid
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from archive.commitment.service import LEASE_S
from archive.commitment.values import Commitment
from archive.errors import ArchiveError
from archive.log import get_logger
from dimse.commitment import report_request

logger = get_logger(__name__)

# For how long checking may keep messages waiting, in seconds.
_SLICE_S: Final = 0.01
# Many release the association as soon as the request is answered, and expect the report on
# another one: they are given the time to.
_COURTESY_S: Final = 0.25
_LONGEST_WAIT_S: Final = 1.0
_RENEWAL_S: Final = LEASE_S / 3
# Message IDs apart from those of C-GET's sub-operations, which count from 1.
_FIRST_MESSAGE_ID: Final = 60_000


def new_owner(name: str) -> str:
    """Return the name of one who takes leases: unique, and readable for an operator."""
    return f"{name}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@dataclass(slots=True)
class _Task:
    """One request of the association, and how far it is."""

    commitment: Commitment
    context_id: int
    check: Generator[None, None, Commitment] | None
    not_before: float
    renew_at: float
    message_id: int = 0
    answer_by: float = 0.0


class AssociationReports:
    """The commitments that one association asked for.

    Parameters
    ----------
    association
        A `dimse.association.ServedAssociation`; everything here runs in its thread.
    """

    def __init__(self, association: Any) -> None:  # noqa: ANN401 - pynetdicom's
        self._association = association
        self._commitments = association.archive.commitments
        self._tasks: deque[_Task] = deque()
        self._message_id = _FIRST_MESSAGE_ID

    @cached_property
    def owner(self) -> str:
        """Who takes leases here: made when somebody asks for a commitment, which few do."""
        return new_owner("association")

    def take(self, commitment: Commitment, context_id: int) -> None:
        """See to a request that was accepted under this association's lease."""
        if not self._association.archive.config.commitment.same_association:
            self._commitments.leave(commitment)
            return
        now = time.monotonic()
        self._tasks.append(
            _Task(
                commitment=commitment,
                context_id=context_id,
                check=self._commitments.check(commitment),
                not_before=now + _COURTESY_S,
                renew_at=now + _RENEWAL_S,
            )
        )

    def work(self) -> float:
        """Do a little of what there is to do; return how long nothing need be done, in s."""
        if not self._tasks:
            return _LONGEST_WAIT_S
        task = self._tasks[0]
        try:
            self._renew()
            return self._step(task) if task in self._tasks else 0.0
        except ArchiveError as error:
            self._drop(task)
            self._postpone(task, str(error))
        except OSError:
            raise  # the connection: the association ends
        except Exception:
            logger.exception("commitment.failed", extra={"association": self._association.name})
            self._drop(task)
            self._postpone(task, "unexpected failure")
        return 0.0

    def answered(self, response: Any) -> None:  # noqa: ANN401 - a primitive
        """Take an N-EVENT-REPORT-RSP."""
        for task in self._tasks:
            if task.message_id and task.message_id == response.MessageIDBeingRespondedTo:
                self._drop(task)
                self._commitments.reported(task.commitment, int(response.Status or 0))
                return
        logger.info("commitment.late-answer", extra={"association": self._association.name})

    def leave(self) -> None:
        """Leave what is not reported to the courier: the association has ended."""
        while self._tasks:
            task = self._tasks[0]
            self._drop(task)
            try:
                self._commitments.leave(task.commitment)
            except ArchiveError as error:  # its lease runs out
                logger.warning("commitment.not-left", extra={"reason": str(error)})

    def _step(self, task: _Task) -> float:
        if task.check is not None:
            self._check(task)
            return 0.0
        now = time.monotonic()
        if task.message_id:
            return self._wait(task, now)
        if now < task.not_before:
            return min(task.not_before - now, _LONGEST_WAIT_S)
        if not self._association.is_between_messages:
            return _SLICE_S
        if self._commitments.hold(task.commitment):
            self._send(task, now)
        else:
            self._drop(task)  # somebody else reports it
        return 0.0

    def _check(self, task: _Task) -> None:
        # The peer waits for us: it is not silent.
        self._association.keep_alive()
        end = time.monotonic() + _SLICE_S
        while task.check is not None and time.monotonic() < end:
            try:
                next(task.check)
            except StopIteration as done:
                task.commitment, task.check = done.value, None

    def _send(self, task: _Task, now: float) -> None:
        association = self._association
        context = association._accepted_cx[task.context_id]  # noqa: SLF001 - as its methods do
        self._message_id += 1
        task.message_id = self._message_id
        task.answer_by = now + (association.dimse_timeout or _LONGEST_WAIT_S)
        request = report_request(
            task.commitment,
            message_id=task.message_id,
            retrieve_ae_title=str(association.acceptor.ae_title).strip(),
            transfer_syntax_uid=str(context.transfer_syntax[0]),
        )
        association.dimse.send_msg(request, task.context_id)

    def _wait(self, task: _Task, now: float) -> float:
        if now < task.answer_by:
            return min(task.answer_by - now, _LONGEST_WAIT_S)
        self._drop(task)
        self._postpone(task, "the peer did not answer on the association that asked")
        return 0.0

    def _renew(self) -> None:
        now = time.monotonic()
        for task in [task for task in self._tasks if now >= task.renew_at]:
            task.renew_at = now + _RENEWAL_S
            if not self._commitments.hold(task.commitment):
                self._drop(task)

    def _drop(self, task: _Task) -> None:
        self._tasks.remove(task)
        if task.check is not None:
            task.check.close()

    def _postpone(self, task: _Task, reason: str) -> None:
        try:
            self._commitments.postpone(task.commitment, reason)
        except ArchiveError as error:  # its lease runs out
            logger.warning("commitment.not-postponed", extra={"reason": str(error)})
