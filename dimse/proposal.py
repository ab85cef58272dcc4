"""The A-ASSOCIATE-RQ before it is decoded: what is odd left out, each context decided.

A request may hold 128 presentation contexts with some 30 transfer syntaxes each. pynetdicom
makes an object of every one, 60 ms of CPU in all, and drops the connection over an item it does
not know. Here the PDU is gone over as bytes: of each context the transfer syntax that would be
chosen stays, which is all the negotiation needs.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pynetdicom.dul import DULServiceProvider

from archive.dicom.sop_class import is_storage
from archive.dicom.transfer_syntax import (
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
    is_transfer_syntax,
    transfer_syntax,
)
from archive.errors import InvalidRequestError
from archive.identity import is_uid
from archive.log import get_logger
from dimse.contexts import IDENTIFIER_SYNTAXES

logger = get_logger(__name__)

_ASSOCIATE_RQ: Final = 0x01
_APPLICATION_CONTEXT, _PRESENTATION_CONTEXT, _USER_INFORMATION = 0x10, 0x20, 0x50
_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX = 0x30, 0x40
# PS3.7 §D.3.3, PS3.8 §D.3.3: maximum length to user identity.
_USER_ITEMS: Final = range(0x51, 0x59)
_ITEM: Final = struct.Struct(">BxH")
_FIXED: Final = struct.Struct(">BxIHxx64s")
# JPIP data sets hold an address in place of pixels.
_WITHOUT_PIXELS: Final = frozenset({"4.94", "4.95", "4.204", "4.205"})


def choose_syntax(abstract_syntax: str, proposed: Sequence[str]) -> str:
    """Return the transfer syntax to take of those that one context proposes (PS3.8 §9.3.3.2).

    For storage that is the first, since senders name the syntax their instance is in before
    what they can make of it (storescu and dcm4che propose each alone, fo-dicom the stored one
    and implicit VR), except that

    - what the standard knows and can be read alone comes before what it does not;
    - what loses nothing comes before compression with loss, where the sender offers both as
      compressed: such a list tells what it can do, not what it has;
    - explicit VR comes before implicit, which forgets the VRs of private elements, and before
      big endian, which few can read.
    """
    if not is_storage(abstract_syntax):
        return next((uid for uid in IDENTIFIER_SYNTAXES if uid in proposed), proposed[0])
    candidates = [uid for uid in proposed if _is_readable(uid)] or [
        uid for uid in proposed if is_transfer_syntax(uid)
    ]
    if not candidates:
        return proposed[0]
    first = transfer_syntax(candidates[0])
    if first.encapsulated and not first.lossless and not first.video:
        for uid in candidates:
            other = transfer_syntax(uid)
            if other.encapsulated and other.lossless:
                return uid
    if first.uid in (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN):
        return EXPLICIT_LITTLE_ENDIAN if EXPLICIT_LITTLE_ENDIAN in candidates else first.uid
    return first.uid


def _is_readable(uid: str) -> bool:
    return uid in TRANSFER_SYNTAXES and uid.removeprefix("1.2.840.10008.1.2.") not in (
        _WITHOUT_PIXELS
    )


class TolerantDecoding(DULServiceProvider):
    """Part of an upper layer: association requests are tidied before pynetdicom sees them."""

    def _decode_pdu(self, bytestream: bytearray) -> Any:  # noqa: ANN401 - its signature
        if bytestream[0] == _ASSOCIATE_RQ:
            bytestream = tidied(bytestream)
        return super()._decode_pdu(bytestream)


def tidied(request: bytes | bytearray) -> bytearray:
    """Return an A-ASSOCIATE-RQ with what pynetdicom would stumble over left out.

    Items and sub-items of unknown types are passed over (PS3.8 §9.3.1), as are presentation
    contexts without a use: an even or repeated ID, no abstract or no transfer syntax. They are
    not answered. Of the protocol version only its first bit counts (Table 9-11).

    Raises
    ------
    InvalidRequestError
        If an item runs past the end of the PDU or of the item around it.
    """
    kind, _, version, titles = _FIXED.unpack_from(request)
    contexts: dict[int, bytes] = {}
    passed_over = 0
    body = bytearray()
    for item_type, content in _items(request[_FIXED.size :]):
        if item_type == _PRESENTATION_CONTEXT:
            context = _decided(content)
            if context is None or content[0] in contexts:
                passed_over += 1
            else:
                contexts[content[0]] = context
                body += context
        elif item_type == _USER_INFORMATION:
            body += _item(_USER_INFORMATION, _known_user_items(content))
        elif item_type == _APPLICATION_CONTEXT:
            body += _item(_APPLICATION_CONTEXT, content.rstrip(b"\0 "))
    if passed_over:
        logger.warning("association.contexts-passed-over", extra={"contexts": passed_over})
    version = 1 if version & 1 else version
    length = _FIXED.size - 6 + len(body)
    return bytearray(_FIXED.pack(kind, length, version, titles)) + body


def _items(raw: bytes | bytearray) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ITEM.size <= len(raw):
        kind, length = _ITEM.unpack_from(raw, position)
        end = position + _ITEM.size + length
        if end > len(raw):
            raise InvalidRequestError("an item runs past the end of the A-ASSOCIATE-RQ")
        yield kind, bytes(raw[position + _ITEM.size : end])
        position = end


def _item(kind: int, content: bytes) -> bytes:
    return _ITEM.pack(kind, len(content)) + content


def _decided(content: bytes) -> bytes | None:
    """Return a presentation context item with the one syntax to be answered."""
    if len(content) < 4 or content[0] % 2 == 0:
        return None
    abstract_syntax = ""
    proposed: list[str] = []
    for kind, value in _items(content[4:]):
        uid = value.decode("ascii", "replace").strip("\0 ")
        if kind == _TRANSFER_SYNTAX and is_uid(uid):
            proposed.append(uid)
        elif kind == _ABSTRACT_SYNTAX:
            abstract_syntax = uid
    if not proposed or not is_uid(abstract_syntax):
        return None
    chosen = choose_syntax(abstract_syntax, proposed)
    return _item(
        _PRESENTATION_CONTEXT,
        content[:4]
        + _item(_ABSTRACT_SYNTAX, abstract_syntax.encode())
        + _item(_TRANSFER_SYNTAX, chosen.encode()),
    )


def _known_user_items(content: bytes) -> bytes:
    return b"".join(
        _item(kind, value) for kind, value in _items(content) if kind in _USER_ITEMS
    )
