"""What identifies a study, a series and an instance (PS3.5 §9, PS3.3 §A.1)."""

import re
from dataclasses import dataclass

from archive.errors import InvalidRequestError

# Components without leading zeros are what §9.1 demands. Real devices write leading zeros
# (PACS keep them), so they are tolerated: what matters here is that a UID can never be
# anything but digits and dots, and so can never leave the folder it names.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
MAX_UID_LENGTH = 64


def is_uid(value: str) -> bool:
    """Tell whether ``value`` is a UID: dotted digits, at most 64 characters (PS3.5 §9.1)."""
    return len(value) <= MAX_UID_LENGTH and _UID.fullmatch(value) is not None


def require_uid(value: str, name: str) -> str:
    """Return ``value`` when it is a UID.

    Raises
    ------
    InvalidRequestError
        If it is not; the text names ``name`` and the rule.
    """
    if not is_uid(value):
        shown = value if len(value) <= 80 else f"{value[:77]}..."
        raise InvalidRequestError(
            f"{name} {shown!r} is not a UID: expected digits and dots, "
            f"at most {MAX_UID_LENGTH} characters (PS3.5 §9.1)"
        )
    return value


@dataclass(frozen=True, slots=True)
class StudyRef:
    """A study by its UID."""

    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class SeriesRef:
    """A series by its own UID and its study's."""

    study_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """An instance by the three UIDs that are its key in this archive."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


# A study, a series of it, or one instance: what retrieve and lifecycle act upon.
ResourceRef = StudyRef | SeriesRef | InstanceRef
