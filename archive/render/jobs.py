"""What a render worker is asked to do. Light to import: faces' processes make jobs too."""

import os
from dataclasses import dataclass

from archive.dicom.frame_table import Span
from archive.dicom.instance import PixelDescription
from archive.errors import UnavailableError
from archive.render.options import RenderedMediaType, RenderOptions
from archive.render.presentation import Presentation


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Where a frame's bytes are: in a file the worker reads itself, or here.

    Parameters
    ----------
    path
        The object's file; None when the bytes are given.
    spans
        Offset and length of each fragment in the file.
    data
        The bytes, when there is no file.
    """

    path: str | None
    spans: tuple[Span, ...]
    data: bytes | None

    def read(self) -> bytes:
        """Return the frame's bytes, its fragments joined.

        Raises
        ------
        UnavailableError
            If the file ends early.
        """
        if self.data is not None:
            return self.data
        descriptor = os.open(self.path or "", os.O_RDONLY)
        try:
            parts = [os.pread(descriptor, length, offset) for offset, length in self.spans]
        finally:
            os.close(descriptor)
        frame = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(frame) != sum(length for _, length in self.spans):
            raise UnavailableError("a stored object is shorter than its frame table says")
        return frame


@dataclass(frozen=True, slots=True)
class RenderJob:
    """Render one frame to an image file; native frames are little endian, from a byte on.

    Parameters
    ----------
    frame_name
        Says which frame of which content it is, for who keeps decoded frames; "": none does.
    """

    source: FrameSource
    description: PixelDescription
    transfer_syntax_uid: str
    presentation: Presentation
    options: RenderOptions
    frame_name: str = ""


@dataclass(frozen=True, slots=True)
class TranscodeJob:
    """Write one frame in another transfer syntax."""

    source: FrameSource
    description: PixelDescription
    transfer_syntax_uid: str
    target_transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class AnimationJob:
    """Render frames to one animated image.

    Parameters
    ----------
    frames
        In the order they are shown.
    durations_ms
        How long each is shown.
    """

    frames: tuple[RenderJob, ...]
    durations_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class IconJob:
    """Draw a picture that stands for what has no image.

    Parameters
    ----------
    label
        A few letters.
    width, height
        In pixels.
    """

    label: str
    width: int
    height: int
    media_type: RenderedMediaType


Job = RenderJob | TranscodeJob | AnimationJob | IconJob
