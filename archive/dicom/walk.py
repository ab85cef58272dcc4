"""What reading a data set gives, before anything is made of it."""

from dataclasses import dataclass, field

from archive.dicom.instance import Attributes, AttributeWarning, BulkValue


@dataclass(slots=True)
class PixelElement:
    """The pixel data element of the data set."""

    tag: str
    vr: str
    offset: int
    length: int | None
    fragments: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Walk:
    """What reading a data set gave.

    Attributes
    ----------
    has_text_beyond_ascii
        Whether any text needs a character set.
    read_by
        "walker" or "pydicom".
    character_set
        The terms of Specific Character Set as they were written, which the JSON no longer says.
    """

    attributes: Attributes
    bulk: list[BulkValue]
    warnings: list[AttributeWarning]
    pixels: PixelElement | None
    has_text_beyond_ascii: bool
    read_by: str
    character_set: tuple[str, ...] = ()
