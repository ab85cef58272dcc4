"""A whole instance in another transfer syntax, made frame by frame.

Only what the new syntax demands changes: UIDs, private attributes and order stay.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

from archive.dicom.instance import PixelDescription
from archive.dicom.part10 import build_file_meta
from archive.dicom.transfer_syntax import transfer_syntax
from archive.errors import InvalidInstanceError, NotAcceptableError

_PIXEL_DATA: Final = Tag(0x7FE00010)
_OFFSET_TABLES: Final = (Tag(0x7FE00001), Tag(0x7FE00002))
_DEFER_BYTES: Final = 64 * 1024
_ITEM: Final = b"\xfe\xff\x00\xe0"
_SEQUENCE_END: Final = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_DECODED_PHOTOMETRIC: Final = {
    "YBR_RCT": "RGB",
    "YBR_ICT": "RGB",
    "YBR_FULL_422": "YBR_FULL",
    "YBR_PARTIAL_422": "YBR_FULL",
}


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
    description
        None when the instance has no frames.
    number_of_frames
        How many the frame table has.
    frames
        Yields each.
    """

    description: PixelDescription | None
    number_of_frames: int
    frames: Callable[[], Iterator[bytes]]


def transcoded_instance(
    source: BinaryIO, supply: FrameSupply, transfer_syntax_uid: str
) -> TranscodedInstance:
    """Prepare an instance in another transfer syntax.

    Parameters
    ----------
    source
        The stored object.
    supply
        Its frames.
    transfer_syntax_uid
        Explicit or implicit little endian, or an encapsulated one.

    Raises
    ------
    InvalidInstanceError
        If the stored data set cannot be read.
    NotAcceptableError
        If it has pixel data whose frames cannot be told apart.
    """
    dataset = _read(source)
    implicit = transfer_syntax(transfer_syntax_uid).implicit
    head, tail = _around_pixels(dataset, supply, implicit=implicit)
    header = build_file_meta(
        sop_class_uid=str(dataset.get("SOPClassUID", "")),
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
        transfer_syntax_uid=transfer_syntax_uid,
    )
    if supply.description is None:
        if _PIXEL_DATA in dataset:
            raise NotAcceptableError(
                "the frames of this instance cannot be told apart, so it is only available "
                "as stored (transfer-syntax=*)"
            )
        whole = head + tail
        return TranscodedInstance(len(header) + len(whole), header, lambda: iter((whole,)))
    if transfer_syntax(transfer_syntax_uid).encapsulated:
        return TranscodedInstance(None, header, lambda: _encapsulated(head, supply, tail))
    length = _native_bytes(supply.description) * supply.number_of_frames
    pixels = _native_header(supply.description, length + length % 2, implicit=implicit)
    total = len(header) + len(head) + len(pixels) + length + length % 2 + len(tail)
    return TranscodedInstance(
        total, header, lambda: _native(head + pixels, supply, length, tail)
    )


def _read(source: BinaryIO) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dcmread(source, force=True, defer_size=_DEFER_BYTES)
    except Exception as error:
        raise InvalidInstanceError(
            f"the stored data set cannot be rewritten: {type(error).__name__}"
        ) from error


def _around_pixels(
    dataset: Dataset, supply: FrameSupply, *, implicit: bool
) -> tuple[bytes, bytes]:
    """Return the encoded elements before and behind the pixel data."""
    if supply.description is not None:
        photometric = supply.description.photometric_interpretation
        if photometric in _DECODED_PHOTOMETRIC:
            dataset.PhotometricInterpretation = _DECODED_PHOTOMETRIC[photometric]
        if supply.description.samples_per_pixel > 1:
            dataset.PlanarConfiguration = 0
    before, behind = Dataset(), Dataset()
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset reads every element
        if tag.group > 2 and tag != _PIXEL_DATA and tag not in _OFFSET_TABLES:
            (before if tag < _PIXEL_DATA else behind)[tag] = dataset[tag]
    for part in (before, behind):
        part.set_original_encoding(
            is_implicit_vr=implicit,
            is_little_endian=True,
            character_encoding=dataset.original_character_set,
        )
    return _encoded(before, implicit=implicit), _encoded(behind, implicit=implicit)


def _encoded(dataset: Dataset, *, implicit: bool) -> bytes:
    output = DicomBytesIO()
    output.is_little_endian = True
    output.is_implicit_VR = implicit
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_dataset(output, dataset)
    except Exception as error:
        raise InvalidInstanceError(
            f"the stored data set cannot be rewritten: {type(error).__name__}: {error}"
        ) from error
    return output.getvalue()


def _native_bytes(description: PixelDescription) -> int:
    samples = description.rows * description.columns * description.samples_per_pixel
    return -(-samples * description.bits_allocated // 8)


def _native_header(description: PixelDescription, length: int, *, implicit: bool) -> bytes:
    if length >= 0xFFFFFFFF:
        raise NotAcceptableError(
            f"uncompressed, the pixel data would be {length} bytes: more than an element holds "
            "(PS3.5 §7.1.1); it is only available as stored (transfer-syntax=*)"
        )
    tag = b"\xe0\x7f\x08\x00" if not description.bits_stored else b"\xe0\x7f\x10\x00"
    if implicit:
        return tag + length.to_bytes(4, "little")
    if not description.bits_stored:
        vr = b"OF"
    else:
        vr = b"OW" if description.bits_allocated != 8 else b"OB"
    return tag + vr + b"\0\0" + length.to_bytes(4, "little")


def _native(start: bytes, supply: FrameSupply, length: int, tail: bytes) -> Iterator[bytes]:
    yield start
    yield from supply.frames()
    yield b"\0" * (length % 2) + tail


def _encapsulated(start: bytes, supply: FrameSupply, tail: bytes) -> Iterator[bytes]:
    # The Basic Offset Table may be empty (PS3.5 §A.4): lengths are not known yet.
    yield start + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + _ITEM + bytes(4)
    for frame in supply.frames():
        yield _ITEM + len(frame).to_bytes(4, "little") + frame
    yield _SEQUENCE_END + tail
