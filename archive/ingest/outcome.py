"""What became of an instance that was taken in."""

from dataclasses import dataclass
from enum import StrEnum

from archive.dicom.instance import AttributeWarning
from archive.identity import InstanceRef


class Disposition(StrEnum):
    """How the archive disposed of an instance it accepted."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    REPLACED = "replaced"


class Remark(StrEnum):
    """Why an accepted instance is accepted with a warning."""

    NONE = ""
    UID_ELSEWHERE = "sop-uid-elsewhere"
    SOP_CLASS_MISMATCH = "sop-class-mismatch"
    SOP_INSTANCE_MISMATCH = "sop-instance-mismatch"
    PREAMBLE = "preamble"
    COERCED = "coerced"
    DISCARDED = "discarded"
    ATTRIBUTES = "attributes"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An accepted instance: on disk, in the index, visible.

    Parameters
    ----------
    ref
        The three UIDs as the data set says.
    sop_class_uid
        Its SOP class.
    disposition
        New, already there byte for byte, or made the visible version.
    warning
        What the sender should look at; ``Remark.NONE`` when nothing.
    explanation
        The same in words; never holds patient attributes.
    attributes
        Attributes that were kept although they are not as they should be, were changed, or
        were left out, whatever the warning is.
    """

    ref: InstanceRef
    sop_class_uid: str
    disposition: Disposition
    warning: Remark = Remark.NONE
    explanation: str = ""
    attributes: tuple[AttributeWarning, ...] = ()
