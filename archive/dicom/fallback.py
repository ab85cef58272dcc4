"""pydicom in place of our own walker, for a data set that the walker stumbles over.

The walker refuses what is broken; it must never fail on what is not. Should it, the instance
is read by pydicom instead, at fifteen times the cost, and a warning says so: a fault of ours
costs time, not an image.
"""

import io
import warnings
from typing import Any, Final

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from archive.dicom.instance import Attributes, AttributeWarning, BulkValue
from archive.dicom.part10 import Buffer
from archive.dicom.scope import ALWAYS_BULK, UNDEFINED
from archive.dicom.transfer_syntax import TransferSyntax
from archive.dicom.walk import PixelElement, Walk
from archive.dicom.walker import INLINE_BYTES, Walker
from archive.errors import InvalidInstanceError

# pydicom copies what it reads: a larger object is refused rather than held twice.
_LARGEST_BYTES: Final = 256 * 1024**2
_PIXEL_TAGS: Final = (0x7FE00010, 0x7FE00008, 0x7FE00009)


def walk_with_pydicom(
    buffer: Buffer, start: int, syntax: TransferSyntax, stumble: Exception
) -> Walk:
    """Read the data set that begins at ``start``.

    Raises
    ------
    InvalidInstanceError
        If pydicom cannot read it either.
    """
    if len(buffer) > _LARGEST_BYTES:
        raise InvalidInstanceError("the data set could not be read") from stumble
    stream = io.BytesIO(buffer)
    stream.seek(start)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = read_dataset(stream, syntax.implicit, not syntax.big_endian)
            bulk: list[BulkValue] = []
            attributes = _attributes(dataset, bulk)
            pixels = _pixels(dataset, buffer, syntax)
    except (Exception, RecursionError) as error:
        raise InvalidInstanceError(
            f"the data set could not be read: {type(error).__name__}", offset=start
        ) from error
    note = AttributeWarning(
        "", f"read by pydicom {pydicom.__version__}: {type(stumble).__name__}"
    )
    return Walk(
        attributes=attributes,
        bulk=bulk,
        warnings=[note],
        pixels=pixels,
        has_text_beyond_ascii=True,
        read_by="pydicom",
    )


def _attributes(dataset: Dataset, bulk: list[BulkValue]) -> Attributes:
    attributes: Attributes = {}
    for tag in sorted(dataset.keys()):
        raw: Any = dataset.get_item(tag)
        if tag.element == 0 or tag.group in (0, 2) or raw is None:
            continue
        key = f"{int(tag):08X}"
        length = getattr(raw, "length", 0) or 0
        if int(tag) in ALWAYS_BULK or (
            isinstance(raw, RawDataElement) and length > INLINE_BYTES
        ):
            if isinstance(raw, RawDataElement) and raw.value is not None:
                bulk.append(BulkValue(key, raw.VR or "UN", raw.value_tell, len(raw.value)))
                attributes[key] = {"vr": raw.VR or "UN", "BulkDataURI": f"bulkdata/{key}"}
            continue
        single: Any = dataset.group_dataset(tag.group)[tag : tag + 1]
        attributes.update(single.to_json_dict(suppress_invalid_tags=True))
    return attributes


def _pixels(dataset: Dataset, buffer: Buffer, syntax: TransferSyntax) -> PixelElement | None:
    for tag in _PIXEL_TAGS:
        raw: Any = dataset.get_item(tag) if tag in dataset else None
        if isinstance(raw, RawDataElement):
            if raw.length != UNDEFINED:
                return PixelElement(f"{tag:08X}", raw.VR or "OW", raw.value_tell, raw.length)
            walker = Walker(buffer, implicit=syntax.implicit, big_endian=syntax.big_endian)
            fragments, _, _ = walker.fragments(raw.value_tell, len(buffer), f"{tag:08X}")
            return PixelElement(f"{tag:08X}", raw.VR or "OB", raw.value_tell, None, fragments)
    return None
