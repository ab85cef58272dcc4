"""The header of an instance that comes over the wire without one (PS3.10 §7.1).

What is stored is a file, and its header must be true whatever the sender said: the data set
wins over the command that names it and over the transfer syntax of its context.
"""

from dataclasses import dataclass
from typing import Final

from archive.dicom.beginning import embedded_header, look_at_beginning
from archive.dicom.instance import AttributeWarning
from archive.dicom.part10 import PREAMBLE, Buffer, build_file_meta
from archive.errors import IdentifierError, InvalidInstanceError
from archive.identity import is_uid
from archive.ingest.incoming import Source

# More than the longest header: three UIDs of 64, three titles of 16, our own names.
LONGEST_HEADER: Final = 1024


@dataclass(frozen=True, slots=True)
class Announced:
    """What the sender says of a data set.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid
        As in the command; "" where it has none.
    transfer_syntax_uid
        Of the presentation context.
    source
        Who sends.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source: Source


def expected_header(announced: Announced) -> bytes:
    """Return the header of a data set that is what it is announced as.

    Empty where that names no instance: then the data set has to.
    """
    if not (is_uid(announced.sop_class_uid) and is_uid(announced.sop_instance_uid)):
        return b""
    return _header(
        announced,
        announced.sop_class_uid,
        announced.sop_instance_uid,
        announced.transfer_syntax_uid,
    )


def header_for(
    data: Buffer, announced: Announced, expected: bytes
) -> tuple[bytes, tuple[AttributeWarning, ...]]:
    """Return what has to stand before a data set, and what is odd about it.

    Parameters
    ----------
    data
        The data set, or its first `archive.dicom.beginning.LOOKED_AT_BYTES` at least.
    announced
        What is said of it.
    expected
        Its `expected_header`.

    Raises
    ------
    InvalidInstanceError
        If there is no data set, or nobody says which instance it is.
    """
    if not len(data):
        raise InvalidInstanceError("the data set is empty")
    embedded = embedded_header(data)
    if embedded is not None:
        # It is a file after all: its own header tells how it is encoded.
        return b"" if embedded else PREAMBLE, (_odd("00020000", "the data set had a header"),)
    shown = look_at_beginning(data, announced.transfer_syntax_uid)
    sop_class_uid = _uid("00080016", "Class", shown.sop_class_uid, announced.sop_class_uid)
    sop_instance_uid = _uid(
        "00080018", "Instance", shown.sop_instance_uid, announced.sop_instance_uid
    )
    true = sop_class_uid, sop_instance_uid, shown.transfer_syntax_uid
    if true == (
        announced.sop_class_uid,
        announced.sop_instance_uid,
        announced.transfer_syntax_uid,
    ):
        return expected, ()
    header = _header(announced, *true)
    if shown.transfer_syntax_uid == announced.transfer_syntax_uid:
        return header, ()
    message = f"sent as {announced.transfer_syntax_uid}, which it is not encoded in"
    return header, (_odd("00020010", message),)


def _header(
    announced: Announced, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
) -> bytes:
    return build_file_meta(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        source_ae_title=announced.source.calling_ae_title,
        receiving_ae_title=announced.source.called_ae_title,
    )


def _uid(tag: str, name: str, *candidates: str) -> str:
    for candidate in candidates:
        if is_uid(candidate):
            return candidate
    raise IdentifierError(f"SOP {name} UID is missing in command and data set", tag=tag)


def _odd(tag: str, message: str) -> AttributeWarning:
    return AttributeWarning(tag, message)
