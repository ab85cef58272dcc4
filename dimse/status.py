"""What the archive says of an error, as DIMSE status codes: one table (PS3.7 Annex C)."""

from dataclasses import dataclass
from typing import Final

from archive.errors import (
    ArchiveError,
    BusyError,
    ConflictingInstanceError,
    ForbiddenError,
    IdentifierError,
    InvalidInstanceError,
    InvalidRequestError,
    NotAcceptableError,
    NotFoundError,
    PeerError,
    SOPClassNotSupportedError,
    StorageFullError,
    StudyMismatchError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from archive.ingest.outcome import Outcome, Remark

SUCCESS: Final = 0x0000
CANCEL: Final = 0xFE00
PENDING: Final = 0xFF00
# Some optional key is not supported for existence or matching (PS3.4 Table C.4-1).
PENDING_NOT_ALL_KEYS: Final = 0xFF01
# As the Repository Query has it (PS3.4 §C.6.4): a limit was reached, there are more matches.
MATCHES_CUT: Final = 0xB001
WARNING_SUBOPERATIONS: Final = 0xB000
UNABLE_SUBOPERATIONS: Final = 0xA702
DESTINATION_UNKNOWN: Final = 0xA801
IDENTIFIER_MISMATCH: Final = 0xA900
UNEXPECTED: Final = 0xC0FF


@dataclass(frozen=True, slots=True)
class Statuses:
    """The codes of one error: of C-STORE (PS3.4 §B.2.3) and of queries (§C.4)."""

    store: int
    query: int


STATUSES: Final[dict[type[ArchiveError], Statuses]] = {
    InvalidRequestError: Statuses(0xC000, 0xA900),
    InvalidInstanceError: Statuses(0xC000, 0xC000),
    IdentifierError: Statuses(0xA900, 0xC000),
    SOPClassNotSupportedError: Statuses(0x0122, 0x0122),
    StudyMismatchError: Statuses(0xA900, 0xC000),
    ConflictingInstanceError: Statuses(0xC001, 0xC000),
    NotFoundError: Statuses(0xC000, 0x0000),
    UnauthenticatedError: Statuses(0x0124, 0x0124),
    ForbiddenError: Statuses(0x0124, 0x0124),
    NotAcceptableError: Statuses(0xC000, 0xC000),
    UnsupportedMediaTypeError: Statuses(0xC000, 0xC000),
    TooLargeError: Statuses(0xA700, 0xC000),
    BusyError: Statuses(0xA700, 0xA700),
    StorageFullError: Statuses(0xA700, 0xA700),
    UnavailableError: Statuses(0xA700, 0xA700),
    PeerError: Statuses(0xA700, 0xA702),
}

# Accepted, but worth a look. PS3.4 Table B.2-1 has three warnings, and senders know no others:
# dcm4che's takes any other code for a failure and sends again. The comment tells what it is.
# Attributes in doubt are no warning to a modality, which would alarm its user: the data set was
# kept as it was sent.
WARNINGS: Final[dict[Remark, int]] = {
    Remark.NONE: SUCCESS,
    Remark.SOP_CLASS_MISMATCH: 0xB007,
    Remark.SOP_INSTANCE_MISMATCH: 0xB007,
    Remark.UID_ELSEWHERE: 0xB007,
    Remark.PREAMBLE: 0xB007,
    Remark.COERCED: 0xB000,
    Remark.DISCARDED: 0xB006,
    Remark.ATTRIBUTES: SUCCESS,
}
_IN_DOUBT: Final[dict[Remark, tuple[int, ...]]] = {
    Remark.SOP_CLASS_MISMATCH: (0x00080016,),
    Remark.SOP_INSTANCE_MISMATCH: (0x00080018,),
    Remark.UID_ELSEWHERE: (0x00080018,),
}


def statuses(error: Exception) -> Statuses:
    """Return the codes of ``error``; an error that is none of ours has codes of its own."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return Statuses(UNEXPECTED, UNEXPECTED)


def offending_elements(told: Exception | Outcome) -> tuple[int, ...]:
    """Return the tags that a refusal or a warning is about, for the Offending Element."""
    if isinstance(told, InvalidInstanceError):
        return (int(told.tag, 16),) if told.tag else ()
    if isinstance(told, Outcome):
        changed = told.attributes if told.warning in (Remark.COERCED, Remark.DISCARDED) else ()
        return _IN_DOUBT.get(told.warning, ()) + tuple(
            int(attribute.tag, 16) for attribute in changed if attribute.tag
        )
    return ()
