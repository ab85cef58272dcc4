"""How far a C-GET or C-MOVE has come, and the responses that say so (PS3.4 §C.4.2.1, §C.4.3.1).

======================  =======  ========  ====================  ==============
in a response           pending  canceled  warning, A7xx, A9xx   success
======================  =======  ========  ====================  ==============
remaining               shall    may: yes  shall not             shall not
completed, failed,      shall    may: yes  may: yes              may: yes
warning
Failed SOP Instance     no       if any    if any                none failed
UID List
======================  =======  ========  ====================  ==============
"""

import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from pynetdicom.dimse_primitives import C_GET

from archive.log import get_logger
from archive.retrieve.listing import ListedInstance, Listing
from dimse import identifiers, messages
from dimse.requests import GetRequest
from dimse.status import (
    CANCEL,
    PENDING,
    SUCCESS,
    UNABLE_SUBOPERATIONS,
    WARNING_SUBOPERATIONS,
)

logger = get_logger(__name__)

_C_GET_RSP: Final = 0x8010
_C_MOVE_RSP: Final = 0x8021
_REMAINING: Final = 0x1020
_COMPLETED: Final = 0x1021
_FAILED: Final = 0x1022
_WARNING: Final = 0x1023
_WITH_DATA_SET: Final = 0x0001
_MOST: Final = 65535  # what a count can say (VR US)
# Four counts, the last elements of a pending response.
_COUNTS: Final = struct.Struct("<" + 4 * "HHIH")
_WARNINGS: Final = (0x0001, 0x0107, 0x0116)  # PS3.7 Annex C.4, beside all that begin with B


class Progress:
    """The outcomes of sub-operations (PS3.7 §9.1.3.1)."""

    def __init__(self) -> None:
        self._entries: Listing | tuple[()] = ()
        self._done: set[int] = set()
        self.completed = 0
        self.failed_uids: list[str] = []
        self.warned = 0
        self.reason = ""

    def begin(self, listing: Listing) -> None:
        """Know how many sub-operations there will be."""
        self._entries = listing

    @property
    def remaining(self) -> int:
        """How many have not been tried."""
        return len(self._entries) - len(self._done)

    def count(self, entry: ListedInstance, status: int | None, reason: str) -> None:
        """Take the outcome of one; None when it was not sent."""
        self._done.add(entry.instance_id)
        if status == SUCCESS:
            self.completed += 1
        elif status is not None and (status >> 12 == 0xB or status in _WARNINGS):
            self.warned += 1
        else:
            self.failed_uids.append(entry.sop_instance_uid)
            self.reason = self.reason or reason
            logger.warning(
                "suboperation.failed",
                extra={"sop_instance_uid": entry.sop_instance_uid, "reason": reason},
            )

    def fail_rest(self, reason: str) -> None:
        """Count all that have not been tried as failed."""
        self.reason = self.reason or reason
        if isinstance(self._entries, Listing):
            left = [one for one in self._entries.entries if one.instance_id not in self._done]
            self._done.update(one.instance_id for one in left)
            self.failed_uids.extend(one.sop_instance_uid for one in left)

    @property
    def final_status(self) -> int:
        """What the last response says when nothing else ended it (PS3.4 Table C.4-2, C.4-3)."""
        if not self.failed_uids and not self.warned:
            return SUCCESS
        done = self.completed + self.warned
        return WARNING_SUBOPERATIONS if done else UNABLE_SUBOPERATIONS


@dataclass(frozen=True, slots=True)
class Remarks:
    """What else a final response says (PS3.7 §C.4.3).

    Parameters
    ----------
    comment, offending
        Error Comment, and the tag of the Offending Element.
    """

    comment: str = ""
    offending: tuple[int, ...] = ()


def response(
    request: Any,  # noqa: ANN401 - pynetdicom's
    status: int,
    progress: Progress,
    remarks: Remarks,
) -> bytes:
    """Return the command set of a C-GET-RSP or C-MOVE-RSP (PS3.7 §9.3.3.2, §9.3.4.2)."""
    answered = _C_GET_RSP if isinstance(request, C_GET | GetRequest) else _C_MOVE_RSP
    if status == PENDING and not remarks.comment and not remarks.offending:
        head = _pending_head(answered, str(request.AffectedSOPClassUID), request.MessageID)
        return head + _counts(progress)
    follows = _WITH_DATA_SET if names_failed(status, progress) else messages.NO_DATA_SET
    elements: list[tuple[int, messages.Value]] = [
        (messages.AFFECTED_SOP_CLASS_UID, str(request.AffectedSOPClassUID)),
        (messages.COMMAND_FIELD, answered),
        (messages.MESSAGE_ID_RESPONDED_TO, int(request.MessageID)),
        (messages.DATA_SET_TYPE, follows),
        (messages.STATUS, status),
    ]
    if remarks.offending:
        elements.append((messages.OFFENDING_ELEMENT, remarks.offending))
    if remarks.comment:
        elements.append((messages.ERROR_COMMENT, messages.error_comment(remarks.comment)))
    if status in (PENDING, CANCEL):
        elements.append((_REMAINING, min(progress.remaining, _MOST)))
    counts = (progress.completed, len(progress.failed_uids), progress.warned)
    elements.extend(
        (element, min(count, _MOST))
        for element, count in zip((_COMPLETED, _FAILED, _WARNING), counts, strict=True)
    )
    return messages.encode_command(elements)


def _counts(progress: Progress) -> bytes:
    said = (
        (_REMAINING, progress.remaining),
        (_COMPLETED, progress.completed),
        (_FAILED, len(progress.failed_uids)),
        (_WARNING, progress.warned),
    )
    return _COUNTS.pack(*chain(*[(0, tag, 2, min(count, _MOST)) for tag, count in said]))


@lru_cache(maxsize=64)
def _pending_head(answered: int, sop_class_uid: str, message_id: int) -> bytes:
    """Return a pending response up to its counts: the same for every instance."""
    elements: list[tuple[int, messages.Value]] = [
        (messages.AFFECTED_SOP_CLASS_UID, sop_class_uid),
        (messages.COMMAND_FIELD, answered),
        (messages.MESSAGE_ID_RESPONDED_TO, message_id),
        (messages.DATA_SET_TYPE, messages.NO_DATA_SET),
        (messages.STATUS, PENDING),
        *((tag, 0) for tag in (_REMAINING, _COMPLETED, _FAILED, _WARNING)),
    ]
    return messages.encode_command(elements)[: -_COUNTS.size]


def names_failed(status: int, progress: Progress) -> bool:
    """Tell whether a response has an identifier, which lists what failed."""
    return status != PENDING and bool(progress.failed_uids)


def identifier(progress: Progress, transfer_syntax: Any) -> bytes:  # noqa: ANN401 - pydicom's UID
    """Return the identifier of a final response (PS3.4 §C.4.2.1.4.2)."""
    encoded: io.BytesIO = identifiers.encode_failed(progress.failed_uids, transfer_syntax)
    return encoded.getvalue()
