"""Codecs: what is written is read back, decoders agree, and headers that lie cost nothing."""

import struct
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from archive.dicom.instance import PixelDescription
from archive.errors import InvalidInstanceError, NotAcceptableError
from archive.render import codecs, targets
from archive.render.decode import DecodedFrame, decode_frame
from archive.render.jobs import FrameSource, TranscodeJob
from archive.render.pool import RenderPool
from archive.render.targets import JPEG_BASELINE, TARGETS, refusal
from archive.render.transcode import encode_frame

ROOT = "1.2.840.10008.1.2."
NATIVE = ROOT + "1"
LOSSLESS = sorted(TARGETS - {JPEG_BASELINE})


@st.composite
def images(draw):
    """Stored values of any depth, sign and size, and the description of them."""
    bits = draw(st.integers(2, 16))
    samples = draw(st.sampled_from([1, 1, 3]))
    signed = samples == 1 and draw(st.booleans())
    allocated = 8 if bits <= 8 and draw(st.booleans()) else 16
    rows, columns = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    shape = (rows, columns, 3) if samples == 3 else (rows, columns)
    kind = f"<{'i' if signed else 'u'}{allocated // 8}"
    if draw(st.booleans()):
        pixels = draw(arrays(kind, shape, elements=st.sampled_from([low, 0, high])))
    else:
        chance = np.random.default_rng(draw(st.integers(0, 2**32)))
        pixels = chance.integers(low, high, shape, endpoint=True).astype(kind)
    description = PixelDescription(
        rows,
        columns,
        samples,
        allocated,
        bits,
        bits - 1,
        int(signed),
        "RGB" if samples == 3 else "MONOCHROME2",
    )
    return pixels, description


@settings(max_examples=60, deadline=None)
@given(images(), st.sampled_from(LOSSLESS))
def test_what_is_encoded_without_loss_is_decoded_again(image, target):
    pixels, description = image
    assert refusal(NATIVE, description, target) == ""
    encoded = encode_frame(DecodedFrame(pixels, "x"), description, target)
    again = decode_frame(encoded, description, target)
    assert again.pixels.dtype == pixels.dtype
    assert np.array_equal(again.pixels, pixels)
    assert target == NATIVE or len(encoded) % 2 == 0


@settings(max_examples=30, deadline=None)
@given(images())
def test_samples_wider_than_bits_stored_says_survive_too(image):
    pixels, description = image
    narrower = PixelDescription(
        description.rows,
        description.columns,
        description.samples_per_pixel,
        description.bits_allocated,
        max(description.bits_stored - 3, 2),
        max(description.bits_stored - 4, 1),
        0,
        description.photometric_interpretation,
    )
    unsigned = pixels.view(pixels.dtype.str.replace("i", "u"))
    for target in LOSSLESS:
        encoded = encode_frame(DecodedFrame(unsigned, "x"), narrower, target)
        if target != NATIVE:  # native ones are masked: other bits are none of the sample's
            assert np.array_equal(decode_frame(encoded, narrower, target).pixels, unsigned)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_jpeg_baseline_keeps_colours_whatever_space_they_are_in(photometric):
    rows = columns = 64
    ramp = np.linspace(0, 255, rows * columns).astype(np.uint8).reshape(rows, columns)
    pixels = np.stack([ramp, np.full_like(ramp, 90), ramp[::-1]], axis=-1)
    description = PixelDescription(rows, columns, 3, 8, 8, 7, 0, photometric)
    encoded = encode_frame(DecodedFrame(pixels, photometric), description, JPEG_BASELINE)
    again = decode_frame(encoded, description, JPEG_BASELINE).pixels.astype(int)
    expected = pixels.astype(int)
    if photometric == "RGB":  # the codestream is YBR whatever came in
        red, green, blue = (expected[..., n] for n in range(3))
        expected = np.stack(
            [
                0.299 * red + 0.587 * green + 0.114 * blue,
                128 - 0.1687 * red - 0.3313 * green + 0.5 * blue,
                128 + 0.5 * red - 0.4187 * green - 0.0813 * blue,
            ],
            axis=-1,
        )
    assert np.abs(again - expected).mean() < 2


def _decoded_both_ways(frame, description, syntax, monkeypatch):
    found = []
    for present in (True, False):
        monkeypatch.setattr(codecs, "has_codecs", lambda present=present: present)
        found.append(decode_frame(frame, description, syntax).pixels)
    return found


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_extra_decodes_htj2k_as_openjpeg_does(bits, signed, monkeypatch):
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    kind = f"{'i' if signed else 'u'}{1 if bits == 8 else 2}"
    pixels = np.random.default_rng(bits).integers(low, high, (61, 47)).astype(kind)
    description = PixelDescription(
        61, 47, 1, 8 if bits == 8 else 16, bits, bits - 1, int(signed), "MONOCHROME2"
    )
    encoded = encode_frame(DecodedFrame(pixels, "x"), description, targets.HTJ2K)
    one, other = _decoded_both_ways(encoded, description, targets.HTJ2K, monkeypatch)
    assert np.array_equal(one, other)
    assert np.array_equal(one, pixels)


def test_the_extra_decodes_real_lossless_frames_as_the_others_do(shared_dicom, monkeypatch):
    from archive.dicom.parse import parse_instance
    from archive.dicom.part10 import read_file_meta
    from archive.render.presentation import pixel_description

    compared = 0
    for path in sorted((shared_dicom / "valid").glob("*.dcm")):
        body = path.read_bytes()
        parsed = parse_instance(body, read_file_meta(body))
        if parsed.transfer_syntax_uid[len(ROOT) :] not in ("4.57", "4.70", "4.201", "4.202"):
            continue
        spans = parsed.frames.spans(0)
        frame = b"".join(body[offset : offset + length] for offset, length in spans)
        description = pixel_description(parsed.attributes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one, other = _decoded_both_ways(
                frame, description, parsed.transfer_syntax_uid, monkeypatch
            )
        assert one.dtype == other.dtype, path.name
        assert np.array_equal(one, other), path.name
        compared += 1
    assert compared >= 9


# -- headers that lie --------------------------------------------------------------------------

SIDE = 65500


def _jpeg(marker: int, precision: int = 8) -> bytes:
    frame = struct.pack(">BBHBHHB", 0xFF, marker, 11, precision, SIDE, SIDE, 1)
    return b"\xff\xd8" + frame + b"\x01\x11\x00" + bytes(64)


def _jpeg_2000() -> bytes:
    size = struct.pack(">HHIIIIIIII", 41, 0, SIDE, SIDE, 0, 0, SIDE, SIDE, 0, 0)
    return b"\xff\x4f\xff\x51" + size + b"\x00\x01\x0f\x01\x01" + bytes(64)


def _jpeg_xl() -> bytes:
    # Not small; rows in 18 bits, ratio 1 to 1.
    bits = 0 | 2 << 1 | (SIDE - 1) << 3 | 1 << 21
    return b"\xff\x0a" + bits.to_bytes(8, "little") + bytes(64)


@pytest.fixture(scope="module")
def pool():
    made = RenderPool(1, timeout_s=5, memory_limit_bytes=1 << 30)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        ("4.50", _jpeg(0xC0)),
        ("4.51", _jpeg(0xC1, 12)),
        ("4.55", _jpeg(0xC2, 12)),
        ("4.57", _jpeg(0xC3, 16)),
        ("4.70", _jpeg(0xC3, 16)),
        ("4.80", _jpeg(0xF7, 16)),
        ("4.81", _jpeg(0xF7, 16)),
        ("4.90", _jpeg_2000()),
        ("4.92", _jpeg_2000()),
        ("4.201", _jpeg_2000()),
        ("4.203", _jpeg_2000()),
        ("4.110", _jpeg_xl()),
    ],
    ids=lambda value: value if isinstance(value, str) else "lying",
)
def test_a_codestream_larger_than_its_data_set_says_is_not_decoded(pool, syntax, frame):
    description = PixelDescription(64, 64, 1, 16, 16, 15, 0, "MONOCHROME2")
    job = TranscodeJob(FrameSource(None, (), frame), description, ROOT + syntax, NATIVE)
    with pytest.raises(InvalidInstanceError, match="65500 x 65500"):
        pool.submit(job)


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        ("5", struct.pack("<16I", 2, 64, 66, *([0] * 13)) + b"\x00\x01\x00\x01"),
        ("4.80", _jpeg(0xF7, 16)),
        ("4.70", _jpeg(0xC3, 16)),
        ("4.90", _jpeg_2000()),
        ("4.201", _jpeg_2000()),
        ("4.110", _jpeg_xl()),
        ("1", bytes(100)),
        ("8.1", bytes(100)),
        ("1.98", bytes(100)),
    ],
    ids=lambda value: value if isinstance(value, str) else "lying",
)
def test_a_data_set_that_lies_as_well_takes_no_more_than_a_worker_may(pool, syntax, frame):
    lying = PixelDescription(SIDE, SIDE, 1, 16, 16, 15, 0, "MONOCHROME2")
    honest = PixelDescription(8, 8, 1, 8, 8, 7, 0, "MONOCHROME2")
    job = TranscodeJob(FrameSource(None, (), frame), lying, ROOT + syntax, NATIVE)
    with pytest.raises((InvalidInstanceError, NotAcceptableError)):
        pool.submit(job)
    again = TranscodeJob(FrameSource(None, (), bytes(64)), honest, NATIVE, NATIVE)
    assert pool.submit(again) == bytes(64)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (64, 300), (1000, 31), (9000, 5)])
def test_the_size_of_a_jpeg_xl_frame_is_read_from_its_header(size):
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = np.random.default_rng(1).integers(0, 255, size).astype(np.uint8)
    encoded = imagecodecs.jpegxl_encode(pixels, lossless=True)
    description = PixelDescription(*size, 1, 8, 8, 7, 0, "MONOCHROME2")
    assert np.array_equal(decode_frame(encoded, description, ROOT + "4.110").pixels, pixels)


def test_without_the_extra_the_refusal_names_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    pixels = np.zeros((40, 40), np.uint8)
    description = PixelDescription(40, 40, 1, 8, 8, 7, 0, "MONOCHROME2")
    square = b"\xff\x0a" + (39 << 3 | 1 << 12).to_bytes(10, "little")
    with pytest.raises(NotAcceptableError, match=r"fileroom\[codecs\]"):
        encode_frame(DecodedFrame(pixels, "MONOCHROME2"), description, targets.HTJ2K)
    with pytest.raises(NotAcceptableError, match=r"fileroom\[codecs\]"):
        decode_frame(square, description, ROOT + "4.110")
