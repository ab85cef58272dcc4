"""Stored JPEG is sent as it is exactly when decoding it shows what rendering would."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from archive.dicom.instance import PixelDescription
from archive.render.jobs import FrameSource, RenderJob
from archive.render.options import RenderOptions, Viewport, Window
from archive.render.passing import passes_through
from archive.render.presentation import Presentation
from archive.render.run import run_job

BASELINE = "1.2.840.10008.1.2.4.50"
GREY = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
COLOUR = np.stack([GREY, 255 - GREY, np.full_like(GREY, 90)], axis=-1)


def jpeg(pixels, **options) -> bytes:
    output = io.BytesIO()
    Image.fromarray(pixels).save(output, "JPEG", quality=95, **options)
    return output.getvalue()


def job(body: bytes, photometric: str, **changes) -> RenderJob:
    samples = 1 if photometric.startswith("MONO") else 3
    described = PixelDescription(
        rows=48, columns=64, bits_allocated=8, bits_stored=8, high_bit=7,
        samples_per_pixel=samples, photometric_interpretation=photometric,
    )  # fmt: skip
    return RenderJob(
        source=FrameSource(None, (), body),
        description=changes.pop("description", described),
        transfer_syntax_uid=changes.pop("syntax", BASELINE),
        presentation=replace(Presentation(photometric, range=(0.0, 255.0)), **changes),
        options=RenderOptions(),
    )


@pytest.mark.parametrize(
    ("body", "photometric"),
    [
        (jpeg(GREY), "MONOCHROME2"),
        (jpeg(COLOUR), "YBR_FULL_422"),
        (jpeg(COLOUR, subsampling=0), "YBR_FULL"),
        (jpeg(COLOUR, keep_rgb=True), "RGB"),
    ],
)
def test_what_browsers_show_right_is_sent_as_it_is(body, photometric):
    made = job(body, photometric)
    assert passes_through(made, body)
    assert run_job(made) == body
    # And it is indeed what rendering makes of it.
    shown = run_job(replace(made, options=RenderOptions(media_type="image/png")))
    difference = np.asarray(Image.open(io.BytesIO(shown))).astype(int) - np.asarray(
        Image.open(io.BytesIO(body))
    )
    assert np.abs(difference).mean() < 2


def test_a_window_changes_grey_levels_only():
    options = RenderOptions(window=Window(40, 80))
    colour, grey = jpeg(COLOUR), jpeg(GREY)
    assert passes_through(replace(job(colour, "YBR_FULL_422"), options=options), colour)
    assert not passes_through(replace(job(grey, "MONOCHROME2"), options=options), grey)


@pytest.mark.parametrize(
    ("body", "photometric"), [(jpeg(COLOUR), "RGB"), (jpeg(COLOUR, keep_rgb=True), "YBR_FULL")]
)
def test_what_browsers_would_show_in_wrong_colours_is_rendered(body, photometric):
    made = job(body, photometric)
    assert not passes_through(made, body)
    assert run_job(made) != body


@pytest.mark.parametrize(
    "changes",
    [
        {"is_inverted": True},
        {"windows": (Window(40, 80),)},
        {"padding": (0.0, 0.0)},
        {"range": None},
        {"syntax": "1.2.840.10008.1.2.4.51"},
    ],
)
def test_what_would_be_changed_is_not_passed(changes):
    body = jpeg(GREY)
    assert not passes_through(job(body, "MONOCHROME2", **changes), body)


@pytest.mark.parametrize(
    "options",
    [
        RenderOptions(media_type="image/png"),
        RenderOptions(quality=50),
        RenderOptions(viewport=Viewport(9, 9)),
        RenderOptions(annotations=("patient",)),
        RenderOptions(colour_space="srgb"),
    ],
)
def test_whoever_asks_for_something_gets_it_made(options):
    body = jpeg(COLOUR)
    assert not passes_through(replace(job(body, "YBR_FULL_422"), options=options), body)


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xd8", b"no JPEG", jpeg(COLOUR, progressive=True), jpeg(GREY[:9])]
)
def test_what_is_no_baseline_jpeg_of_that_size_is_not_passed(body):
    assert not passes_through(job(body, "YBR_FULL_422"), body)
