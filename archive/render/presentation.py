"""What the instance says about how its stored values are to be shown (PS3.3 §C.11, §C.7.6)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from archive.dicom.instance import PixelDescription
from archive.render.annotations import Lines, annotation_lines
from archive.render.attributes import (
    Attributes,
    ReadBulk,
    binary,
    first_item,
    integer,
    items,
    number,
    numbers,
    text,
)
from archive.render.lookup_table import LookupTable, Palette, lookup_table, palette
from archive.render.options import RenderOptions, Window, WindowFunction
from archive.render.overlays import Overlay, overlays_from_json

_SHARED_GROUPS: Final = "52009229"
_PER_FRAME_GROUPS: Final = "52009230"
_PIXEL_VALUE_TRANSFORMATION: Final = "00289145"
_FRAME_VOI_LUT: Final = "00289132"
_MODALITY_LUT_SEQUENCE: Final = "00283000"
_VOI_LUT_SEQUENCE: Final = "00283010"
_FLOAT_PIXEL_DATA: Final = "7FE00008"
_DOUBLE_PIXEL_DATA: Final = "7FE00009"
_OPTICAL_PATHS: Final = "00480105"
_ICC_PROFILE: Final = "00282000"
_BITS_OF_A_BYTE: Final = 8
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
    range
        What is spread over the grey scale when there is neither; ``None``: the values that
        occur in the frame.
    is_inverted
        Whether the least value is white (MONOCHROME1 or Presentation LUT Shape INVERSE).
    padding
        Least and greatest stored value of pixels that are no image (PS3.3 §C.7.5.1.1.2).
    palette
        For PALETTE COLOR, and the supplemental one of grey images (PS3.3 §C.7.6.19).
    overlays
        Drawn over the image.
    annotations
        Lines of text for its upper left and upper right corner.
    icc_profile
        Of the source's colours; empty when it has none.
    """

    photometric_interpretation: str = "MONOCHROME2"
    rescale_slope: float = 1.0
    rescale_intercept: float = 0.0
    modality_lut: LookupTable | None = None
    windows: tuple[Window, ...] = ()
    voi_luts: tuple[LookupTable, ...] = ()
    range: tuple[float, float] | None = None
    is_inverted: bool = False
    padding: tuple[float, float] | None = None
    palette: Palette | None = None
    overlays: tuple[Overlay, ...] = ()
    annotations: tuple[Lines, Lines] = ((), ())
    icc_profile: bytes = b""


class PresentationReader:
    """Reads the presentation of each frame from an instance's metadata.

    Functional groups win over the data set's own attributes, those of the frame over the
    shared ones (PS3.3 §C.7.6.16). Values that cannot be used are passed over.

    Parameters
    ----------
    attributes
        DICOM JSON of the instance (PS3.18 Annex F).
    read_bulk
        Called with a bulk data path, gives its bytes, for lookup tables.
    """

    def __init__(self, attributes: Attributes, read_bulk: ReadBulk) -> None:
        self._attributes = attributes
        self._read_bulk = read_bulk
        self._photometric = text(attributes, "00280004").upper() or "MONOCHROME2"
        self._is_signed = integer(attributes, "00280103") == 1

    def frame(self, frame_index: int, options: RenderOptions) -> Presentation:
        """Return the presentation of one frame.

        Parameters
        ----------
        frame_index
            0-based.
        options
            Which of what can be left out is asked for.
        """
        attributes = self._attributes
        groups = _functional_groups(attributes, frame_index)
        voi = _source(groups, _FRAME_VOI_LUT, attributes)
        slope, intercept = _rescale(_source(groups, _PIXEL_VALUE_TRANSFORMATION, attributes))
        is_signed = self._is_signed or intercept < 0
        is_plain = slope == 1.0 and intercept == 0.0 and self._modality_lut is None
        shape = text(attributes, "20500020").upper()
        return Presentation(
            photometric_interpretation=self._photometric,
            rescale_slope=slope,
            rescale_intercept=intercept,
            modality_lut=self._modality_lut,
            windows=_windows(voi),
            voi_luts=_voi_luts(voi, self._read_bulk, signed=is_signed),
            range=_range(attributes) if is_plain and not self._is_signed else None,
            is_inverted=self._photometric == "MONOCHROME1" or shape == "INVERSE",
            padding=_padding(attributes, signed=self._is_signed),
            palette=self._palette,
            overlays=self._overlays(frame_index) if options.overlays else (),
            annotations=annotation_lines(attributes, frame_index, options.annotations),
            icc_profile=self._icc_profile if options.colour_space else b"",
        )

    @cached_property
    def _modality_lut(self) -> LookupTable | None:
        item = first_item(self._attributes, _MODALITY_LUT_SEQUENCE)
        return lookup_table(item, self._read_bulk, signed=self._is_signed)

    @cached_property
    def _palette(self) -> Palette | None:
        if self._photometric == "PALETTE COLOR":
            return palette(self._attributes, self._read_bulk)
        # Pixel Presentation (0008,9205): a grey image, part of whose values are colours.
        if text(self._attributes, "00089205").upper() in ("COLOR", "MIXED"):
            return palette(self._attributes, self._read_bulk)
        return None

    @cached_property
    def _icc_profile(self) -> bytes:
        for source in (self._attributes, first_item(self._attributes, _OPTICAL_PATHS)):
            profile = binary(source, _ICC_PROFILE, self._read_bulk)
            if profile:
                return profile
        return b""

    def _overlays(self, frame_index: int) -> tuple[Overlay, ...]:
        return overlays_from_json(self._attributes, frame_index, self._read_bulk)


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


def _range(attributes: Attributes) -> tuple[float, float] | None:
    """Return the range of values that mean something by themselves (PS3.4 §N.2.1.2).

    Values of up to 8 bits are what was on the screen of who made them: without a VOI
    transformation they are shown as they are. Wider ones seldom use their range, and label
    maps never.
    """
    kind = text(attributes, "00620001").upper()
    greatest = integer(attributes, "0062000E")
    if kind == "FRACTIONAL" and greatest and greatest > 0:
        return 0.0, float(greatest)
    bits = integer(attributes, "00280101") or 0
    if kind == "LABELMAP" or not 0 < bits <= _BITS_OF_A_BYTE:
        return None
    return 0.0, float((1 << bits) - 1)


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
