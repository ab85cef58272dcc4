"""What the instance says about how its stored values are to be shown (PS3.3 §C.11, §C.7.6)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from archive.dicom.instance import PixelDescription
from archive.render.attributes import (
    Attributes,
    ReadBulk,
    first_item,
    integer,
    items,
    number,
    numbers,
    text,
)
from archive.render.lookup_table import LookupTable, Palette, lookup_table, palette
from archive.render.options import Window, WindowFunction

_SHARED_GROUPS: Final = "52009229"
_PER_FRAME_GROUPS: Final = "52009230"
_PIXEL_VALUE_TRANSFORMATION: Final = "00289145"
_FRAME_VOI_LUT: Final = "00289132"
_MODALITY_LUT_SEQUENCE: Final = "00283000"
_VOI_LUT_SEQUENCE: Final = "00283010"
_FLOAT_PIXEL_DATA: Final = "7FE00008"
_DOUBLE_PIXEL_DATA: Final = "7FE00009"
_FUNCTIONS: Final[Mapping[str, WindowFunction]] = {
    "LINEAR": "LINEAR",
    "LINEAR_EXACT": "LINEAR_EXACT",
    "SIGMOID": "SIGMOID",
}


@dataclass(frozen=True, slots=True)
class Presentation:
    """The transformations of one frame, ready for the pipeline.

    Parameters
    ----------
    photometric_interpretation
        As the data set says; decoding may have changed the colour space since.
    rescale_slope, rescale_intercept
        The linear modality transformation (PS3.3 §C.11.1.1.2).
    modality_lut
        Wins over the linear one, as only one of the two may be there.
    windows
        In the order of the data set; the first is applied.
    voi_luts
        Applied, the first of them, when there is no window.
    is_inverted
        Whether the least value is white (MONOCHROME1 or Presentation LUT Shape INVERSE).
    padding
        Least and greatest stored value of pixels that are no image (PS3.3 §C.7.5.1.1.2).
    palette
        For PALETTE COLOR.
    """

    photometric_interpretation: str = "MONOCHROME2"
    rescale_slope: float = 1.0
    rescale_intercept: float = 0.0
    modality_lut: LookupTable | None = None
    windows: tuple[Window, ...] = ()
    voi_luts: tuple[LookupTable, ...] = ()
    is_inverted: bool = False
    padding: tuple[float, float] | None = None
    palette: Palette | None = None


def presentation_from_json(
    attributes: Attributes, frame_index: int, read_bulk: ReadBulk
) -> Presentation:
    """Read the presentation of one frame from an instance's metadata.

    Functional groups win over the data set's own attributes, those of the frame over the
    shared ones (PS3.3 §C.7.6.16). Values that cannot be used are passed over.

    Parameters
    ----------
    attributes
        DICOM JSON of the instance (PS3.18 Annex F).
    frame_index
        0-based.
    read_bulk
        Called with a bulk data path, gives its bytes, for lookup tables.
    """
    groups = _functional_groups(attributes, frame_index)
    modality = _source(groups, _PIXEL_VALUE_TRANSFORMATION, attributes)
    voi = _source(groups, _FRAME_VOI_LUT, attributes)
    photometric = text(attributes, "00280004").upper() or "MONOCHROME2"
    slope, intercept = _rescale(modality)
    is_signed = integer(attributes, "00280103") == 1
    modality_item = first_item(attributes, _MODALITY_LUT_SEQUENCE)
    return Presentation(
        photometric_interpretation=photometric,
        rescale_slope=slope,
        rescale_intercept=intercept,
        modality_lut=lookup_table(modality_item, read_bulk, signed=is_signed),
        windows=_windows(voi),
        voi_luts=_voi_luts(voi, read_bulk, signed=is_signed or intercept < 0),
        is_inverted=photometric == "MONOCHROME1" or text(attributes, "20500020") == "INVERSE",
        padding=_padding(attributes, signed=is_signed),
        palette=palette(attributes, read_bulk) if photometric == "PALETTE COLOR" else None,
    )


def pixel_description(attributes: Attributes) -> PixelDescription | None:
    """Read the Image Pixel attributes from DICOM JSON (PS3.3 §C.7.6.3).

    Returns
    -------
    PixelDescription or None
        ``None`` when Rows, Columns or Bits Allocated are missing: there is no image. Float
        pixel data has neither Bits Stored nor sign, which is written as 0 bits stored.
    """
    rows, columns = integer(attributes, "00280010"), integer(attributes, "00280011")
    bits_allocated = integer(attributes, "00280100")
    if not rows or not columns or not bits_allocated:
        return None
    samples = integer(attributes, "00280002") or 1
    is_float = _FLOAT_PIXEL_DATA in attributes or _DOUBLE_PIXEL_DATA in attributes
    bits_stored = 0 if is_float else integer(attributes, "00280101") or bits_allocated
    high_bit = integer(attributes, "00280102")
    return PixelDescription(
        rows=rows,
        columns=columns,
        samples_per_pixel=samples,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=max(bits_stored - 1, 0) if high_bit is None else high_bit,
        pixel_representation=1 if integer(attributes, "00280103") == 1 else 0,
        photometric_interpretation=text(attributes, "00280004").upper()
        or ("MONOCHROME2" if samples == 1 else "RGB"),
        planar_configuration=1 if integer(attributes, "00280006") == 1 else 0,
        number_of_frames=max(integer(attributes, "00280008") or 1, 1),
    )


def _functional_groups(attributes: Attributes, frame_index: int) -> tuple[Attributes, ...]:
    per_frame = items(attributes, _PER_FRAME_GROUPS)
    own = per_frame[frame_index : frame_index + 1]
    return (*own, first_item(attributes, _SHARED_GROUPS))


def _source(groups: Iterable[Attributes], tag: str, attributes: Attributes) -> Attributes:
    for group in groups:
        item = first_item(group, tag)
        if item:
            return item
    return attributes


def _rescale(source: Attributes) -> tuple[float, float]:
    slope, intercept = number(source, "00281053"), number(source, "00281052")
    # A slope of 0 makes every pixel equal: no device means that.
    return (1.0 if slope is None or slope == 0 else slope, intercept or 0.0)


def _windows(source: Attributes) -> tuple[Window, ...]:
    name = text(source, "00281056").upper()
    function = _FUNCTIONS.get(name, "LINEAR")
    centers, widths = numbers(source, "00281050"), numbers(source, "00281051")
    return tuple(
        _window(center, width, function)
        for center, width in zip(centers, widths, strict=False)
        if width > 0
    )


def _window(center: float, width: float, function: WindowFunction) -> Window:
    # LINEAR is not defined below a width of 1 (PS3.3 §C.11.2.1.2.1), yet parametric maps and
    # PET in SUV carry such windows; LINEAR_EXACT is what they mean.
    if function == "LINEAR" and width < 1:
        return Window(center, width, "LINEAR_EXACT")
    return Window(center, width, function)


def _voi_luts(
    source: Attributes, read_bulk: ReadBulk, *, signed: bool
) -> tuple[LookupTable, ...]:
    tables = (
        lookup_table(item, read_bulk, signed=signed)
        for item in items(source, _VOI_LUT_SEQUENCE)
    )
    return tuple(table for table in tables if table is not None)


def _padding(attributes: Attributes, *, signed: bool) -> tuple[float, float] | None:
    value = number(attributes, "00280120")
    if value is None:
        return None
    limit = number(attributes, "00280121")
    ends = [
        _as_stored(end, signed=signed) for end in (value, value if limit is None else limit)
    ]
    return min(ends), max(ends)


def _as_stored(value: float, *, signed: bool) -> float:
    # Written as US where the pixels are signed: the same bits, another number.
    return value - 0x10000 if signed and value > 0x7FFF else value
