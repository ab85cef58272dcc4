"""Doing a job: the only module that brings numpy and the decoders in."""

from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from archive.render.decode import DecodedFrame, decode_frame
from archive.render.decoded import DecodedFrames
from archive.render.drawing import icon
from archive.render.encode import encode_animation, encode_image
from archive.render.jobs import AnimationJob, IconJob, Job, RenderJob, TranscodeJob
from archive.render.passing import passes_through
from archive.render.pipeline import in_display_colours, render_frame
from archive.render.transcode import encode_frame

_WIDEST_OVERLAY_BITS: Final = 16


def run_job(job: Job, decoded: DecodedFrames | None = None) -> bytes:
    """Return the image file, or the frame.

    Parameters
    ----------
    decoded
        The frames that jobs before this one had decoded; None: none are kept.

    Raises
    ------
    ArchiveError
        If the frame cannot be decoded, or not written as asked.
    """
    match job:
        case RenderJob():
            return _rendered(job, decoded or DecodedFrames(0))
        case AnimationJob():
            passing = DecodedFrames(0)  # a film would push out what is looked at
            frames = [_shown(frame, frame.source.read(), passing) for frame in job.frames]
            return encode_animation(frames, job.durations_ms)
        case IconJob():
            return encode_image(icon(job.label, (job.width, job.height)), job.media_type)
        case TranscodeJob():
            frame = _decoded(job, job.source.read())
            return encode_frame(frame, job.description, job.target_transfer_syntax_uid)


def _rendered(job: RenderJob, decoded: DecodedFrames) -> bytes:
    frame = job.source.read()
    if passes_through(job, frame):
        return frame
    return encode_image(
        _shown(job, frame, decoded),
        job.options.media_type,
        job.options.quality,
        colour_space=job.options.colour_space,
        icc_profile=job.presentation.icc_profile,
    )


def _shown(job: RenderJob, frame: bytes, decoded: DecodedFrames) -> npt.NDArray[np.uint8]:
    return render_frame(
        decoded.get_or_decode(
            job.frame_name,
            lambda: in_display_colours(_decoded(job, frame), job.description),
        ),
        job.description,
        job.presentation,
        job.options,
        _with_every_bit(job, frame),
    )


def _decoded(job: RenderJob | TranscodeJob, frame: bytes) -> DecodedFrame:
    return decode_frame(frame, job.description, job.transfer_syntax_uid)


def _with_every_bit(job: RenderJob, frame: bytes) -> npt.NDArray[Any] | None:
    """Return the frame with the bits behind which overlays were hidden, where one needs it."""
    described = job.description
    if all(overlay.bits for overlay in job.presentation.overlays):
        return None
    if not 1 < described.bits_allocated <= _WIDEST_OVERLAY_BITS:
        return None
    whole = replace(
        described,
        bits_stored=described.bits_allocated,
        high_bit=described.bits_allocated - 1,
        pixel_representation=0,
    )
    return _decoded(replace(job, description=whole), frame).pixels
