"""C-GET and C-MOVE SCP (PS3.4 §C.4.2, §C.4.3): the same sub-operations, here or there."""

import time
from collections.abc import Callable
from typing import Any, Final

from archive.config import Peer
from archive.errors import ArchiveError, InvalidInstanceError, InvalidRequestError, PeerError
from archive.identity import InstanceRef, ResourceRef, SeriesRef, StudyRef
from archive.log import get_logger
from archive.query.request import Level, SearchRequest
from archive.retrieve.listing import ListedInstance, Listing
from dimse import identifiers, messages, progress
from dimse.awaiting import PeerLeavesError
from dimse.outgoing import deliver
from dimse.progress import Progress, Remarks
from dimse.send import Purpose, Sender, outcome_of
from dimse.status import CANCEL, DESTINATION_UNKNOWN, PENDING, UNEXPECTED, statuses

logger = get_logger(__name__)
_OUT_OF_RESOURCES: Final = 0xA700
_UNABLE_TO_COUNT: Final = 0xA701
_NONE: Final = Remarks()
# Nobody can read how far it is more often; each costs both sides as much as an instance header.
_BETWEEN_S: Final = 0.1


class _Retrieval:
    """One C-GET or C-MOVE being served."""

    def __init__(self, association: Any, request: Any, context: Any) -> None:  # noqa: ANN401 - pynetdicom's
        self.association = association
        self.request = request
        self.context = context
        self.progress = Progress()
        self._is_peer_gone = False
        self._silent_until = 0.0
        self._sender: Sender | None = None

    def run(self, act: Callable[["_Retrieval"], int]) -> None:
        """Do ``act``, and answer with the status it returns, or that of its error."""
        try:
            status = act(self)
            remarks = Remarks(self.progress.reason)
        except ArchiveError as error:
            status, remarks = _refused(error)
        except OSError:
            raise
        except Exception:
            logger.exception("retrieve.failed", extra={"association": self.association.name})
            status, remarks = UNEXPECTED, Remarks("unexpected failure")
        logger.info(
            "retrieve.served",
            extra={
                "association": self.association.name,
                "completed": self.progress.completed,
                "failed": len(self.progress.failed_uids),
                "warned": self.progress.warned,
                "status": f"{status:04X}",
            },
        )
        self._respond(status, remarks)

    def listing(self) -> Listing:
        """Return what the identifier names, in the order it is sent."""
        archive, principal = self.association.archive, self.association.principal
        syntax = self.context.transfer_syntax[0]
        identifier = identifiers.read_identifier(self.request.Identifier, syntax)
        search = identifiers.unique_keys(identifier, str(self.request.AffectedSOPClassUID))
        refs = [_ref(match, search) for match in archive.query.search(principal, search)]
        listing: Listing = archive.retrieve.listing(principal, refs)
        self.progress.begin(listing)
        return listing

    def send_here(self, listing: Listing) -> int:
        """Send all on the association that asked; return the final status."""
        sender = self._sender = Sender(
            self.association.archive,
            self.association.principal,
            self.association,
            self.association,
        )
        purpose = Purpose(self._priority())
        try:
            for entry, stored in listing.read(listing.kinds()):
                if self.is_cancelled():
                    return CANCEL
                self.report(entry, *outcome_of(sender, stored, purpose))
        except PeerLeavesError as error:
            self.progress.fail_rest(str(error))
        return self.progress.final_status

    def send_to(self, peer: Peer, listing: Listing) -> int:
        """Send all to a peer; return the final status."""
        try:
            deliver(
                self.association.archive,
                self.association.principal,
                peer,
                listing,
                originator=(self.association.calling_ae_title, int(self.request.MessageID)),
                priority=self._priority(),
                on_each=self.report,
                cancelled=self.is_cancelled,
                links=self.association.links,
            )
        except PeerError as error:
            logger.warning(
                "move.failed", extra={"destination": peer.ae_title, "reason": str(error)}
            )
            self.progress.fail_rest(str(error))
        if self._is_peer_gone:
            raise ConnectionAbortedError("the peer left before its C-MOVE was done")
        return CANCEL if self.progress.remaining else self.progress.final_status

    def report(self, entry: ListedInstance, status: int | None, reason: str) -> None:
        """Count one outcome, and say so while others remain, unless that was said just now.

        Pending responses are optional (PS3.4 §C.4.2.3.1, §C.4.3.3.1); the final one is not.
        """
        self.progress.count(entry, status, reason)
        if not self.progress.remaining or self._is_peer_gone:
            return
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + _BETWEEN_S
            try:
                self._respond(PENDING)
            except OSError:
                self._is_peer_gone = True

    def is_cancelled(self) -> bool:
        """Tell whether the peer has asked to cancel (PS3.7 §9.3.2.3), or is gone."""
        if self.request.MessageID in self.association.cancelled():
            return True
        layer = self.association.dul
        self._is_peer_gone |= self.association.acse.is_aborted() or not layer.is_alive()
        return self._is_peer_gone

    def _priority(self) -> int:
        return int(self.request.Priority or 0)

    def _respond(self, status: int, remarks: Remarks = _NONE) -> None:
        context_id = self.context.context_id
        maximum = self.association.maximum_pdu
        command = progress.response(self.request, status, self.progress, remarks)
        pdus = messages.command_pdus(context_id, command, maximum_pdu=maximum)
        if progress.names_failed(status, self.progress):
            listed = progress.identifier(self.progress, self.context.transfer_syntax[0])
            pdus += messages.framed(context_id, listed, maximum_pdu=maximum)
        if self._sender is None:
            self.association.send_pdus(pdus)
            return
        # On the same association progress goes out with the next instance: one write, not two.
        self._sender.hold(pdus)
        if status != PENDING:
            self._sender.flush()


def _refused(error: ArchiveError) -> tuple[int, Remarks]:
    status = statuses(error).query
    if status == _OUT_OF_RESOURCES:
        status = _UNABLE_TO_COUNT  # the name this has here (PS3.4 Table C.4-2)
    tag = error.tag if isinstance(error, InvalidRequestError | InvalidInstanceError) else ""
    return status, Remarks(str(error), (int(tag, 16),) if tag else ())


def serve_get(association: Any, request: Any, context: Any) -> None:  # noqa: ANN401 - pynetdicom's
    """Answer one C-GET-RQ: sub-operations on the same association."""
    _Retrieval(association, request, context).run(lambda one: one.send_here(one.listing()))


def serve_move(association: Any, request: Any, context: Any) -> None:  # noqa: ANN401 - pynetdicom's
    """Answer one C-MOVE-RQ: sub-operations on an association with the destination."""

    def act(retrieval: _Retrieval) -> int:
        title = str(request.MoveDestination or "").strip()
        peer = association.peers.find(title)
        if peer is None or peer.address is None:
            unknown = "is no peer" if peer is None else "only calls: it has no host and port"
            retrieval.progress.reason = f"{title} {unknown}"
            return DESTINATION_UNKNOWN
        return retrieval.send_to(peer, retrieval.listing())

    _Retrieval(association, request, context).run(act)


def _ref(match: dict[str, dict[str, Any]], search: SearchRequest) -> ResourceRef:
    def uid(tag: str) -> str:
        return str(match[tag]["Value"][0])

    if search.level is Level.STUDY:
        return StudyRef(uid("0020000D"))
    if search.level is Level.SERIES:
        return SeriesRef(uid("0020000D"), uid("0020000E"))
    return InstanceRef(uid("0020000D"), uid("0020000E"), uid("00080018"))
