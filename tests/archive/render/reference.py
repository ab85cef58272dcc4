"""An independent rendering: pydicom's functions and numpy, none of the archive's code."""

import warnings

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing, convert_color_space
from pydicom.pixels.processing import apply_color_lut

COPIED = (
    "BitsStored", "BitsAllocated", "PixelRepresentation", "PhotometricInterpretation",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction",
)  # fmt: skip


def stored_values(path, index: int) -> np.ndarray:
    """The frame as pydicom decodes it, no colour converted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.pixels.pixel_array(path, index=index, raw=True)


def frame_dataset(dataset: Dataset, index: int) -> Dataset:
    """What pydicom's functions read, with functional groups laid over it (PS3.3 §C.7.6.16)."""
    flat = Dataset()
    for keyword in COPIED:
        if keyword in dataset:
            _copy(dataset, flat, keyword)
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    per_frame = (dataset.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1]
    for group in (*shared, *per_frame):
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(name) or []:
                for keyword in COPIED:
                    if keyword in item:
                        _copy(item, flat, keyword)
    return flat


def _copy(source: Dataset, target: Dataset, keyword: str) -> None:
    # An element of its own: what is asked for must not end up in the source.
    element = source[keyword]
    target.add_new(element.tag, element.VR, element.value)


def grey(dataset: Dataset, stored: np.ndarray, index: int, window=None) -> np.ndarray | None:
    """Displayed values 0 to 255 as floats; None where pydicom's functions refuse the file.

    ``window`` is (center, width, function) asked for.
    """
    flat = frame_dataset(dataset, index)
    if window is not None:
        flat.WindowCenter, flat.WindowWidth, flat.VOILUTFunction = window
        flat.pop("VOILUTSequence", None)
    try:
        values = apply_modality_lut(stored, flat)
        shown = _voi(flat, values, stored, dataset)
    except (ValueError, KeyError, NotImplementedError, AttributeError, IndexError):
        return None
    inverse = dataset.get("PresentationLUTShape") == "INVERSE"
    if inverse or dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 255 - shown
    padding = padding_mask(dataset, stored)
    return shown if padding is None else np.where(padding, 0, shown)


def _voi(flat: Dataset, values, stored, dataset: Dataset) -> np.ndarray:
    if "WindowCenter" in flat and flat.WindowCenter is not None:
        # pydicom spreads a window over the range of the modality values: from there to 0..255.
        low, high = modality_range(flat)
        spread = apply_windowing(values.astype(np.float64), flat)
        return (spread - low) / (high - low) * 255
    if flat.get("VOILUTSequence"):
        bits = flat.VOILUTSequence[0].LUTDescriptor[2]
        return apply_voi(values, flat).astype(float) / (2**bits - 1) * 255
    values = values.astype(float)
    kind = dataset.get("SegmentationType")
    plain = (
        not flat.get("ModalityLUTSequence")
        and float(flat.get("RescaleSlope", 1) or 1) == 1
        and float(flat.get("RescaleIntercept", 0) or 0) == 0
        and not flat.get("PixelRepresentation", 0)
    )
    if plain and 1 < flat.get("BitsStored", 16) <= 8 and kind != "LABELMAP":
        return values / (2**flat.BitsStored - 1) * 255
    padding = padding_mask(dataset, stored)
    kept = values if padding is None else values[~padding]
    if not kept.size or kept.min() == kept.max():
        raise ValueError("one value has no range")
    return np.clip((values - kept.min()) / (kept.max() - kept.min()), 0, 1) * 255


def modality_range(flat: Dataset) -> tuple[float, float]:
    """The range pydicom's windowing spreads to (PS3.3 §C.11.2.1.2)."""
    if flat.get("ModalityLUTSequence"):
        return 0, 2 ** flat.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    bits = flat.BitsStored
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if flat.PixelRepresentation else (
        0, 2**bits - 1)  # fmt: skip
    if flat.get("RescaleSlope") is not None and flat.get("RescaleIntercept") is not None:
        slope, intercept = float(flat.RescaleSlope), float(flat.RescaleIntercept)
        low, high = low * slope + intercept, high * slope + intercept
    return low, high


def padding_mask(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where pixel padding lies (PS3.3 §C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None or stored.ndim != 2:
        return None
    if isinstance(value, bytes):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = [int(value), int(value if limit is None else limit)]
    if dataset.get("PixelRepresentation") == 1:
        ends = [end - 65536 if end > 32767 else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


def colour(dataset: Dataset, stored: np.ndarray, path) -> np.ndarray:
    """RGB of 8 bits."""
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        mapped = apply_color_lut(stored, dataset)
        return mapped >> 8 if mapped.dtype.itemsize == 2 else mapped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = stored
        if photometric in ("YBR_FULL", "YBR_FULL_422"):
            shown = convert_color_space(stored, "YBR_FULL", "RGB")
    if dataset.BitsStored != 8:
        shown = np.rint(shown / (2**dataset.BitsStored - 1) * 255)
    return shown
