"""Stored JPEG that is what rendering would show anyway, and so is sent as it is."""

import struct
from collections.abc import Iterator
from typing import Final

from archive.render.jobs import RenderJob
from archive.render.options import RenderOptions

_BASELINE: Final = "1.2.840.10008.1.2.4.50"
_START_OF_FRAME: Final = 0xC0
_START_OF_SCAN: Final = 0xDA
_JFIF: Final = 0xE0
_ADOBE: Final = 0xEE
_YBR: Final = frozenset({"YBR_FULL_422", "YBR_FULL"})


def passes_through(job: RenderJob, frame: bytes) -> bool:
    """Tell whether a JPEG decoder shows ``frame`` just as the archive would render it."""
    described, presentation = job.description, job.presentation
    # A window is for grey levels: colours are shown as they are (PS3.3 §C.11.2).
    window = job.options.window if described.samples_per_pixel == 3 else None
    if job.transfer_syntax_uid != _BASELINE or job.options != RenderOptions(window=window):
        return False
    if described.samples_per_pixel == 1:
        changes = (
            presentation.is_inverted
            or presentation.windows
            or presentation.voi_luts
            or presentation.padding
            or presentation.palette
            or presentation.range != (0.0, 255.0)
        )
        return not changes and _is_baseline(job, frame)
    if described.samples_per_pixel != 3 or not _is_baseline(job, frame):
        return False
    # Browsers do not know the photometric interpretation: markers tell them the colour space.
    is_ybr = _is_shown_as_ybr(frame)
    return is_ybr == (described.photometric_interpretation in _YBR) and (
        is_ybr or described.photometric_interpretation == "RGB"
    )


def _is_baseline(job: RenderJob, frame: bytes) -> bool:
    for marker, content in _segments(frame):
        if marker == _START_OF_FRAME and len(content) >= 6:
            precision, rows, columns, components = struct.unpack_from(">BHHB", content)
            described = job.description
            wanted = (8, described.rows, described.columns, described.samples_per_pixel)
            return (precision, rows, columns, components) == wanted
    return False


def _is_shown_as_ybr(frame: bytes) -> bool:
    """Follow the rule of the JPEG library that browsers use: JFIF, Adobe, component names."""
    names = b""
    for marker, content in _segments(frame):
        if marker == _JFIF and content[:5] == b"JFIF\0":
            return True
        if marker == _ADOBE and content[:5] == b"Adobe" and len(content) >= 12:
            return content[11] != 0
        if marker == _START_OF_FRAME:
            names = content[6::3][:3]
    return names != b"RGB"


def _segments(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment before the scan."""
    position = 2 if frame[:2] == b"\xff\xd8" else len(frame)
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == _START_OF_SCAN:
            return
        length = int.from_bytes(frame[position + 2 : position + 4], "big")
        yield marker, frame[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)
