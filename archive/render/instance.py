"""A whole instance in another transfer syntax, made frame by frame.

Only what the new syntax demands changes (PS3.5 §8.2, §A.4): UIDs, private attributes, odd
values and order stay. A lossy one is another image, and says so (PS3.3 §C.7.6.1.1.5).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from archive.dicom.part10 import Buffer, FileMeta, build_file_meta
from archive.dicom.rewrite import (
    PIXEL_DATA,
    EncodedElement,
    Part,
    Rewriter,
    Span,
    element_header,
    length_of,
)
from archive.dicom.scope import PIXEL_TAGS, UNDEFINED
from archive.dicom.transfer_syntax import TransferSyntax, transfer_syntax
from archive.errors import NotAcceptableError
from archive.render.native import joined

# Extended Offset Table, its lengths, and the total: true of one encoding only (PS3.5 §A.4).
_OF_ONE_ENCODING: Final = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00003})
_SOP_INSTANCE_UID: Final = 0x00080018
_ITEM: Final = b"\xfe\xff\x00\xe0"
_SEQUENCE_END: Final = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_LEAST_CHUNK_BYTES: Final = 256 * 1024

# Elements that replace those of the same tag, or are put in; value and VR.
Changes = Mapping[int, tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class TranscodedInstance:
    """A Part 10 object that is made while it is sent.

    Parameters
    ----------
    length_bytes
        How long it will be; None when that is not known before it is made.
    header
        Preamble and File Meta.
    data_set
        Yields what follows it.
    """

    length_bytes: int | None
    header: bytes
    data_set: Callable[[], Iterator[bytes]]

    def chunks(self) -> Iterator[bytes]:
        """Yield the whole object."""
        yield self.header
        yield from self.data_set()


@dataclass(frozen=True, slots=True)
class FrameSupply:
    """The frames of an instance in the wanted transfer syntax.

    Parameters
    ----------
    number_of_frames
        How many there are.
    frame_bits
        How many bits each has where the syntax is native.
    bits_allocated
        Of each sample.
    frames
        Yields each.
    """

    number_of_frames: int
    frame_bits: int
    bits_allocated: int
    frames: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class StoredDataSet:
    """A data set as it lies in the store.

    Parameters
    ----------
    buffer
        The object, or the inflated data set.
    start
        Where the data set begins in it, in bytes.
    meta
        The header of the object, with the UIDs of the data set.
    bits_allocated
        Of its pixel data; 0 when there is none.
    """

    buffer: Buffer
    start: int
    meta: FileMeta
    bits_allocated: int

    @property
    def syntax(self) -> TransferSyntax:
        """How it is encoded."""
        return transfer_syntax(self.meta.transfer_syntax_uid)


def transcoded_instance(
    stored: StoredDataSet,
    supply: FrameSupply | None,
    changes: Changes,
    transfer_syntax_uid: str,
) -> TranscodedInstance:
    """Prepare an instance in another transfer syntax.

    Parameters
    ----------
    stored
        The data set.
    supply
        Its frames; None when native pixel data, or none, is to stay as it is.
    changes
        What else differs in the new syntax.
    transfer_syntax_uid
        Explicit or implicit little endian, or an encapsulated one.

    Raises
    ------
    InvalidInstanceError
        If the stored data set cannot be read.
    NotAcceptableError
        If it has encapsulated pixel data whose frames cannot be told apart, or that is too
        long when it is native.
    """
    target = transfer_syntax(transfer_syntax_uid)
    rewriter = Rewriter(
        stored.buffer,
        implicit=stored.syntax.implicit,
        big_endian=stored.syntax.big_endian,
        to_implicit=target.implicit,
    )
    elements = rewriter.rewrite(stored.start, bits_allocated=stored.bits_allocated)
    elements = _changed(elements, changes, implicit=target.implicit)
    header = _file_meta(stored.meta, changes, transfer_syntax_uid)
    if supply is None:
        _require_native(elements, stored.syntax)
        return _assembled(header, (_parts(elements), None, []), stored.buffer)
    elements = [e for e in elements if e.tag not in PIXEL_TAGS | _OF_ONE_ENCODING]
    before = _parts(e for e in elements if e.tag < PIXEL_DATA)
    behind = _parts(e for e in elements if e.tag > PIXEL_DATA)
    if target.encapsulated:
        pixels = _Pixels(None, lambda: _encapsulated(supply))
    else:
        pixels = _native(supply, implicit=target.implicit)
    return _assembled(header, (before, pixels, behind), stored.buffer)


@dataclass(frozen=True, slots=True)
class _Pixels:
    """The pixel data element, header included."""

    length_bytes: int | None
    chunks: Callable[[], Iterator[bytes]]


def _parts(elements: Iterable[EncodedElement]) -> list[Part]:
    return [part for element in elements for part in element.parts]


def _require_native(elements: list[EncodedElement], syntax: TransferSyntax) -> None:
    if syntax.encapsulated and any(element.tag in PIXEL_TAGS for element in elements):
        raise NotAcceptableError(
            "the frames of this instance cannot be told apart, so it is only available as "
            "stored (transfer-syntax=*)"
        )


def _file_meta(meta: FileMeta, changes: Changes, transfer_syntax_uid: str) -> bytes:
    _, changed_uid = changes.get(_SOP_INSTANCE_UID, ("UI", b""))
    return build_file_meta(
        sop_class_uid=meta.media_storage_sop_class_uid,
        sop_instance_uid=changed_uid.decode("ascii").rstrip("\0")
        or meta.media_storage_sop_instance_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        source_ae_title=meta.source_ae_title,
        sending_ae_title=meta.sending_ae_title,
    )


def _changed(
    elements: list[EncodedElement], changes: Changes, *, implicit: bool
) -> list[EncodedElement]:
    """Return the elements with changes put in their places."""
    if not changes:
        return elements
    made = [
        EncodedElement(tag, (element_header(tag, vr, len(value), implicit=implicit), value))
        for tag, (vr, value) in changes.items()
    ]
    kept = [element for element in elements if element.tag not in changes]
    return sorted([*kept, *made], key=lambda element: element.tag)


def _assembled(
    header: bytes, data_set: tuple[list[Part], _Pixels | None, list[Part]], buffer: Buffer
) -> TranscodedInstance:
    before, pixels, behind = data_set
    length: int | None = len(header) + length_of(before) + length_of(behind)
    if pixels is not None and length is not None:
        length = None if pixels.length_bytes is None else length + pixels.length_bytes

    def chunks() -> Iterator[bytes]:
        made = pixels.chunks() if pixels is not None else iter(())
        return _merged(_sent(chain(before, made, behind), buffer))

    return TranscodedInstance(length, header, chunks)


def _sent(parts: Iterable[Part], buffer: Buffer) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, Span):
            yield from part.chunks(buffer)
        else:
            yield part


def _merged(chunks: Iterator[bytes]) -> Iterator[bytes]:
    # Each chunk costs the face a hop between threads: the many small ones go together.
    pending = bytearray()
    for chunk in chunks:
        pending += chunk
        if len(pending) >= _LEAST_CHUNK_BYTES:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)


# -- pixel data --------------------------------------------------------------------------------


def _native(supply: FrameSupply, *, implicit: bool) -> _Pixels:
    length = -(-supply.frame_bits * supply.number_of_frames // 8)
    padding = b"\0" * (length % 2)
    if length >= UNDEFINED - 1:
        raise NotAcceptableError(
            f"uncompressed, the pixel data would be {length} bytes: more than an element holds "
            "(PS3.5 §7.1.1); it is only available as stored (transfer-syntax=*)"
        )
    # More than 8 bits allocated are words (PS3.5 §A.2); implicit VR knows only words (§A.1).
    vr = "OW" if supply.bits_allocated > 8 or implicit else "OB"
    header = element_header(PIXEL_DATA, vr, length + len(padding), implicit=implicit)

    def chunks() -> Iterator[bytes]:
        yield header
        yield from joined(supply.frames(), supply.frame_bits)
        yield padding

    return _Pixels(len(header) + length + len(padding), chunks)


def _encapsulated(supply: FrameSupply) -> Iterator[bytes]:
    # The Basic Offset Table may be empty (PS3.5 §A.4): lengths are not known yet.
    yield element_header(PIXEL_DATA, "OB", UNDEFINED, implicit=False) + _ITEM + bytes(4)
    for frame in supply.frames():
        yield _ITEM + len(frame).to_bytes(4, "little") + frame
    yield _SEQUENCE_END
