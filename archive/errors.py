"""Everything the archive refuses, and why.

::

    ArchiveError
    ├── InvalidRequestError          the question itself is wrong: a bad date, limit, UID
    ├── InvalidInstanceError         not DICOM, truncated, identifiers missing or malformed
    │   ├── IdentifierError          a UID by which it would be filed is missing or malformed
    │   ├── SOPClassNotSupportedError  of a class that is not stored here
    │   └── StudyMismatchError       stored to the URL of another study
    ├── ConflictingInstanceError     same UIDs, other content: kept aside as a held version
    ├── NotFoundError                does not exist, or may not be seen: both answer alike
    ├── UnauthenticatedError         nobody we know
    ├── ForbiddenError               known, but not allowed
    ├── NotAcceptableError           stored, but not in a form the asker takes
    ├── UnsupportedMediaTypeError    sent in a form the archive does not take
    ├── TooLargeError                more than the archive takes of one thing
    ├── BusyError                    too much at once: try again
    ├── StorageFullError             the disk is nearly full: reads go on, writes are refused
    ├── UnavailableError             a store or the index does not answer
    └── PeerError                    another application entity cannot be spoken to

The domain carries no status number: each face has one table that maps these classes
(``dimse/status.py``, ``dicomweb/errors.py``), and a test fails when a class is missing there.
"""

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from storage.errors import (
    IndexBusyError,
    IndexUnavailableError,
    NoSpaceError,
    ObjectMissingError,
    ObjectUnreadableError,
    StorageError,
)


class ArchiveError(Exception):
    """The base of every refusal; its text says what was wrong, where, and what to do.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid
        The instance concerned, where one is; empty otherwise.
    """

    sop_class_uid: str = ""
    sop_instance_uid: str = ""


class InvalidRequestError(ArchiveError):
    """The request cannot be understood; nothing was done.

    Attributes
    ----------
    tag
        The element of the request concerned, as eight upper-case hexadecimal digits; empty
        when no single one is to blame.
    """

    def __init__(self, message: str, *, tag: str = "") -> None:
        self.tag = tag
        super().__init__(message)


class InvalidInstanceError(ArchiveError):
    """The instance cannot be kept; nothing of it was stored.

    Parameters
    ----------
    message
        What was wrong and what was expected.
    offset
        Byte position, 0-based from the start of the object, where it was seen.
    tag
        The element concerned, as eight upper-case hexadecimal digits.
    """

    def __init__(
        self, message: str, *, offset: int | None = None, tag: str | None = None
    ) -> None:
        self.offset = offset
        self.tag = tag
        where = [f"at byte {offset}"] if offset is not None else []
        if tag is not None:
            where.insert(0, f"in ({tag[:4]},{tag[4:]})")
        super().__init__(f"{message} ({' '.join(where)})" if where else message)


class IdentifierError(InvalidInstanceError):
    """A UID without which the instance cannot be filed is missing or malformed."""


class SOPClassNotSupportedError(InvalidInstanceError):
    """The instance is of a class that is not for storage."""


class StudyMismatchError(InvalidInstanceError):
    """The instance belongs to another study than the URL names (PS3.18 §10.5.1)."""


class ConflictingInstanceError(ArchiveError):
    """An instance with these UIDs and other content is stored; this one is held aside."""


class NotFoundError(ArchiveError):
    """No such resource, or none that this principal may see."""


class UnauthenticatedError(ArchiveError):
    """Credentials are missing or wrong."""


class ForbiddenError(ArchiveError):
    """The principal may not do this."""


class NotAcceptableError(ArchiveError):
    """None of the offered representations is acceptable to the asker.

    Parameters
    ----------
    message
        What was asked for that cannot be given.
    offered
        Media types that can, where the face that refuses knows them.
    """

    def __init__(self, message: str, *, offered: Sequence[str] = ()) -> None:
        self.offered = tuple(offered)
        super().__init__(message)


class UnsupportedMediaTypeError(ArchiveError):
    """The body is in a media type that the archive does not take."""


class TooLargeError(ArchiveError):
    """What was sent is larger than the archive takes."""


class BusyError(ArchiveError):
    """The archive is at its limit; the same request may succeed later."""


class StorageFullError(ArchiveError):
    """The store is nearly full: nothing more is accepted until space is freed."""


class UnavailableError(ArchiveError):
    """A part the archive depends on does not answer."""


class PeerError(ArchiveError):
    """Another application entity cannot be spoken to; the text is the diagnosis.

    Parameters
    ----------
    message
        Who, what failed, and where to look.
    unaccepted
        It is there, but takes none of the presentation contexts that were proposed.
    transient
        It says itself that it may be otherwise soon (PS3.8 Table 9-21).
    """

    def __init__(
        self, message: str, *, unaccepted: bool = False, transient: bool = False
    ) -> None:
        self.unaccepted = unaccepted
        self.transient = transient
        super().__init__(message)


class _Translated(contextlib.AbstractContextManager[None]):
    """Holds nothing, so that one serves all: every frame that is sent passes through it."""

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if isinstance(error, StorageError):
            raise _told(error) from error


_TRANSLATED: Final = _Translated()


def storage_translated() -> contextlib.AbstractContextManager[None]:
    """Turn every storage failure inside the block into what the archive says of it."""
    return _TRANSLATED


def _told(error: StorageError) -> ArchiveError:
    match error:
        case NoSpaceError():
            return StorageFullError(
                f"the archive is full and accepts nothing until space is freed: {error}"
            )
        case IndexBusyError():
            return BusyError(f"the archive is busy, try again: {error}")
        case IndexUnavailableError() | ObjectMissingError() | ObjectUnreadableError():
            return UnavailableError(f"a store does not answer as it should: {error}")
        case _:
            return UnavailableError(str(error))
