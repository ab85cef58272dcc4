"""Stored values to displayed ones (PS3.3 §C.11, §C.7.6.3.1): pure functions on arrays.

Order (PS3.4 §N.2): modality transformation, VOI window or LUT, presentation (inversion),
overlays, then the part of the image and the size that were asked for, annotations last.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from archive.dicom.instance import PixelDescription
from archive.render.decode import DecodedFrame
from archive.render.drawing import draw_annotations, draw_overlays
from archive.render.lookup_table import LookupTable, Palette
from archive.render.options import RenderOptions, Window
from archive.render.placing import placed
from archive.render.presentation import Presentation

Real = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

# Inverse of PS3.3 §C.7.6.3.1.2, full range and the range of video.
_FROM_YBR_FULL: Final = np.array(
    [[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]], np.float32
)
_FROM_YBR_PARTIAL: Final = np.array(
    [[1.1644, 0.0, 1.5960], [1.1644, -0.3917, -0.8130], [1.1644, 2.0173, 0.0]], np.float32
)
_ALREADY_RGB: Final = frozenset({"YBR_RCT", "YBR_ICT"})
# From this many pixels on, a table of all values costs less than a table or curve for each.
_TABLE_PAYS_PX: Final = 4 * 65536
# So many pixels at once stay in a core's cache: a large image costs 5 times as much in one.
_BLOCK_PX: Final = 1 << 17
_COLOUR_BLOCK_PX: Final = 1 << 15


def render_frame(
    decoded: DecodedFrame,
    description: PixelDescription,
    presentation: Presentation,
    options: RenderOptions,
    raw: npt.NDArray[Any] | None = None,
) -> Bytes:
    """Return the displayed pixels of one frame.

    Parameters
    ----------
    raw
        The same frame with every bit that was allocated, for overlays that lie in unused bits.

    Returns
    -------
    array of uint8
        Shape (rows, columns) for grey, (rows, columns, 3) for RGB.
    """
    shown = _shown(decoded, description, presentation, options.window)
    if presentation.overlays:
        shown = draw_overlays(shown, presentation.overlays, raw)
    if options.viewport:
        shown = placed(shown, options.viewport)
    return draw_annotations(shown, *presentation.annotations)


def in_display_colours(decoded: DecodedFrame, description: PixelDescription) -> DecodedFrame:
    """Return a frame of colours as displayed, which no option changes; others as they are."""
    if decoded.pixels.ndim != 3 or decoded.is_displayed:
        return decoded
    shown = _colour(decoded.pixels, decoded.photometric_interpretation, description)
    return DecodedFrame(shown, "RGB", is_displayed=True)


def _shown(
    decoded: DecodedFrame,
    description: PixelDescription,
    presentation: Presentation,
    wanted: Window | None,
) -> Bytes:
    photometric, table = decoded.photometric_interpretation, presentation.palette
    if decoded.pixels.ndim == 3 or decoded.is_displayed:
        return in_display_colours(decoded, description).pixels
    if photometric == "PALETTE COLOR" and table is not None:
        return _palette_colour(decoded.pixels, table)
    grey = _grey(decoded.pixels, description, presentation, wanted)
    return grey if table is None else _supplemented(grey, decoded.pixels, table)


# -- grey --------------------------------------------------------------------------------------


def _grey(
    stored: npt.NDArray[Any],
    description: PixelDescription,
    presentation: Presentation,
    wanted: Window | None,
) -> Bytes:
    voi = _voi(stored, description, presentation, wanted)
    shown = _of_table(stored, presentation, voi)
    if shown is None:
        shown = _in_blocks(stored, presentation, voi)
    padding = _padding(stored, presentation)
    if padding is not None:
        # Padding is background, whichever way the grey scale runs (PS3.3 §C.7.5.1.1.2).
        shown[padding] = 0
    return shown


def _of_table(
    stored: npt.NDArray[Any], presentation: Presentation, voi: Window | LookupTable
) -> Bytes | None:
    """Return the displayed values by way of a table of what occurs, where that is cheaper."""
    is_plain = isinstance(voi, Window) and voi.function != "SIGMOID"
    if is_plain and presentation.modality_lut is None:
        return None
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize > 2:
        return None
    if stored.size < _TABLE_PAYS_PX:
        return None
    least = int(stored.min())
    occurring = np.arange(least, int(stored.max()) + 1)
    table = _presented(occurring.astype(stored.dtype), presentation, voi)
    indices = stored if least == 0 else np.subtract(stored, least, dtype=np.int32)
    shown: Bytes = table.take(indices)
    return shown


def _in_blocks(
    stored: npt.NDArray[Any], presentation: Presentation, voi: Window | LookupTable
) -> Bytes:
    if stored.size <= _BLOCK_PX:
        return _presented(stored, presentation, voi)
    values = stored.reshape(-1)
    shown = np.empty(values.size, np.uint8)
    for start in range(0, values.size, _BLOCK_PX):
        block = slice(start, start + _BLOCK_PX)
        shown[block] = _presented(values[block], presentation, voi)
    return shown.reshape(stored.shape)


def _presented(
    stored: npt.NDArray[Any], presentation: Presentation, voi: Window | LookupTable
) -> Bytes:
    values = _modality(stored, presentation)
    if isinstance(voi, Window):
        shown = _windowed(values, voi, may_be_nan=stored.dtype.kind == "f")
    else:
        shown = _by_table(values, voi)
    if presentation.is_inverted:
        np.invert(shown, out=shown)
    return shown


def _voi(
    stored: npt.NDArray[Any],
    description: PixelDescription,
    presentation: Presentation,
    wanted: Window | None,
) -> Window | LookupTable:
    """Return the VOI transformation: the one asked for, else the instance's own, else a range.

    Of a window and a VOI LUT in one instance either may be applied (PS3.3 §C.11.2.1.1).
    """
    if wanted is not None:
        return wanted
    if description.bits_allocated == 1:
        return Window(0.5, 1.0, "LINEAR_EXACT")
    if presentation.windows:
        return presentation.windows[0]
    if presentation.voi_luts:
        return presentation.voi_luts[0]
    if presentation.range is not None:
        return _spread(*presentation.range)
    return _occurring(stored, description, presentation)


def _occurring(
    stored: npt.NDArray[Any], description: PixelDescription, presentation: Presentation
) -> Window:
    """Return the window over what occurs in the frame and is no padding."""
    padding = _padding(stored, presentation)
    kept = stored if padding is None else stored[~padding]
    if kept.dtype.kind == "f":
        kept = kept[np.isfinite(kept)]
    if not kept.size:
        return _spread(0.0, 1.0)
    ends = np.array([kept.min(), kept.max()])
    if presentation.modality_lut is not None:
        ends = np.arange(int(ends[0]), int(ends[1]) + 1)
    values = _modality(ends, presentation)
    least, greatest = float(values.min()), float(values.max())
    if least < greatest:
        return _spread(least, greatest)
    # One value alone has no range of its own: what could have been stored is one.
    bits = description.bits_stored or 1
    lowest = -(1 << (bits - 1)) if description.pixel_representation else 0
    return _spread(float(lowest), float(lowest + (1 << bits) - 1))


def _spread(least: float, greatest: float) -> Window:
    return Window((least + greatest) / 2, max(greatest - least, 1e-12), "LINEAR_EXACT")


def _padding(
    stored: npt.NDArray[Any], presentation: Presentation
) -> npt.NDArray[np.bool_] | None:
    if presentation.padding is None:
        return None
    low, high = presentation.padding
    return (stored >= low) & (stored <= high)


def _modality(stored: npt.NDArray[Any], presentation: Presentation) -> Real:
    # Single precision holds 24 bits: wider values would lose what a narrow window shows.
    kind: type[np.float32 | np.float64]
    kind = np.float64 if stored.dtype.itemsize > 2 else np.float32
    table = presentation.modality_lut
    if table is not None:
        entries = np.frombuffer(table.entries, "<u2").astype(kind)
        mapped: Real = entries[_indices(stored, table)]
        return mapped
    values: Real = stored.astype(kind)
    if presentation.rescale_slope != 1.0:
        values *= kind(presentation.rescale_slope)
    if presentation.rescale_intercept:
        values += kind(presentation.rescale_intercept)
    return values


def _indices(values: npt.NDArray[Any], table: LookupTable) -> npt.NDArray[np.int64]:
    limits = table.first_mapped, table.first_mapped + table.length - 1
    whole = np.rint(np.clip(np.nan_to_num(values), *limits)).astype(np.int64)
    indices: npt.NDArray[np.int64] = whole - table.first_mapped
    return indices


def _windowed(values: Real, window: Window, *, may_be_nan: bool) -> Bytes:
    """Apply a window in place (PS3.3 §C.11.2.1.2.1, §C.11.2.1.3)."""
    kind = values.dtype.type
    centre, width = kind(window.center), kind(window.width)
    if window.function == "SIGMOID":
        with np.errstate(over="ignore"):
            values = kind(255) / (1 + np.exp(kind(-4) * (values - centre) / width))
    elif window.function == "LINEAR_EXACT":
        values -= centre
        values *= kind(255) / width
        values += kind(127.5)
    elif width <= 1:
        return np.where(values <= centre - kind(0.5), 0, 255).astype(np.uint8)
    else:
        values -= centre - kind(0.5)
        values *= kind(255) / (width - 1)
        values += kind(127.5)
    # What the least is says whether there is any; no stored integer becomes one.
    if may_be_nan and np.isnan(values.min()):
        np.nan_to_num(values, copy=False)
    np.clip(values, 0, 255, out=values)
    np.rint(values, out=values)
    return values.astype(np.uint8)


def _by_table(values: Real, table: LookupTable) -> Bytes:
    entries = np.frombuffer(table.entries, "<u2").astype(np.float32)
    scaled = np.rint(entries * (np.float32(255) / ((1 << table.bits) - 1)))
    shown: Bytes = np.clip(scaled, 0, 255).astype(np.uint8)[_indices(values, table)]
    return shown


# -- colour ------------------------------------------------------------------------------------


def _colour(stored: npt.NDArray[Any], photometric: str, description: PixelDescription) -> Bytes:
    shown = _to_bytes(stored, description)
    if photometric.startswith("YBR_PARTIAL"):
        return _from_ybr(shown, _FROM_YBR_PARTIAL, black=16)
    if photometric.startswith("YBR") and photometric not in _ALREADY_RGB:
        return _from_ybr(shown, _FROM_YBR_FULL, black=0)
    # Retired, with a fourth sample: alpha before the colours, or black behind them.
    if photometric == "ARGB" and shown.shape[2] > 3:
        return np.ascontiguousarray(shown[..., 1:4])
    if photometric == "CMYK" and shown.shape[2] > 3:
        light = 255 - shown.astype(np.uint16)
        return (light[..., :3] * light[..., 3:4] // 255).astype(np.uint8)
    if shown.shape[2] < 3:
        return np.ascontiguousarray(shown[..., 0])
    return np.ascontiguousarray(shown[..., :3])


def _to_bytes(stored: npt.NDArray[Any], description: PixelDescription) -> Bytes:
    if stored.dtype == np.uint8 and description.bits_stored in (0, 8):
        return stored
    greatest = (1 << max(description.bits_stored, 1)) - 1
    scaled = stored.astype(np.float32) * (np.float32(255) / greatest)
    shown: Bytes = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return shown


def _from_ybr(ybr: Bytes, matrix: npt.NDArray[np.float32], *, black: int) -> Bytes:
    zero = np.array([black, 128, 128], np.float32)
    pixels = ybr.reshape(-1, 3)
    shown = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _COLOUR_BLOCK_PX):
        block = slice(start, start + _COLOUR_BLOCK_PX)
        rgb = np.subtract(pixels[block], zero, dtype=np.float32) @ matrix.T
        np.clip(rgb, 0, 255, out=rgb)
        np.rint(rgb, out=rgb)
        shown[block] = rgb
    return shown.reshape(ybr.shape)


def _palette_colour(stored: npt.NDArray[Any], palette: Palette) -> Bytes:
    channels = [
        _by_table_exact(stored, table) for table in (palette.red, palette.green, palette.blue)
    ]
    return np.stack(channels, axis=-1)


def _supplemented(grey: Bytes, stored: npt.NDArray[Any], palette: Palette) -> Bytes:
    """Colour the values that a supplemental palette maps (PS3.3 §C.7.6.19)."""
    shown = np.repeat(grey[..., np.newaxis], 3, axis=2)
    coloured = stored >= palette.red.first_mapped
    shown[coloured] = _palette_colour(stored[coloured], palette)
    return shown


def _by_table_exact(stored: npt.NDArray[Any], table: LookupTable) -> Bytes:
    entries = np.frombuffer(table.entries, "<u2")
    shown: Bytes = (entries >> max(table.bits - 8, 0)).astype(np.uint8)
    return shown[_indices(stored, table)]
