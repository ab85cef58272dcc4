"""Pixels: decoded values and shown grey levels against independent pipelines."""

import csv
import hashlib
import io
import warnings
import zlib

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.pixels import apply_modality_lut, convert_color_space

from archive.auth.principal import ANONYMOUS
from archive.dicom.instance import PixelDescription
from archive.dicom.parse import parse_instance
from archive.dicom.part10 import read_file_meta
from archive.dicom.transfer_syntax import transfer_syntax
from archive.errors import (
    ArchiveError,
    InvalidInstanceError,
    InvalidRequestError,
    NotAcceptableError,
)
from archive.render.decode import DecodedFrame, decode_frame
from archive.render.jobs import FrameSource, TranscodeJob
from archive.render.native import little_endian_frame
from archive.render.options import (
    RenderOptions,
    Window,
    parse_quality,
    parse_viewport,
    parse_window,
)
from archive.render.pipeline import render_frame
from archive.render.pool import RenderPool
from archive.render.presentation import Presentation, pixel_description
from archive.render.targets import TARGETS
from archive.render.transcode import encode_frame
from tests.conftest import store, wheel_file

# The one codestream whose size marker holds a delimiter's bytes, video, and 1-bit RLE.
_UNDECODABLE = ("JPEG2000-embedded-sequence-delimiter", "liver-rle", "h264", "mpeg2")


def decoded(body: bytes, index: int) -> tuple[DecodedFrame, PixelDescription]:
    parsed = parse_instance(body, read_file_meta(body))
    table, description = parsed.frames, pixel_description(parsed.attributes)
    data = zlib.decompress(body[parsed.dataset_offset :], -15) if table.inflated else body
    spans = table.spans(index)
    if table.kind == 0:  # in words, the last sample of an odd frame lies behind it
        spans = ((spans[0][0], spans[0][1] + spans[0][1] % 2),)
    frame = b"".join(data[offset : offset + length] for offset, length in spans)
    syntax = transfer_syntax(parsed.transfer_syntax_uid)
    if not syntax.encapsulated:
        in_words = parsed.attributes["7FE00010"]["vr"] == "OW" if syntax.big_endian else False
        frame = little_endian_frame(
            frame,
            description,
            syntax.uid,
            skipped_bits=table.bit_offset(index),
            word_bytes=max(description.bits_allocated // 8, 1 + in_words)
            if syntax.big_endian
            else 1,
        )
        return decode_frame(frame, description, "1.2.840.10008.1.2.1"), description
    return decode_frame(frame, description, syntax.uid), description


def test_first_and_last_frames_have_the_expected_hashes(shared_dicom):
    rows = csv.DictReader((shared_dicom / "expected_pixels.csv").read_text().splitlines())
    checked = 0
    for row in rows:
        if not row["file"].startswith("valid/") or not row["sha256_first_raw"]:
            continue
        body = (shared_dicom / row["file"]).read_bytes()
        frames = parse_instance(body, read_file_meta(body)).frames.number_of_frames
        for index, column in ((0, "sha256_first_raw"), (frames - 1, "sha256_last_raw")):
            frame, _ = decoded(body, index)
            digest = hashlib.sha256(np.ascontiguousarray(frame.pixels)).hexdigest()
            assert digest == row[column], (row["file"], index)
            checked += 1
    assert checked > 200


def test_every_decodable_file_of_the_wheel_decodes_as_pydicom_does(wheel_files):
    compared = 0
    for path in wheel_files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = pydicom.pixels.pixel_array(path, index=0, raw=True)
            frame, _ = decoded(path.read_bytes(), 0)
        except (ArchiveError, AttributeError, ValueError, RuntimeError, KeyError):
            continue
        assert np.array_equal(frame.pixels, expected), path.name
        compared += 1
    assert compared > 35


def shown(pixels, presentation=None, options=None, **description) -> np.ndarray:
    rows, columns = pixels.shape[:2]
    settings = {"bits_allocated": 16, "bits_stored": 16, "high_bit": 15} | description
    return render_frame(
        DecodedFrame(pixels, "MONOCHROME2"),
        PixelDescription(rows=rows, columns=columns, **settings),
        presentation or Presentation(),
        options or RenderOptions(),
    )


def _standard(x: float, centre: float, width: float, function: str) -> float:
    """PS3.3 §C.11.2.1.2 and §C.11.2.1.3, letter by letter, for an output of 0 to 255."""
    if function == "LINEAR":
        if x <= centre - 0.5 - (width - 1) / 2:
            return 0
        if x > centre - 0.5 + (width - 1) / 2:
            return 255
        return ((x - (centre - 0.5)) / (width - 1) + 0.5) * 255
    if function == "LINEAR_EXACT":
        if x <= centre - width / 2:
            return 0
        if x > centre + width / 2:
            return 255
        return ((x - centre) / width + 0.5) * 255
    return 255 / (1 + np.exp(-4 * (x - centre) / width))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (2048, 4096), (0, 100), (-600, 1500)])
def test_windows_are_those_of_the_standard(function, centre, width):
    values = np.arange(-1000, 3000, 7, dtype=np.int16).reshape(1, -1)
    window = Window(centre, width, function)
    got = shown(values, Presentation(windows=(window,)), pixel_representation=1)
    expected = [_standard(float(x), centre, width, function) for x in values[0]]
    assert np.abs(got[0].astype(float) - expected).max() <= 1


def test_rescale_comes_before_the_window_and_inversion_after():
    stored = np.array([[0, 1024, 2048]], np.uint16)
    presentation = Presentation(
        rescale_intercept=-1024, windows=(Window(0, 2048, "LINEAR_EXACT"),), is_inverted=True
    )
    assert shown(stored, presentation).tolist() == [[255, 127, 0]] or shown(
        stored, presentation
    ).tolist() == [[255, 128, 0]]


def test_without_a_window_the_values_that_are_no_padding_fill_the_range():
    stored = np.array([[-2000, 0, 500, 1000]], np.int16)
    got = shown(stored, Presentation(padding=(-2000, -2000)), pixel_representation=1)
    assert got.tolist()[0][1:] == [0, 128, 255]


def test_real_files_are_shown_as_numpy_says(archive):
    for name, asked in (("CT_small.dcm", Window(40, 400)), ("MR_small_RLE.dcm", None)):
        path = wheel_file(name)
        ref = store(archive, path).ref
        dataset = pydicom.dcmread(path)
        values = apply_modality_lut(dataset.pixel_array, dataset).astype(float)
        window = asked or Window(float(dataset.WindowCenter), float(dataset.WindowWidth))
        options = RenderOptions(media_type="image/png", window=asked)
        got = archive.render.render(ANONYMOUS, ref, 1, options)
        pixels = np.asarray(Image.open(io.BytesIO(got.body))).astype(float)
        expected = np.vectorize(_standard)(values, window.center, window.width, "LINEAR")
        assert np.abs(pixels - expected).max() <= 1, name


def test_colours_are_those_of_the_conversion_of_the_standard(archive):
    path = wheel_file("SC_rgb_dcmtk_+eb+cy+n2.dcm") if list(
        wheel_file("CT_small.dcm").parent.glob("SC_rgb_dcmtk_+eb+cy+n2.dcm")
    ) else wheel_file("SC_rgb_jpeg_dcmtk.dcm")  # fmt: skip
    ref = store(archive, path).ref
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        raw = pydicom.pixels.pixel_array(path, index=0, raw=True)
    photometric = dataset.PhotometricInterpretation
    expected = raw
    if photometric.startswith("YBR"):
        expected = convert_color_space(raw, "YBR_FULL", "RGB")
    got = archive.render.render(ANONYMOUS, ref, 1, RenderOptions(media_type="image/png"))
    pixels = np.asarray(Image.open(io.BytesIO(got.body))).astype(int)
    assert np.abs(pixels - expected).max() <= 1


def test_each_frame_of_a_cine_is_its_own_picture(archive):
    from archive.cli.demo_data import synthetic_instances

    *_, cine = synthetic_instances()
    ref = store(archive, cine).ref
    pictures = {
        archive.render.render(ANONYMOUS, ref, number, RenderOptions()).body
        for number in range(1, 7)
    }
    assert len(pictures) == 6


@pytest.mark.parametrize("target", sorted(TARGETS - {"1.2.840.10008.1.2.4.50"}))
@pytest.mark.parametrize(
    ("kind", "shape", "bits"),
    [("u1", (67, 73), 8), ("u2", (67, 73), 12), ("i2", (64, 64), 16), ("u1", (65, 71, 3), 8)],
)
def test_transcoding_loses_nothing(target, kind, shape, bits):
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if kind[0] == "i" else (0, 1 << bits)
    pixels = np.random.default_rng(3).integers(low, high, shape).astype(f"<{kind}")
    description = PixelDescription(
        rows=shape[0],
        columns=shape[1],
        samples_per_pixel=3 if len(shape) == 3 else 1,
        bits_allocated=pixels.dtype.itemsize * 8,
        bits_stored=bits,
        high_bit=bits - 1,
        pixel_representation=int(kind[0] == "i"),
        photometric_interpretation="RGB" if len(shape) == 3 else "MONOCHROME2",
    )
    encoded = encode_frame(DecodedFrame(pixels, "x"), description, target)
    again = decode_frame(encoded, description, target)
    assert np.array_equal(again.pixels, pixels)


# -- hostile codestreams -----------------------------------------------------------------------


def job(data: bytes, syntax: str) -> TranscodeJob:
    description = PixelDescription(
        rows=64, columns=64, bits_allocated=16, bits_stored=16, high_bit=15
    )
    source = FrameSource(path=None, spans=(), data=data)
    return TranscodeJob(source, description, syntax, "1.2.840.10008.1.2.1")


@pytest.fixture(scope="module")
def pool():
    made = RenderPool(1, timeout_s=2)
    yield made
    made.close()


@pytest.mark.parametrize("syntax", ["4.50", "4.57", "4.70", "4.80", "4.90", "4.201", "5"])
def test_rubbish_is_refused_and_the_pool_goes_on(pool, syntax):
    uid = f"1.2.840.10008.1.2.{syntax}"
    for rubbish in (
        b"",
        b"\xff\xd8\xff\xf7" + b"\0" * 200,
        b"\xff\x4f\xff\x51" + b"\xff" * 200,
    ):
        with pytest.raises((InvalidInstanceError, NotAcceptableError)):
            pool.submit(job(rubbish, uid))
    assert pool.submit(job(bytes(64 * 64 * 2), "1.2.840.10008.1.2.1")) == bytes(64 * 64 * 2)


def test_a_header_that_lies_about_its_size_is_not_decoded(pool):
    lying = b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xdc\xff\xdc\x01\x01\x11\x00"
    with pytest.raises(InvalidInstanceError, match="65500 x 65500"):
        pool.submit(job(lying, "1.2.840.10008.1.2.4.50"))


def test_a_worker_that_is_killed_costs_its_own_job_only():
    import os
    import signal

    pool = RenderPool(1)
    good = job(bytes(64 * 64 * 2), "1.2.840.10008.1.2.1")
    try:
        pool.submit(good)
        os.kill(pool._processes[0].pid, signal.SIGSTOP)
        os.kill(pool._processes[0].pid, signal.SIGKILL)
        pool._processes[0].wait()
        pool._replace_dead()
        assert pool.submit(good) == bytes(64 * 64 * 2)
    finally:
        pool.close()


@given(st.text(max_size=60))
def test_no_parameter_text_is_more_than_a_bad_request(text):
    for parse in (parse_window, parse_viewport, parse_quality):
        try:
            parse(text)
        except InvalidRequestError as refusal:
            assert "expected" in str(refusal)
