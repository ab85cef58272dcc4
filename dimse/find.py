"""C-FIND SCP (PS3.4 §C.4.1): an identifier becomes a search, each match a response."""

from typing import Any

from pynetdicom.dimse_primitives import C_FIND

from archive.errors import ArchiveError
from archive.log import get_logger
from dimse import identifiers
from dimse.status import CANCEL, PENDING, SUCCESS, UNEXPECTED, statuses

logger = get_logger(__name__)


def serve(association: Any, request: Any, context: Any) -> None:  # noqa: ANN401 - pynetdicom's
    """Answer one C-FIND-RQ: a pending response for each match, then the final one."""
    status, comment = SUCCESS, ""
    try:
        status = _send_matches(association, request, context)
    except ArchiveError as error:
        status, comment = statuses(error).query, str(error)
    except OSError:
        raise
    except Exception:
        logger.exception("find.failed", extra={"association": association.name})
        status, comment = UNEXPECTED, "unexpected failure"
    response = _response(request, status)
    if comment:
        response.ErrorComment = comment[:64]  # type: ignore[assignment] # declared None
    association.dimse.send_msg(response, context.context_id)


def _send_matches(association: Any, request: Any, context: Any) -> int:  # noqa: ANN401
    syntax = context.transfer_syntax[0]
    identifier = identifiers.read_identifier(request.Identifier, syntax)
    search = identifiers.search_request(identifier, str(request.AffectedSOPClassUID))
    count = 0
    for match in association.archive.query.search(association.principal, search):
        if not association.is_established:
            break
        if count % 16 == 0 and request.MessageID in association.cancelled():
            return CANCEL
        response = _response(request, PENDING)
        response.Identifier = identifiers.encode_match(
            match,
            search,
            ae_title=str(association.acceptor.ae_title).strip(),
            transfer_syntax=syntax,
        )
        association.dimse.send_msg(response, context.context_id)
        count += 1
    logger.info(
        "find.served",
        extra={"association": association.name, "level": search.level.value, "matches": count},
    )
    return SUCCESS


def _response(request: Any, status: int) -> C_FIND:  # noqa: ANN401 - pynetdicom's
    response = C_FIND()
    response.MessageIDBeingRespondedTo = request.MessageID
    response.AffectedSOPClassUID = request.AffectedSOPClassUID
    response.Status = status
    return response
