"""A worker decodes a frame once, keeps so much and no more, and shows the same as before."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from archive.dicom.instance import PixelDescription
from archive.errors import InvalidInstanceError
from archive.render import run
from archive.render.decode import DecodedFrame
from archive.render.decoded import DecodedFrames
from archive.render.jobs import FrameSource, RenderJob
from archive.render.options import RenderOptions, Viewport, Window
from archive.render.presentation import Presentation

BASELINE = "1.2.840.10008.1.2.4.50"


def frame(size: int) -> DecodedFrame:
    return DecodedFrame(np.zeros(size, np.uint8), "MONOCHROME2")


def jpeg(pixels) -> bytes:
    output = io.BytesIO()
    Image.fromarray(pixels).save(output, "JPEG", quality=95)
    return output.getvalue()


def job(pixels, name: str) -> RenderJob:
    samples = 1 if pixels.ndim == 2 else 3
    photometric = "MONOCHROME2" if samples == 1 else "YBR_FULL_422"
    described = PixelDescription(
        rows=pixels.shape[0], columns=pixels.shape[1], bits_allocated=8, bits_stored=8,
        high_bit=7, samples_per_pixel=samples, photometric_interpretation=photometric,
    )  # fmt: skip
    options = RenderOptions(media_type="image/png")
    source = FrameSource(None, (), jpeg(pixels))
    return RenderJob(source, described, BASELINE, Presentation(photometric), options, name)


def never() -> DecodedFrame:
    raise AssertionError("it is kept, and decoded again")


def test_a_kept_frame_is_not_decoded_again_and_the_longest_unused_goes_first():
    kept = DecodedFrames(250)
    first = kept.get_or_decode("a", lambda: frame(100))
    kept.get_or_decode("b", lambda: frame(100))
    assert kept.get_or_decode("a", never) is first
    kept.get_or_decode("c", lambda: frame(100))
    assert kept.size_bytes == 200
    assert kept.get_or_decode("a", never) is first
    again = frame(100)
    assert kept.get_or_decode("b", lambda: again) is again


def test_what_is_larger_than_all_or_has_no_name_is_not_kept():
    kept = DecodedFrames(100)
    for name, size in (("a", 101), ("", 10)):
        kept.get_or_decode(name, lambda size=size: frame(size))
        assert kept.size_bytes == 0


def test_a_kept_frame_cannot_be_drawn_into():
    kept = DecodedFrames(100).get_or_decode("a", lambda: frame(10))
    with pytest.raises(ValueError, match="read-only"):
        kept.pixels[0] = 1


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3)])
def test_a_window_that_moves_costs_one_decoding_and_shows_the_same(shape, monkeypatch):
    pixels = np.random.default_rng(7).integers(0, 255, shape, np.uint8)
    asked = [
        RenderOptions(media_type="image/png", window=Window(100, width), viewport=viewport)
        for width in (50, 100, 150)
        for viewport in (None, Viewport(20, 20))
    ]
    wanted = [run.run_job(replace(job(pixels, ""), options=options)) for options in asked]
    decode, count = run.decode_frame, 0

    def counted(*arguments) -> DecodedFrame:
        nonlocal count
        count += 1
        return decode(*arguments)

    monkeypatch.setattr(run, "decode_frame", counted)
    kept = DecodedFrames(1 << 20)
    got = [run.run_job(replace(job(pixels, "it"), options=options), kept) for options in asked]
    assert got == wanted
    assert count == 1


def test_other_frames_have_other_names_and_a_refusal_is_not_kept():
    kept = DecodedFrames(1 << 20)
    black, white = np.zeros((48, 64), np.uint8), np.full((48, 64), 255, np.uint8)
    shown = [
        run.run_job(job(pixels, name), kept) for pixels, name in ((black, "0"), (white, "1"))
    ]
    assert shown[0] != shown[1]
    broken = replace(job(black, "2"), source=FrameSource(None, (), b"no JPEG"))
    for _ in range(2):
        with pytest.raises(InvalidInstanceError):
            run.run_job(broken, kept)
    assert run.run_job(job(black, "2"), kept) == shown[0]
