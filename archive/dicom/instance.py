"""What one pass over a received object yields."""

from dataclasses import dataclass
from typing import Any

from archive.dicom.frame_table import FrameTable

Attribute = dict[str, Any]
Attributes = dict[str, Attribute]


@dataclass(frozen=True, slots=True)
class BulkValue:
    """A value that the DICOM JSON leaves out (PS3.18 §F.2.2), and where it lies.

    Parameters
    ----------
    path
        Tag, or tags and 0-based item numbers from the outermost: ``00890010/0/00420011``.
    vr
        Its value representation.
    offset, length
        In bytes, from the start of the object, or of the inflated data set of a deflated one.
    """

    path: str
    vr: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """The Image Pixel Module's account of the frames (PS3.3 §C.7.6.3)."""

    rows: int = 0
    columns: int = 0
    samples_per_pixel: int = 1
    bits_allocated: int = 0
    bits_stored: int = 0
    high_bit: int = 0
    pixel_representation: int = 0
    photometric_interpretation: str = ""
    planar_configuration: int = 0
    number_of_frames: int = 1


@dataclass(frozen=True, slots=True)
class AttributeWarning:
    """An attribute that was kept although it is not as it should be.

    Parameters
    ----------
    tag
        Eight upper-case hexadecimal digits; empty when no single element is to blame.
    message
        What is wrong; never holds the value.
    """

    tag: str
    message: str


@dataclass(frozen=True, slots=True)
class ParsedInstance:
    """Everything later reads need, worked out once.

    Parameters
    ----------
    dataset_offset
        Where the data set begins in the object, in bytes.
    attributes
        The DICOM JSON Model of the data set (PS3.18 Annex F), tags ascending.
    json
        The same as UTF-8 JSON.
    bulk
        The values it leaves out.
    pixels
        None when there is no pixel data.
    frames
        None when there is no pixel data, or its frames cannot be told apart.
    read_by
        "walker" or "pydicom".
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    dataset_offset: int
    attributes: Attributes
    json: bytes
    bulk: tuple[BulkValue, ...]
    pixels: PixelDescription | None
    frames: FrameTable | None
    warnings: tuple[AttributeWarning, ...]
    read_by: str
