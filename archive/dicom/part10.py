"""The file header: preamble, prefix and File Meta Information (PS3.10 §7.1)."""

import struct
from dataclasses import dataclass
from typing import Final

from archive.errors import InvalidInstanceError
from archive.identity import is_uid

Buffer = bytes | bytearray | memoryview

# Ours, made from a random UUID (PS3.5 §B.2): names the program that wrote a header.
IMPLEMENTATION_CLASS_UID: Final = "2.25.184696781966465891955702694349947373779"
IMPLEMENTATION_VERSION_NAME: Final = "FILEROOM_0_1"

_PREAMBLE_BYTES: Final = 128
_PREFIX: Final = b"DICM"
PREAMBLE: Final = bytes(_PREAMBLE_BYTES) + _PREFIX
_LONG_VRS: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_TRANSFER_SYNTAX: Final = 0x0010
# A header this large is no header: it holds a dozen short values.
_LARGEST_META_BYTES: Final = 1 << 20

# What a body that is not DICOM most often is, by how it begins.
_LOOKS_LIKE: Final = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive: unpack it first, or use `fileroom import`"),
    (b"\x1f\x8b", "gzip: unpack it first"),
    (b"{", "JSON"),
    (b"[", "JSON"),
    (b"<", "XML or HTML"),
)


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the header says of the data set behind it.

    Parameters
    ----------
    dataset_offset
        Where the data set begins, in bytes.
    transfer_syntax_uid
        How it is encoded.
    media_storage_sop_class_uid, media_storage_sop_instance_uid
        What it claims to be; the data set itself decides.
    source_ae_title, sending_ae_title
        Who wrote it, and who sent it, where the header says.
    """

    dataset_offset: int
    transfer_syntax_uid: str
    media_storage_sop_class_uid: str = ""
    media_storage_sop_instance_uid: str = ""
    source_ae_title: str = ""
    sending_ae_title: str = ""


def read_file_meta(buffer: Buffer) -> FileMeta:
    """Read the header of a Part 10 object.

    The group length is not believed, only the elements; a missing preamble is forgiven.

    Raises
    ------
    InvalidInstanceError
        If this is no Part 10 object, its header is cut short, or names no transfer syntax.
    """
    start = _start_of_meta(buffer)
    elements: dict[int, bytes] = {}
    position = start
    limit = min(len(buffer), start + _LARGEST_META_BYTES)
    while position + 2 <= len(buffer) and buffer[position : position + 2] == b"\x02\x00":
        element, value, position = _read_element(buffer, position, limit)
        elements[element] = value
    uid = _text(elements, _TRANSFER_SYNTAX)
    if not is_uid(uid):
        raise InvalidInstanceError(
            "the File Meta Information names no transfer syntax, without which the data set "
            "cannot be read"
            if not uid
            else "the transfer syntax is not a UID",
            offset=start,
            tag="00020010",
        )
    return FileMeta(
        dataset_offset=position,
        transfer_syntax_uid=uid,
        media_storage_sop_class_uid=_text(elements, 0x0002),
        media_storage_sop_instance_uid=_text(elements, 0x0003),
        source_ae_title=_text(elements, 0x0016),
        sending_ae_title=_text(elements, 0x0017),
    )


def _start_of_meta(buffer: Buffer) -> int:
    prefix = bytes(buffer[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4])
    if prefix == _PREFIX:
        return _PREAMBLE_BYTES + 4
    head = bytes(buffer[:16])
    if head[:2] == b"\x02\x00" and head[4:6].isalpha():
        return 0
    if head[:4] == _PREFIX:
        return 4
    if not head:
        raise InvalidInstanceError("the object is empty", offset=0)
    raise InvalidInstanceError(
        f"not a DICOM Part 10 object: expected 'DICM' after a preamble of 128 bytes, "
        f"{_what_it_is(head)}",
        offset=min(_PREAMBLE_BYTES, len(buffer)),
    )


def _what_it_is(head: bytes) -> str:
    for magic, name in _LOOKS_LIKE:
        if head.startswith(magic):
            return f"this looks like {name}"
    if head[1:2] == b"\x00" and head[0] in (2, 8):
        return (
            "this looks like a bare data set: send it with its File Meta Information, "
            "which names the transfer syntax (PS3.10 §7.1)"
        )
    return f"found {head[:4].hex(' ')} at the start"


def _read_element(buffer: Buffer, position: int, limit: int) -> tuple[int, bytes, int]:
    if position + 8 > limit:
        raise _cut_short(position)
    _, element, vr, length = struct.unpack_from("<HH2sH", buffer, position)
    value_at = position + 8
    if vr in _LONG_VRS:
        if position + 12 > limit:
            raise _cut_short(position)
        (length,) = struct.unpack_from("<I", buffer, position + 8)
        value_at = position + 12
    elif not vr.isalpha():  # written as implicit, against PS3.10 §7.1
        (length,) = struct.unpack_from("<I", buffer, position + 4)
    end = value_at + length
    if end > limit:
        raise _cut_short(position)
    return element, bytes(buffer[value_at:end]), end


def _cut_short(position: int) -> InvalidInstanceError:
    return InvalidInstanceError(
        "the File Meta Information runs past the end of the object: it is truncated or not "
        "what it says",
        offset=position,
    )


def _text(elements: dict[int, bytes], element: int) -> str:
    return elements.get(element, b"").decode("ascii", "replace").strip("\0 ")


def build_file_meta(
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    source_ae_title: str = "",
    sending_ae_title: str = "",
    receiving_ae_title: str = "",
) -> bytes:
    """Make the header of an instance that arrived without one (PS3.10 §7.1).

    Returns
    -------
    bytes
        Preamble, prefix and group 0002; the data set follows at once.
    """
    elements = b"".join(
        (
            _element(0x0001, b"OB", b"\x00\x01"),
            _element(0x0002, b"UI", sop_class_uid.encode("ascii", "replace")),
            _element(0x0003, b"UI", sop_instance_uid.encode("ascii", "replace")),
            _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii", "replace")),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode()),
            _ae_element(0x0016, source_ae_title),
            _ae_element(0x0017, sending_ae_title),
            _ae_element(0x0018, receiving_ae_title),
        )
    )
    group_length = struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(elements))
    return PREAMBLE + group_length + elements


def _ae_element(element: int, ae_title: str) -> bytes:
    return _element(element, b"AE", ae_title.encode("ascii", "replace")) if ae_title else b""


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB") else b" "
    if vr in _LONG_VRS:
        return struct.pack("<HH2sHI", 0x0002, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
