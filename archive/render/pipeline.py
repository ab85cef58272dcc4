"""Stored values to displayed ones (PS3.3 §C.11, §C.7.6.3.1): pure functions on arrays.

Order: modality transformation, VOI window or LUT, presentation (inversion), then the part of
the image and the size that were asked for.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from archive.dicom.instance import PixelDescription
from archive.render.decode import DecodedFrame
from archive.render.lookup_table import LookupTable, Palette
from archive.render.options import RenderOptions, Viewport, Window
from archive.render.presentation import Presentation

Grey = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

# Inverse of PS3.3 §C.7.6.3.1.2, full range.
_FROM_YBR: Final = np.array(
    [[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]], np.float32
)


def render_frame(
    decoded: DecodedFrame,
    description: PixelDescription,
    presentation: Presentation,
    options: RenderOptions,
) -> Bytes:
    """Return the displayed pixels of one frame.

    Returns
    -------
    array of uint8
        Shape (rows, columns) for grey, (rows, columns, 3) for RGB.
    """
    photometric = decoded.photometric_interpretation
    if photometric == "PALETTE COLOR" and presentation.palette is not None:
        shown = _palette_colour(decoded.pixels, presentation.palette)
    elif decoded.pixels.ndim == 3:
        shown = _colour(decoded.pixels, photometric, description)
    else:
        shown = _grey(decoded.pixels, description, presentation, options.window)
    return _placed(shown, options.viewport) if options.viewport else shown


# -- grey --------------------------------------------------------------------------------------


def _grey(
    stored: npt.NDArray[Any],
    description: PixelDescription,
    presentation: Presentation,
    wanted: Window | None,
) -> Bytes:
    shown: Bytes
    if description.bits_allocated == 1:
        shown = (stored != 0).astype(np.uint8) * np.uint8(255)
    else:
        values = _modality(stored, presentation)
        window = wanted or next(iter(presentation.windows), None)
        if window is not None:
            shown = _windowed(values, window)
        elif presentation.voi_luts:
            shown = _by_table(values, presentation.voi_luts[0])
        else:
            shown = _windowed(values, _whole_range(values, stored, presentation))
    if not presentation.is_inverted:
        return shown
    inverted: Bytes = np.invert(shown)
    return inverted


def _modality(stored: npt.NDArray[Any], presentation: Presentation) -> Grey:
    table = presentation.modality_lut
    if table is not None:
        entries = np.frombuffer(table.entries, "<u2").astype(np.float32)
        mapped: Grey = entries[_indices(stored, table)]
        return mapped
    values = stored.astype(np.float32)
    if presentation.rescale_slope != 1.0:
        values *= np.float32(presentation.rescale_slope)
    if presentation.rescale_intercept:
        values += np.float32(presentation.rescale_intercept)
    return values


def _indices(values: npt.NDArray[Any], table: LookupTable) -> npt.NDArray[np.int64]:
    whole = np.rint(values).astype(np.int64) - table.first_mapped
    indices: npt.NDArray[np.int64] = np.clip(whole, 0, table.length - 1)
    return indices


def _windowed(values: Grey, window: Window) -> Bytes:
    """Apply a window in place (PS3.3 §C.11.2.1.2.1, §C.11.2.1.3)."""
    centre, width = np.float32(window.center), np.float32(window.width)
    if window.function == "SIGMOID":
        with np.errstate(over="ignore"):
            values = np.float32(255) / (1 + np.exp(np.float32(-4) * (values - centre) / width))
    elif window.function == "LINEAR_EXACT":
        values -= centre
        values *= np.float32(255) / width
        values += np.float32(127.5)
    elif width <= 1:
        return np.where(values <= centre - np.float32(0.5), 0, 255).astype(np.uint8)
    else:
        values -= centre - np.float32(0.5)
        values *= np.float32(255) / (width - 1)
        values += np.float32(127.5)
    np.nan_to_num(values, copy=False)
    np.clip(values, 0, 255, out=values)
    np.rint(values, out=values)
    return values.astype(np.uint8)


def _by_table(values: Grey, table: LookupTable) -> Bytes:
    entries = np.frombuffer(table.entries, "<u2").astype(np.float32)
    scaled = np.rint(entries * (np.float32(255) / ((1 << table.bits) - 1)))
    shown: Bytes = np.clip(scaled, 0, 255).astype(np.uint8)[_indices(values, table)]
    return shown


def _whole_range(values: Grey, stored: npt.NDArray[Any], presentation: Presentation) -> Window:
    """Return the window from the least to the greatest value that is no padding."""
    kept = values
    if presentation.padding is not None:
        low, high = presentation.padding
        kept = values[(stored < low) | (stored > high)]
    kept = kept[np.isfinite(kept)]
    if not kept.size:
        return Window(0.5, 1.0, "LINEAR_EXACT")
    least, greatest = float(kept.min()), float(kept.max())
    return Window((least + greatest) / 2, max(greatest - least, 1e-6), "LINEAR_EXACT")


# -- colour ------------------------------------------------------------------------------------


def _colour(stored: npt.NDArray[Any], photometric: str, description: PixelDescription) -> Bytes:
    shown = _to_bytes(stored, description)
    if photometric.startswith("YBR") and photometric not in ("YBR_RCT", "YBR_ICT"):
        return _from_ybr(shown)
    return np.ascontiguousarray(shown[..., :3])


def _to_bytes(stored: npt.NDArray[Any], description: PixelDescription) -> Bytes:
    if stored.dtype == np.uint8 and description.bits_stored in (0, 8):
        return stored
    greatest = (1 << max(description.bits_stored, 1)) - 1
    scaled = stored.astype(np.float32) * (np.float32(255) / greatest)
    shown: Bytes = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return shown


def _from_ybr(ybr: Bytes) -> Bytes:
    values = ybr.astype(np.float32)
    values[..., 1:] -= np.float32(128)
    rgb = values @ _FROM_YBR.T
    np.clip(rgb, 0, 255, out=rgb)
    np.rint(rgb, out=rgb)
    shown: Bytes = rgb.astype(np.uint8)
    return shown


def _palette_colour(stored: npt.NDArray[Any], palette: Palette) -> Bytes:
    channels = [
        _by_table_exact(stored, table) for table in (palette.red, palette.green, palette.blue)
    ]
    return np.stack(channels, axis=-1)


def _by_table_exact(stored: npt.NDArray[Any], table: LookupTable) -> Bytes:
    entries = np.frombuffer(table.entries, "<u2")
    shown: Bytes = (entries >> max(table.bits - 8, 0)).astype(np.uint8)
    indices = np.clip(stored.astype(np.int64) - table.first_mapped, 0, table.length - 1)
    return shown[indices]


# -- size --------------------------------------------------------------------------------------


def _placed(shown: Bytes, viewport: Viewport) -> Bytes:
    """Cut, mirror and scale (PS3.18 §8.3.5.1.3); the region's aspect ratio is kept."""
    rows, columns = shown.shape[:2]
    left, top = int(viewport.x), int(viewport.y)
    right = columns if viewport.source_width is None else round(left + viewport.source_width)
    bottom = rows if viewport.source_height is None else round(top + viewport.source_height)
    region = shown[max(top, 0) : min(bottom, rows), max(left, 0) : min(right, columns)]
    if not region.size:
        region = np.zeros((1, 1, *shown.shape[2:]), np.uint8)
    if viewport.flip_horizontal:
        region = region[:, ::-1]
    if viewport.flip_vertical:
        region = region[::-1]
    return _scaled(np.ascontiguousarray(region), viewport.width, viewport.height)


def _scaled(region: Bytes, width: int, height: int) -> Bytes:
    rows, columns = region.shape[:2]
    factor = min(width / columns, height / rows)
    size = (max(round(columns * factor), 1), max(round(rows * factor), 1))
    if size == (columns, rows):
        return region
    image = Image.fromarray(region)
    # Reducing first costs a tenth of filtering every pixel, and looks the same.
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
