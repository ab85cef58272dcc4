"""C-GET and C-MOVE SCP (PS3.4 §C.4.2, §C.4.3): the same sub-operations, here or there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pynetdicom.dimse_primitives import C_GET, C_MOVE

from archive.config import Peer
from archive.errors import ArchiveError, PeerError
from archive.identity import InstanceRef, ResourceRef, SeriesRef, StudyRef
from archive.log import get_logger
from archive.query.request import Level, SearchRequest
from archive.retrieve.values import StoredInstance
from dimse import identifiers
from dimse.outgoing import deliver
from dimse.send import Sender, Suboperation, log_failed
from dimse.status import (
    CANCEL,
    DESTINATION_UNKNOWN,
    PENDING,
    SUCCESS,
    UNABLE_SUBOPERATIONS,
    UNEXPECTED,
    WARNING_SUBOPERATIONS,
    statuses,
)

logger = get_logger(__name__)


@dataclass(slots=True)
class _Progress:
    """The sub-operation counters (PS3.7 §9.1.3.1)."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warned: int = 0
    failed_uids: list[str] = field(default_factory=list)

    def count(self, stored: StoredInstance, status: int | None) -> None:
        """Take the outcome of one sub-operation; None when nothing could be sent."""
        self.remaining -= 1
        if status == SUCCESS:
            self.completed += 1
        elif status is not None and (status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116)):
            self.warned += 1
        else:
            self.failed += 1
            self.failed_uids.append(stored.sop_instance_uid)

    @property
    def final_status(self) -> int:
        """What the last response says."""
        if not self.failed and not self.warned:
            return SUCCESS
        done = self.completed + self.warned
        return WARNING_SUBOPERATIONS if done else UNABLE_SUBOPERATIONS


class _Retrieval:
    """One C-GET or C-MOVE being served."""

    def __init__(self, association: Any, request: Any, context: Any) -> None:  # noqa: ANN401
        self.association = association
        self.request = request
        self.context = context
        self._kind: type = C_GET if isinstance(request, C_GET) else C_MOVE
        self.progress = _Progress(0)

    def run(self, act: Callable[["_Retrieval"], int]) -> None:
        """Do ``act``, and answer with the status it returns, or that of its error."""
        comment = ""
        try:
            status = act(self)
        except ArchiveError as error:
            status, comment = statuses(error).query, str(error)
        except OSError:
            raise
        except Exception:
            logger.exception("retrieve.failed", extra={"association": self.association.name})
            status, comment = UNEXPECTED, "unexpected failure"
        logger.info(
            "retrieve.served",
            extra={
                "association": self.association.name,
                "completed": self.progress.completed,
                "failed": self.progress.failed,
                "warned": self.progress.warned,
                "status": f"{status:04X}",
            },
        )
        self._respond(status, comment)

    def instances(self) -> list[StoredInstance]:
        """Return what the identifier names, in order."""
        syntax = self.context.transfer_syntax[0]
        identifier = identifiers.read_identifier(self.request.Identifier, syntax)
        search = identifiers.unique_keys(identifier, str(self.request.AffectedSOPClassUID))
        archive, principal = self.association.archive, self.association.principal
        refs = [_ref(match, search) for match in archive.query.search(principal, search)]
        found = list(archive.retrieve.instances(principal, refs)) if refs else []
        self.progress.remaining = len(found)
        return found

    def send_all(self, sender: Sender, found: list[StoredInstance]) -> int:
        """Send each; report after each; return the final status."""
        for number, stored in enumerate(found):
            if self.is_cancelled():
                return CANCEL
            operation = Suboperation(number % 65535 + 1, self._priority())
            self.progress.count(stored, _sent(sender, stored, operation))
            if self.progress.remaining:
                self._respond(PENDING)
        return self.progress.final_status

    def deliver_all(self, peer: Peer, found: list[StoredInstance]) -> int:
        """Send each to a peer; report after each; return the final status."""
        left = {stored.sop_instance_uid: stored for stored in found}

        def on_each(stored: StoredInstance, status: int | None, reason: str) -> None:
            del left[stored.sop_instance_uid]
            if status is None:
                log_failed(stored, reason)
            self.progress.count(stored, status)
            if self.progress.remaining:
                self._respond(PENDING)

        try:
            deliver(
                self.association.archive,
                self.association.principal,
                peer,
                found,
                originator=(self.association.calling_ae_title, int(self.request.MessageID)),
                priority=self._priority(),
                on_each=on_each,
                cancelled=self.is_cancelled,
            )
        except PeerError as error:
            logger.warning(
                "move.failed", extra={"destination": peer.ae_title, "reason": str(error)}
            )
            for stored in left.values():
                self.progress.count(stored, None)
        return CANCEL if self.progress.remaining else self.progress.final_status

    def is_cancelled(self) -> bool:
        """Tell whether the peer has asked to cancel (PS3.7 §9.3.2.3)."""
        return self.request.MessageID in self.association.cancelled()

    def _priority(self) -> int:
        return int(getattr(self.request, "Priority", 0) or 0)

    def _respond(self, status: int, comment: str = "") -> None:
        response = self._kind()
        response.MessageIDBeingRespondedTo = self.request.MessageID
        response.AffectedSOPClassUID = self.request.AffectedSOPClassUID
        response.Status = status
        if comment:
            response.ErrorComment = comment[:64]
        # How many remain is said only while some do (PS3.7 §9.1.3.1.6).
        if status in (PENDING, CANCEL):
            response.NumberOfRemainingSuboperations = self.progress.remaining
        response.NumberOfCompletedSuboperations = self.progress.completed
        response.NumberOfFailedSuboperations = self.progress.failed
        response.NumberOfWarningSuboperations = self.progress.warned
        if self.progress.failed_uids and status != PENDING:
            response.Identifier = identifiers.encode_failed(
                self.progress.failed_uids, self.context.transfer_syntax[0]
            )
        self.association.dimse.send_msg(response, self.context.context_id)


def serve_get(association: Any, request: Any, context: Any) -> None:  # noqa: ANN401 - pynetdicom's
    """Answer one C-GET-RQ: sub-operations on the same association."""

    def act(retrieval: _Retrieval) -> int:
        found = retrieval.instances()
        sender = Sender(association.archive, association.principal, association, association)
        return retrieval.send_all(sender, found)

    _Retrieval(association, request, context).run(act)


def serve_move(association: Any, request: Any, context: Any) -> None:  # noqa: ANN401 - pynetdicom's
    """Answer one C-MOVE-RQ: sub-operations on an association with the destination."""

    def act(retrieval: _Retrieval) -> int:
        peer = association.peers.find(str(request.MoveDestination or ""))
        if peer is None:
            return DESTINATION_UNKNOWN
        return retrieval.deliver_all(peer, retrieval.instances())

    _Retrieval(association, request, context).run(act)


def _sent(sender: Sender, stored: StoredInstance, operation: Suboperation) -> int | None:
    try:
        return sender.send(stored, operation)
    except ArchiveError as error:
        log_failed(stored, error)
        return None


def _ref(match: dict[str, dict[str, Any]], search: SearchRequest) -> ResourceRef:
    def uid(tag: str) -> str:
        return str(match[tag]["Value"][0])

    if search.level is Level.STUDY:
        return StudyRef(uid("0020000D"))
    if search.level is Level.SERIES:
        return SeriesRef(uid("0020000D"), uid("0020000E"))
    return InstanceRef(uid("0020000D"), uid("0020000E"), uid("00080018"))
