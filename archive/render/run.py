"""Doing a job: the only module that brings numpy and the decoders in."""

from archive.render.decode import DecodedFrame, decode_frame
from archive.render.encode import encode_image
from archive.render.jobs import Job, RenderJob, TranscodeJob
from archive.render.pipeline import render_frame
from archive.render.transcode import encode_frame

_BASELINE = "1.2.840.10008.1.2.4.50"
_AS_IT_IS = frozenset({"MONOCHROME2", "RGB", "YBR_FULL_422", "YBR_FULL"})


def run_job(job: Job) -> bytes:
    """Return the image file, or the frame.

    Raises
    ------
    ArchiveError
        If the frame cannot be decoded, or not written as asked.
    """
    frame = job.source.read()
    match job:
        case RenderJob():
            if _passes_through(job):
                return frame
            shown = render_frame(
                _decoded(job, frame), job.description, job.presentation, job.options
            )
            return encode_image(shown, job.options.media_type, job.options.quality)
        case TranscodeJob():
            return encode_frame(
                _decoded(job, frame), job.description, job.target_transfer_syntax_uid
            )


def _decoded(job: Job, frame: bytes) -> DecodedFrame:
    return decode_frame(frame, job.description, job.transfer_syntax_uid)


def _passes_through(job: RenderJob) -> bool:
    """Tell whether the stored JPEG is what rendering would show anyway."""
    options, presentation = job.options, job.presentation
    return (
        job.transfer_syntax_uid == _BASELINE
        and options.media_type == "image/jpeg"
        and options == type(options)()
        and not presentation.is_inverted
        and not (job.description.samples_per_pixel == 1 and presentation.windows)
        and job.description.photometric_interpretation in _AS_IT_IS
    )
