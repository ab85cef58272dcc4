"""What a peer's answer to a C-STORE means for the one who sent it (PS3.4 §B.2.3, PS3.7 §C)."""

from enum import StrEnum
from typing import Final

from pynetdicom.status import STATUS_FAILURE, STATUS_WARNING, STORAGE_SERVICE_CLASS_STATUS

_SUCCESS: Final = 0x0000
# Optional attributes not supported (PS3.7 §C.4): a warning that pynetdicom's table lacks.
_WARNING: Final = 0x0001
# It has this SOP Instance already (PS3.7 §C.5.6): what was wanted.
_DUPLICATE: Final = 0x0111
# Failures that say nothing of the instance: processing failure and resource limitation
# (PS3.7 §C.5.15, §C.5.19), a message ID in use (§C.5.5). Out of resources is A7xx.
_PASSING: Final = frozenset({0x0110, 0x0210, 0x0213})
# An answer that no table of the standard has says nothing either.
_LASTING_RANGES: Final = (
    (0xA900, 0xA9FF),
    (0xC000, 0xCFFF),
    (0x0100, 0x01FF),
    (0x0211, 0x0212),
)


class Answer(StrEnum):
    """What became of an instance."""

    SENT = "sent"
    REFUSED = "refused"
    FAILED = "failed"


def answer(status: int) -> Answer:
    """Return what a status means: sent, refused for good, or failed for now.

    Warnings count as sent: the peer has it (PS3.4 §B.2.3: coerced, elements discarded, data set
    of another SOP class).
    """
    category, _ = STORAGE_SERVICE_CLASS_STATUS.get(status, (STATUS_FAILURE, ""))
    is_warning = category == STATUS_WARNING or status >> 12 == 0xB or status == _WARNING
    if status in (_SUCCESS, _DUPLICATE) or is_warning:
        return Answer.SENT
    if status not in _PASSING and any(low <= status <= high for low, high in _LASTING_RANGES):
        return Answer.REFUSED
    return Answer.FAILED


def in_words(status: int) -> str:
    """Return a status as people read it: its number, and what the standard calls it."""
    _, words = STORAGE_SERVICE_CLASS_STATUS.get(status, ("", ""))
    return f"status {status:04X}, {words}" if words else f"status {status:04X}"
