"""What the archive says of an error, as HTTP status and STOW failure reason: one table."""

from dataclasses import dataclass
from http import HTTPStatus
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
from archive.ingest.outcome import Remark

UNEXPECTED_REASON: Final = 0x0110


@dataclass(frozen=True, slots=True)
class Mapped:
    """How one error is told.

    Parameters
    ----------
    status
        HTTP status.
    failure_reason
        (0008,1197) in a Store Instances Response (PS3.18 Table I.2-2).
    """

    status: HTTPStatus
    failure_reason: int


ERRORS: Final[dict[type[ArchiveError], Mapped]] = {
    InvalidRequestError: Mapped(HTTPStatus.BAD_REQUEST, 0xC000),
    InvalidInstanceError: Mapped(HTTPStatus.CONFLICT, 0xC000),
    IdentifierError: Mapped(HTTPStatus.CONFLICT, 0xC000),
    SOPClassNotSupportedError: Mapped(HTTPStatus.CONFLICT, 0x0122),
    # Other archives too say A901 of an instance of another study.
    StudyMismatchError: Mapped(HTTPStatus.CONFLICT, 0xA901),
    ConflictingInstanceError: Mapped(HTTPStatus.CONFLICT, 0xC001),
    NotFoundError: Mapped(HTTPStatus.NOT_FOUND, 0xC000),
    UnauthenticatedError: Mapped(HTTPStatus.UNAUTHORIZED, 0x0124),
    ForbiddenError: Mapped(HTTPStatus.FORBIDDEN, 0x0124),
    NotAcceptableError: Mapped(HTTPStatus.NOT_ACCEPTABLE, 0xC000),
    UnsupportedMediaTypeError: Mapped(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, 0xC000),
    TooLargeError: Mapped(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, 0xA700),
    BusyError: Mapped(HTTPStatus.SERVICE_UNAVAILABLE, 0xA700),
    StorageFullError: Mapped(HTTPStatus.SERVICE_UNAVAILABLE, 0xA700),
    UnavailableError: Mapped(HTTPStatus.SERVICE_UNAVAILABLE, 0xA700),
    PeerError: Mapped(HTTPStatus.BAD_GATEWAY, 0xA700),
}

# (0008,1196) of an instance that was stored, but should be looked at: B000, B006 and B007 are
# of Table I.2-1, the others ours.
WARNING_REASONS: Final[dict[Remark, int]] = {
    Remark.SOP_CLASS_MISMATCH: 0xB007,
    Remark.SOP_INSTANCE_MISMATCH: 0xB007,
    Remark.UID_ELSEWHERE: 0xB001,
    Remark.PREAMBLE: 0xB002,
    Remark.COERCED: 0xB000,
    Remark.DISCARDED: 0xB006,
    Remark.ATTRIBUTES: 0xB007,
}


def mapped(error: Exception) -> Mapped:
    """Return how ``error`` is told; what is none of ours is our own fault."""
    for kind in type(error).__mro__:
        if kind in ERRORS:
            return ERRORS[kind]
    return Mapped(HTTPStatus.INTERNAL_SERVER_ERROR, UNEXPECTED_REASON)
