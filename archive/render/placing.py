"""The part of an image that is shown, and its size (PS3.18 §8.3.5.1.3, §9.5.2.5)."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from archive.render.options import Viewport

Bytes = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]


def placed(shown: Bytes, viewport: Viewport) -> Bytes:
    """Cut, mirror and scale; the region's aspect ratio is kept.

    Raises
    ------
    InvalidRequestError
        If the region lies outside the image.
    """
    rows, columns = shown.shape[:2]
    box = viewport.region.box(columns, rows)
    size = viewport.size(box[2] - box[0], box[3] - box[1])
    region = _scaled(shown, box, size)
    if viewport.region.flip_horizontal:
        region = region[:, ::-1]
    if viewport.region.flip_vertical:
        region = region[::-1]
    return np.ascontiguousarray(region)


def _scaled(shown: Bytes, box: Box, size: tuple[int, int]) -> Bytes:
    is_whole = all(edge == int(edge) for edge in box)
    left, top, right, bottom = (int(edge) for edge in box)
    if is_whole and size == (right - left, bottom - top):
        return shown[top:bottom, left:right]
    image = Image.fromarray(shown)
    # Reducing first costs a tenth of filtering every pixel, and looks the same.
    scaled = image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return np.asarray(scaled)
