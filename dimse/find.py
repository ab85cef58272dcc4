"""C-FIND SCP (PS3.4 §C.4.1): an identifier becomes a search, each match a response."""

from dataclasses import dataclass, replace
from typing import Any, Final

from archive.errors import ArchiveError, BusyError, InvalidInstanceError, InvalidRequestError
from archive.log import get_logger
from archive.query.ahead import SearchAhead
from archive.query.request import SearchRequest
from dimse import identifiers
from dimse.answers import Answers, is_fully_supported
from dimse.negotiation import NOTHING_AGREED
from dimse.responses import FindResponses
from dimse.status import (
    CANCEL,
    MATCHES_CUT,
    PENDING,
    PENDING_NOT_ALL_KEYS,
    SUCCESS,
    UNEXPECTED,
    statuses,
)

logger = get_logger(__name__)

# How often the peer is listened to while nothing is found.
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The final response: status, Error Comment, Offending Element."""

    status: int
    comment: str = ""
    offending: tuple[int, ...] = ()


def serve(association: Any, request: Any, context: Any) -> None:  # noqa: ANN401 - pynetdicom's
    """Answer one C-FIND-RQ: a pending response for each match, then the final one."""
    finding = _Finding(association, request, context)
    try:
        outcome = finding.answer()
    except ArchiveError as error:
        outcome = _refused(error)
    except OSError:
        raise
    except Exception:
        logger.exception("find.failed", extra={"association": association.name})
        outcome = _Outcome(UNEXPECTED, "unexpected failure")
    finding.finish(outcome)


def _refused(error: ArchiveError) -> _Outcome:
    """Return the status of an error and, where it is an element's fault, which one's."""
    tag = error.tag if isinstance(error, InvalidRequestError | InvalidInstanceError) else ""
    offending = (int(tag, 16),) if tag else ()
    return _Outcome(statuses(error).query, str(error), offending)


class _Finding:
    """One C-FIND being served."""

    def __init__(self, association: Any, request: Any, context: Any) -> None:  # noqa: ANN401
        self._association = association
        self._request = request
        self._sop_class_uid = str(request.AffectedSOPClassUID)
        self._syntax = str(context.transfer_syntax[0])
        self._most = association.archive.config.dimse.max_matches
        self._sent = 0
        self._responses = FindResponses(
            context_id=context.context_id,
            sop_class_uid=self._sop_class_uid,
            message_id=int(request.MessageID),
            maximum_pdu=association.maximum_pdu,
        )

    def answer(self) -> _Outcome:
        """Send a response for each match; return what the final one says.

        Raises
        ------
        ArchiveError
            If the request cannot be answered.
        OSError
            If the peer is gone.
        """
        identifier = identifiers.read_identifier(self._request.Identifier, self._syntax)
        options = self._association.query_options.get(self._sop_class_uid, NOTHING_AGREED)
        search = identifiers.search_request(identifier, self._sop_class_uid, options)
        query = self._association.archive.query
        ahead = query.search_ahead(self._association.principal, self._limited(search))
        supported = is_fully_supported(identifier, search, ahead.ignored)
        answers = Answers(
            identifier,
            search,
            ae_title=str(self._association.acceptor.ae_title).strip(),
            transfer_syntax_uid=self._syntax,
        )
        status = PENDING if supported else PENDING_NOT_ALL_KEYS
        with ahead as found:
            try:
                return self._send(found, answers, status)
            except BusyError as error:
                if not self._sent:
                    raise
                return _Outcome(MATCHES_CUT, f"not all matches: {error}")

    def _limited(self, search: SearchRequest) -> SearchRequest:
        # One more than is sent tells whether there are more.
        return replace(search, limit=self._most + 1) if self._most else search

    def _send(self, found: SearchAhead, answers: Answers, status: int) -> _Outcome:
        while True:
            matches = found.take(_POLL_S)
            if self._is_cancelled():
                return _Outcome(CANCEL)
            if matches is None:
                continue
            if not matches:
                return _Outcome(SUCCESS)
            room = self._most - self._sent if self._most else len(matches)
            pending = [answers.encode(match) for match in matches[:room]]
            self._association.send_pdus(self._responses.pending(status, pending))
            self._sent += len(pending)
            if room < len(matches):
                return _Outcome(MATCHES_CUT, f"only the first {self._most} matches: narrow it")

    def _is_cancelled(self) -> bool:
        cancelled = self._request.MessageID in self._association.cancelled()
        if not self._association.is_established or self._association.acse.is_aborted():
            raise ConnectionResetError("the peer has gone")
        return cancelled

    def finish(self, outcome: _Outcome) -> None:
        """Send the final response."""
        logger.info(
            "find.served",
            extra={
                "association": self._association.name,
                "matches": self._sent,
                "status": f"{outcome.status:04X}",
            },
        )
        self._association.send_pdus(
            self._responses.final(outcome.status, outcome.comment, outcome.offending)
        )
