"""Reports of storage commitment on associations of our own (PS3.4 §J.3.3), a courier's step.

What the association that asked did not see to: it was released first, it did not answer, or
the process that served it died. Peers are called on side by side, so that one that does not
answer keeps no other waiting; reports to one peer share an association.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import build_role
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.presentation import build_context

from archive.assembly import Archive
from archive.auth.principal import OPERATOR
from archive.commitment.service import LEASE_S
from archive.commitment.values import Commitment
from archive.config import Peer
from archive.errors import ArchiveError, PeerError
from archive.log import get_logger
from dimse.commitment import report_request
from dimse.commitment_reports import new_owner
from dimse.contexts import (
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    STORAGE_COMMITMENT,
)
from dimse.outgoing import Outgoing, connect

logger = get_logger(__name__)

_PEERS_AT_ONCE: Final = 8
_BATCH: Final = 32
_PAUSE_S: Final = 1.0
# A commitment is to what is stored now: an outcome that had to wait is established anew.
_FRESH: Final = timedelta(hours=1)


def deliver_due(archive: Archive, stopping: threading.Event) -> None:
    """Check and report what is due, until nothing is (`dimse.courier.Step`)."""
    owner = new_owner("courier")
    busy: dict[str, Future[None]] = {}
    with ThreadPoolExecutor(_PEERS_AT_ONCE, thread_name_prefix="report") as pool:
        while not stopping.is_set():
            busy = {title: task for title, task in busy.items() if not task.done()}
            due = archive.commitments.claim_due(
                OPERATOR, owner=owner, limit=_BATCH, without=busy
            )
            if not due and not busy:
                return
            for title, waiting in _by_peer(due).items():
                busy[title] = pool.submit(_Delivery(archive, title, stopping).run, waiting)
            wait(busy.values(), _PAUSE_S, return_when=FIRST_COMPLETED)


def _by_peer(due: Iterable[Commitment]) -> dict[str, list[Commitment]]:
    grouped: dict[str, list[Commitment]] = defaultdict(list)
    for one in due:
        grouped[one.ae_title].append(one)
    return grouped


class _Delivery:
    """What one peer is to be told."""

    def __init__(self, archive: Archive, ae_title: str, stopping: threading.Event) -> None:
        self._archive = archive
        self._commitments = archive.commitments
        self._ae_title = ae_title
        self._stopping = stopping

    def run(self, waiting: list[Commitment]) -> None:
        """See to each request: checked and reported, or postponed with the reason."""
        try:
            self._deliver(waiting)
        except Exception:  # their leases run out
            logger.exception("commitment.failed", extra={"ae_title": self._ae_title})

    def _deliver(self, waiting: list[Commitment]) -> None:
        peer = self._archive.peers.find(self._ae_title)
        if peer is not None and peer.address is not None and any(map(_is_stale, waiting)):
            try:
                # Is it there at all? Else much would be read again in vain.
                self._connect(peer).release()
            except PeerError as error:
                self._postpone(waiting, str(error))
                return
        checked = [one for one in map(self._checked, waiting) if one is not None]
        if peer is None or peer.address is None:
            reason = f"it is not known where {self._ae_title} listens: fileroom peer add"
            self._postpone(checked, reason, addressed=False)
        else:
            self._report_all(peer, checked)

    def _checked(self, commitment: Commitment) -> Commitment | None:
        """Return the request with its outcome; None when there is none now."""
        if not self._commitments.hold(commitment):
            return None
        if commitment.checked_at is not None and not _is_stale(commitment):
            return commitment
        check = self._commitments.check(commitment)
        renew_at = time.monotonic() + LEASE_S / 3
        try:
            while not self._stopping.is_set():
                next(check)
                if time.monotonic() >= renew_at:
                    renew_at = time.monotonic() + LEASE_S / 3
                    if not self._commitments.hold(commitment):
                        return None
            self._commitments.leave(commitment)
        except StopIteration as done:
            checked: Commitment = done.value
            return checked
        except ArchiveError as error:
            self._commitments.postpone(commitment, str(error))
        finally:
            check.close()
        return None

    def _report_all(self, peer: Peer, checked: list[Commitment]) -> None:
        left = list(checked)
        if not left:
            return
        try:
            with self._connect(peer) as outgoing:
                for number, one in enumerate(checked, 1):
                    if self._stopping.is_set():
                        break
                    self._report(outgoing, one, number)
                    left.remove(one)
        except (PeerError, OSError) as error:
            self._postpone(left, str(error))
        else:
            for one in left:
                self._commitments.leave(one)

    def _connect(self, peer: Peer) -> Outgoing:
        # We are the one who asks for the association, and not the SCU: that has to be
        # negotiated (PS3.7 §D.3.3.4).
        outgoing = connect(
            self._archive,
            peer,
            [
                build_context(
                    STORAGE_COMMITMENT, [EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN]
                )
            ],
            roles=[build_role(STORAGE_COMMITMENT, scu_role=False, scp_role=True)],
        )
        # Not answering the role is common, and the report is taken all the same.
        answered = outgoing.association.acceptor.role_selection.get(UID(STORAGE_COMMITMENT))
        if answered is not None and not answered.scp_role:
            outgoing.release()
            raise PeerError(
                f"{peer.ae_title} refuses that this archive is the SCP of storage commitment"
            )
        return outgoing

    def _report(self, outgoing: Outgoing, commitment: Commitment, message_id: int) -> None:
        settings = self._archive.config.dimse
        enough_s = LEASE_S + settings.network_timeout_s
        if not self._commitments.hold(commitment, lease_s=enough_s):
            return  # somebody else reports it
        association: Any = outgoing.association
        (context,) = association.accepted_contexts
        request = report_request(
            commitment,
            message_id=message_id,
            retrieve_ae_title=settings.ae_title,
            transfer_syntax_uid=str(context.transfer_syntax[0]),
        )
        association.dimse.send_msg(request, context.context_id)
        self._commitments.reported(commitment, _answer(association, message_id, outgoing.peer))

    def _postpone(
        self, waiting: list[Commitment], reason: str, *, addressed: bool = True
    ) -> None:
        for one in waiting:
            self._commitments.postpone(one, reason, addressed=addressed)


def _answer(association: Any, message_id: int, peer: Peer) -> int:  # noqa: ANN401 - pynetdicom's
    while True:
        _, answer = association.dimse.get_msg(block=True)
        if answer is None:
            raise PeerError(f"{peer.ae_title} did not answer the report")
        if (
            isinstance(answer, N_EVENT_REPORT)
            and answer.MessageIDBeingRespondedTo == message_id
        ):
            return int(answer.Status or 0)


def _is_stale(commitment: Commitment) -> bool:
    checked_at = commitment.checked_at
    return checked_at is not None and datetime.now(UTC) - checked_at > _FRESH
