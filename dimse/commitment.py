"""Storage Commitment Push Model SCP (PS3.4 Annex J): requests taken, outcomes put in words."""

import io
from typing import Any, Final

from pynetdicom.dimse_primitives import (
    N_ACTION,
    N_CREATE,
    N_DELETE,
    N_EVENT_REPORT,
    N_GET,
    N_SET,
)

from archive.commitment.values import Commitment, CommitmentRequest, Reference
from archive.errors import (
    ArchiveError,
    BusyError,
    ForbiddenError,
    InvalidInstanceError,
    TooLargeError,
    UnavailableError,
)
from archive.identity import is_uid
from archive.log import get_logger
from dimse.contexts import STORAGE_COMMITMENT
from dimse.data_sets import DataSetEncoder, Element
from dimse.identifiers import Identifier, read_identifier

logger = get_logger(__name__)

SOP_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
_RETRIEVE_AE_TITLE: Final = "00080054"
_CLASS: Final = "00081150"
_INSTANCE: Final = "00081155"
_TRANSACTION: Final = "00081195"
_REASON: Final = "00081197"
_FAILED: Final = "00081198"
_REFERENCED: Final = "00081199"

REQUEST_COMMITMENT: Final = 1
# Event Type IDs (PS3.4 Table J.3-2).
_SUCCESSFUL: Final = 1
_FAILURES_EXIST: Final = 2

# Statuses of DIMSE-N responses (PS3.7 §10.1.4.1.10, Annex C).
SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
INVALID_ARGUMENT: Final = 0x0115
NO_SUCH_CLASS: Final = 0x0118
CLASS_INSTANCE_CONFLICT: Final = 0x0119
NO_SUCH_ACTION: Final = 0x0123
NOT_AUTHORIZED: Final = 0x0124
UNRECOGNIZED_OPERATION: Final = 0x0211
RESOURCE_LIMITATION: Final = 0x0213
_OF_ERROR: Final[dict[type[ArchiveError], int]] = {
    ForbiddenError: NOT_AUTHORIZED,
    TooLargeError: RESOURCE_LIMITATION,
    BusyError: RESOURCE_LIMITATION,
    UnavailableError: RESOURCE_LIMITATION,
}
_NORMALIZED: Final = (N_ACTION, N_CREATE, N_DELETE, N_EVENT_REPORT, N_GET, N_SET)
_LONGEST_COMMENT: Final = 64


class _RefusalError(Exception):
    """A request that is not taken, with the status that says why."""

    def __init__(self, status: int, comment: str) -> None:
        self.status = status
        super().__init__(comment)


def is_answerable(message: Any) -> bool:  # noqa: ANN401 - a primitive
    """Tell whether a message is a DIMSE-N request, complete or not, that can be answered."""
    return (
        isinstance(message, _NORMALIZED)
        and message.MessageID is not None
        and message.MessageIDBeingRespondedTo is None
    )


def serve(association: Any, request: Any, context: Any) -> None:  # noqa: ANN401 - pynetdicom's
    """Answer one DIMSE-N request; an N-ACTION that is taken is seen to after the answer."""
    taken: Commitment | None = None
    status, comment = SUCCESS, ""
    try:
        asked = _read_request(association, request, context)
        taken = association.archive.commitments.accept(
            association.principal, asked, owner=association.reports.owner
        )
    except _RefusalError as refusal:
        status, comment = refusal.status, str(refusal)
    except ArchiveError as error:
        status, comment = _OF_ERROR.get(type(error), PROCESSING_FAILURE), str(error)
    except Exception:
        logger.exception("commitment.failed-request", extra={"association": association.name})
        status, comment = PROCESSING_FAILURE, "unexpected failure"
    if status != SUCCESS:
        logger.warning(
            "commitment.refused",
            extra={
                "association": association.name,
                "status": f"{status:04X}",
                "reason": comment,
            },
        )
    try:
        association.dimse.send_msg(_response(request, status, comment), context.context_id)
    finally:
        # Also if the answer does not get through: then the courier goes on with it.
        if taken is not None:
            association.reports.take(taken, int(context.context_id))


def build_report(
    commitment: Commitment, *, retrieve_ae_title: str
) -> tuple[int, list[tuple[str, Element]]]:
    """Return Event Type ID and Event Information of a report (PS3.4 Table J.3-2).

    Every instance of the request is in one of the two sequences.
    """
    committed, failed = [], []
    for place, reference in enumerate(commitment.references):
        reason = commitment.failed.get(place)
        item = {
            _CLASS: _uid(reference.sop_class_uid),
            _INSTANCE: _uid(reference.sop_instance_uid),
        }
        if reason is None:
            committed.append(item)
        else:
            failed.append(item | {_REASON: {"vr": "US", "Value": [int(reason)]}})
    report: list[tuple[str, Element]] = [(_TRANSACTION, _uid(commitment.transaction_uid))]
    if committed:
        report.insert(0, (_RETRIEVE_AE_TITLE, {"vr": "AE", "Value": [retrieve_ae_title]}))
    if failed:
        report.append((_FAILED, {"vr": "SQ", "Value": failed}))
    if committed:
        report.append((_REFERENCED, {"vr": "SQ", "Value": committed}))
    return (_FAILURES_EXIST if failed else _SUCCESSFUL), report


def report_request(
    commitment: Commitment,
    *,
    message_id: int,
    retrieve_ae_title: str,
    transfer_syntax_uid: str,
) -> Any:  # noqa: ANN401 - a primitive
    """Return the N-EVENT-REPORT-RQ of a commitment that was checked."""
    event_type, report = build_report(commitment, retrieve_ae_title=retrieve_ae_title)
    request: Any = N_EVENT_REPORT()
    request.MessageID = message_id
    request.AffectedSOPClassUID = STORAGE_COMMITMENT
    request.AffectedSOPInstanceUID = SOP_INSTANCE
    request.EventTypeID = event_type
    request.EventInformation = io.BytesIO(DataSetEncoder(transfer_syntax_uid).encode(report))
    return request


def _uid(uid: str) -> Element:
    return {"vr": "UI", "Value": [uid]}


def _response(request: Any, status: int, comment: str) -> Any:  # noqa: ANN401 - a primitive
    response = type(request)()
    response.MessageIDBeingRespondedTo = request.MessageID
    for kind in ("SOPClassUID", "SOPInstanceUID"):
        uid = getattr(request, f"Requested{kind}", None) or getattr(
            request, f"Affected{kind}", None
        )
        if uid is not None:
            setattr(response, f"Affected{kind}", uid)
    if isinstance(request, N_ACTION) and status == SUCCESS:
        response.ActionTypeID = request.ActionTypeID
    response.Status = status
    if comment:
        response.ErrorComment = comment[:_LONGEST_COMMENT]
    return response


def _read_request(association: Any, request: Any, context: Any) -> CommitmentRequest:  # noqa: ANN401
    if not isinstance(request, N_ACTION):
        raise _RefusalError(UNRECOGNIZED_OPERATION, "only N-ACTION is served here")
    _require_target(request, context)
    if request.ActionTypeID != REQUEST_COMMITMENT:
        raise _RefusalError(
            NO_SUCH_ACTION, f"Action Type ID {request.ActionTypeID}: only 1 is served (J.3.2)"
        )
    information = _decode(request.ActionInformation, context.transfer_syntax[0])
    return CommitmentRequest(
        transaction_uid=_transaction_uid(information),
        ae_title=association.calling_ae_title,
        references=_references(information),
    )


def _require_target(request: Any, context: Any) -> None:  # noqa: ANN401 - pynetdicom's
    is_ours = request.RequestedSOPInstanceUID == SOP_INSTANCE
    if request.RequestedSOPClassUID != STORAGE_COMMITMENT:
        if is_ours:
            raise _RefusalError(
                CLASS_INSTANCE_CONFLICT, "not the class of the instance requested"
            )
        raise _RefusalError(
            NO_SUCH_CLASS, "N-ACTION is served for Storage Commitment Push only"
        )
    if not is_ours:
        raise _RefusalError(NO_SUCH_INSTANCE, f"the only instance here is {SOP_INSTANCE}")
    if context.abstract_syntax != STORAGE_COMMITMENT:
        raise _RefusalError(NO_SUCH_CLASS, "the presentation context is of another SOP class")


def _decode(raw: io.BytesIO | None, transfer_syntax: Any) -> Identifier:  # noqa: ANN401 - pydicom's UID
    if raw is None or not raw.getbuffer().nbytes:
        raise _RefusalError(INVALID_ARGUMENT, "there is no Action Information (Table J.3-1)")
    try:
        return read_identifier(raw, transfer_syntax)
    except InvalidInstanceError as error:
        raise _RefusalError(
            PROCESSING_FAILURE, "the Action Information cannot be decoded"
        ) from error


def _transaction_uid(information: Identifier) -> str:
    uid = _text(information.attributes, _TRANSACTION)
    if not is_uid(uid):
        raise _RefusalError(INVALID_ARGUMENT, f"Transaction UID {uid!r} is missing or no UID")
    return uid


def _references(information: Identifier) -> tuple[Reference, ...]:
    items = information.attributes.get(_REFERENCED, {}).get("Value") or []
    if not items:
        raise _RefusalError(INVALID_ARGUMENT, "Referenced SOP Sequence is missing or empty")
    references = tuple(Reference(_text(item, _CLASS), _text(item, _INSTANCE)) for item in items)
    for number, one in enumerate(references, 1):
        if not one.sop_class_uid or not one.sop_instance_uid:
            raise _RefusalError(
                INVALID_ARGUMENT, f"item {number} of Referenced SOP Sequence: no UID"
            )
    return references


def _text(attributes: Any, tag: str) -> str:  # noqa: ANN401 - JSON
    """Return the one UID of an attribute; "" when there is none, or several."""
    if not isinstance(attributes, dict):
        return ""
    values = attributes.get(tag, {}).get("Value") or []
    # As received: what is no UID was never stored, and the report says so.
    return values[0] if len(values) == 1 and isinstance(values[0], str) else ""
