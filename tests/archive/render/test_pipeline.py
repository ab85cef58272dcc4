"""Stored values to displayed ones, stage by stage (PS3.3 §C.11, §C.7.6.3)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.dicom.instance import PixelDescription
from archive.render.decode import DecodedFrame
from archive.render.lookup_table import LookupTable, Palette
from archive.render.options import Region, RenderOptions, Viewport, Window
from archive.render.overlays import Overlay, overlays_from_json
from archive.render.pipeline import render_frame
from archive.render.presentation import Presentation, PresentationReader


def shown(pixels, photometric="MONOCHROME2", options=None, raw=None, bits=None, **presentation):
    bits = bits or pixels.dtype.itemsize * 8
    described = PixelDescription(
        rows=pixels.shape[0], columns=pixels.shape[1], bits_allocated=pixels.dtype.itemsize * 8,
        bits_stored=0 if pixels.dtype.kind == "f" else bits, high_bit=bits - 1,
        samples_per_pixel=pixels.shape[2] if pixels.ndim == 3 else 1,
        pixel_representation=int(pixels.dtype.kind == "i"),
    )  # fmt: skip
    made = Presentation(photometric_interpretation=photometric, **presentation)
    decoded = DecodedFrame(pixels, photometric)
    return render_frame(decoded, described, made, options or RenderOptions(), raw)


def table(*entries: int, first: int = 0, bits: int = 8) -> LookupTable:
    return LookupTable(first, np.array(entries, "<u2").tobytes(), bits)


def row(*values, kind=np.uint16) -> np.ndarray:
    return np.array([values], kind)


# -- modality and VOI --------------------------------------------------------------------------


def test_a_modality_table_wins_over_the_window_of_its_output():
    got = shown(
        row(0, 1, 2, 9),
        modality_lut=table(0, 100, 200, bits=16),
        windows=(Window(100, 200, "LINEAR_EXACT"),),
    )
    assert got.tolist() == [[0, 128, 255, 255]]


def test_a_voi_table_spreads_its_bits_over_the_grey_scale():
    got = shown(row(9, 10, 11, 12, 13), voi_luts=(table(0, 512, 1023, first=10, bits=10),))
    assert got.tolist() == [[0, 0, 128, 255, 255]]


def test_the_first_window_is_used_and_comes_before_a_table():
    windows = (Window(5, 10, "LINEAR_EXACT"), Window(50, 1, "LINEAR"))
    got = shown(row(0, 5, 10), windows=windows, voi_luts=(table(7, 7, 7),))
    assert got.tolist() == [[0, 128, 255]]


def test_a_window_that_is_asked_for_replaces_the_instances_own():
    options = RenderOptions(window=Window(50, 100, "LINEAR_EXACT"))
    got = shown(row(0, 50, 100), options=options, windows=(Window(5, 10),))
    assert got.tolist() == [[0, 128, 255]]


def test_eight_bits_without_a_window_are_shown_as_they_are():
    attributes = {"00280101": {"vr": "US", "Value": [8]}}
    made = PresentationReader(attributes, lambda _: b"").frame(0, RenderOptions())
    got = shown(row(3, 7, 200, kind=np.uint8), range=made.range)
    assert got.tolist() == [[3, 7, 200]]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (np.uint16, 0, 0),
        (np.uint16, 65535, 255),
        (np.uint16, 32768, 128),
        (np.int16, -32768, 0),
    ],
)
def test_one_value_alone_is_where_it_lies_in_what_can_be_stored(kind, value, expected):
    assert shown(row(value, value, kind=kind)).tolist() == [[expected, expected]]


def test_values_of_32_bits_keep_what_a_narrow_window_shows():
    values = row(2**31 - 100, 2**31 - 50, 2**31, kind=np.uint32)
    options = RenderOptions(window=Window(2**31 - 50, 100, "LINEAR_EXACT"))
    assert shown(values, options=options).tolist() == [[0, 128, 255]]


def test_floats_are_shown_and_what_is_no_number_is_black():
    got = shown(row(-1.5, 0.0, np.nan, 1.5, np.inf, kind=np.float32))
    assert got[0, [0, 1, 3]].tolist() == [0, 128, 255]
    assert got[0, 2] == 0


@pytest.mark.parametrize(("inverted", "expected"), [(False, [0, 255]), (True, [255, 0])])
def test_bits_are_black_and_white(inverted, expected):
    described = PixelDescription(rows=1, columns=2, bits_allocated=1, bits_stored=1)
    got = render_frame(
        DecodedFrame(row(0, 1, kind=np.uint8), "MONOCHROME2"),
        described,
        Presentation(is_inverted=inverted),
        RenderOptions(),
    )
    assert got.tolist() == [expected]


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([np.uint8, np.int8, np.uint16, np.int16]),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    st.floats(-5000, 5000),
    st.floats(1, 5000),
    st.booleans(),
    st.booleans(),
)
def test_large_images_go_by_a_table_and_look_the_same(
    kind, function, centre, width, inverted, padded
):
    limits = np.iinfo(kind)
    pixels = np.random.default_rng(1).integers(limits.min, limits.max, (520, 520)).astype(kind)
    settings = {
        "windows": (Window(centre, width, function),),
        "is_inverted": inverted,
        "rescale_intercept": -7.0,
        "padding": (3, 9) if padded else None,
    }
    whole = shown(pixels, **settings)
    assert np.array_equal(whole[:20], shown(pixels[:20], **settings))


# -- padding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("inverted", [False, True])
def test_padding_is_background_and_takes_no_part_in_the_range(inverted):
    got = shown(
        row(-2000, 0, 500, 1000, kind=np.int16), padding=(-2000, -2000), is_inverted=inverted
    )
    assert got.tolist() == [[0, 255, 127, 0] if inverted else [0, 0, 128, 255]]


def test_padding_may_be_a_range_and_high():
    got = shown(row(0, 10, 60000, 65535), padding=(60000, 65535))
    assert got.tolist() == [[0, 255, 0, 0]]


def test_nothing_but_padding_is_all_background():
    assert shown(row(5, 5), padding=(5, 5)).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("value", "limit", "signed", "expected"),
    [
        (63536, None, 1, (-2000, -2000)),
        (-2000, None, 1, (-2000, -2000)),
        (10, 5, 0, (5, 10)),
        (0, 0, 0, (0, 0)),
    ],
)
def test_padding_is_read_with_the_sign_of_the_pixels(value, limit, signed, expected):
    attributes = {
        "00280120": {"vr": "US", "Value": [value]},
        "00280103": {"vr": "US", "Value": [signed]},
    }
    if limit is not None:
        attributes["00280121"] = {"vr": "US", "Value": [limit]}
    made = PresentationReader(attributes, lambda _: b"").frame(0, RenderOptions())
    assert made.padding == expected


# -- colour ------------------------------------------------------------------------------------


def pixel(*samples, kind=np.uint8) -> np.ndarray:
    return np.array([[samples]], kind)


@pytest.mark.parametrize(
    ("photometric", "samples", "expected"),
    [
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("YBR_RCT", (1, 2, 3), (1, 2, 3)),
        ("YBR_FULL", (76, 85, 255), (254, 0, 0)),
        ("YBR_FULL_422", (255, 128, 128), (255, 255, 255)),
        ("YBR_PARTIAL_422", (16, 128, 128), (0, 0, 0)),
        ("YBR_PARTIAL_422", (235, 128, 128), (255, 255, 255)),
        ("ARGB", (9, 1, 2, 3), (1, 2, 3)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
    ],
)
def test_every_colour_space_becomes_rgb(photometric, samples, expected):
    got = shown(pixel(*samples), photometric)[0, 0]
    assert np.abs(got.astype(int) - expected).max() <= 1


def test_colours_of_more_bits_are_scaled_to_eight():
    got = shown(pixel(0, 32768, 65535, kind=np.uint16), "RGB")
    assert got[0, 0].tolist() == [0, 128, 255]
    assert shown(pixel(0, 2048, 4095, kind=np.uint16), "RGB", bits=12)[0, 0].tolist() == [
        0,
        128,
        255,
    ]


def test_a_palette_maps_each_value_and_what_lies_beyond_takes_its_ends():
    palette = Palette(table(1, 2, first=5), table(3, 4, first=5), table(5, 6, first=5))
    got = shown(row(0, 5, 6, 99, kind=np.uint8), "PALETTE COLOR", palette=palette)
    assert got[0].tolist() == [[1, 3, 5], [1, 3, 5], [2, 4, 6], [2, 4, 6]]


def test_a_palette_of_16_bits_shows_its_upper_eight():
    tables = (
        table(0x0000, 0xFFFF, bits=16),
        table(0x8000, 0x7FFF, bits=16),
        table(1, 256, bits=16),
    )
    got = shown(row(0, 1, kind=np.uint8), "PALETTE COLOR", palette=Palette(*tables))
    assert got[0].tolist() == [[0, 0x80, 0], [0xFF, 0x7F, 1]]


def test_a_supplemental_palette_colours_the_values_it_maps_only():
    palette = Palette(
        table(255, 0, first=100), table(0, 0, first=100), table(0, 255, first=100)
    )
    got = shown(
        row(0, 50, 100, 101), palette=palette, windows=(Window(50, 100, "LINEAR_EXACT"),)
    )
    assert got[0].tolist() == [[0, 0, 0], [128, 128, 128], [255, 0, 0], [0, 0, 255]]


# -- overlays ----------------------------------------------------------------------------------


def overlay_json(**more) -> dict:
    bits = np.packbits(np.eye(3, dtype=np.uint8).ravel(), bitorder="little").tobytes()
    import base64

    plane = {
        "60000010": {"vr": "US", "Value": [3]},
        "60000011": {"vr": "US", "Value": [3]},
        "60000050": {"vr": "SS", "Value": [2, 1]},
        "60003000": {"vr": "OW", "InlineBinary": base64.b64encode(bits).decode()},
    }
    return plane | {key: value for key, value in more.items() if value is not None}


def test_an_overlay_is_drawn_where_its_origin_says():
    [overlay] = overlays_from_json(overlay_json(), 0, lambda _: b"")
    got = shown(np.zeros((5, 5), np.uint8), overlays=(overlay,), range=(0, 255))
    expected = np.zeros((5, 5), int)
    for index in range(3):
        expected[index + 1, index] = 255
    assert np.array_equal(got, expected)


@pytest.mark.parametrize(("top", "left"), [(-1, -1), (4, 4), (9, 9), (-9, 0)])
def test_an_overlay_that_reaches_beyond_the_image_is_cut(top, left):
    overlay = Overlay(3, 3, top, left, b"\xff\xff")
    got = shown(np.zeros((5, 5), np.uint8), overlays=(overlay,), range=(0, 255))
    expected = np.zeros((5, 5), int)
    expected[max(top, 0) : max(top + 3, 0), max(left, 0) : max(left + 3, 0)] = 255
    assert np.array_equal(got, expected)


def test_an_overlay_in_unused_bits_is_drawn_too():
    raw = row(0x1000, 0x0010, 0xF000)
    overlay = Overlay(1, 3, 0, 0, b"", bit_position=12)
    got = shown(raw & 0x0FFF, overlays=(overlay,), raw=raw, windows=(Window(2048, 4096),))
    assert got.tolist() == [[255, 1, 255]]


def test_overlays_of_other_frames_are_left_out():
    attributes = overlay_json(**{
        "60000015": {"vr": "IS", "Value": [1]}, "60000051": {"vr": "US", "Value": [2]}
    })  # fmt: skip
    counts = [len(overlays_from_json(attributes, index, lambda _: b"")) for index in range(3)]
    assert counts == [0, 1, 0]


@pytest.mark.parametrize(
    "broken",
    [{"60000010": {"vr": "US", "Value": [0]}}, {"60000011": {"vr": "US"}},
     {"60000010": {"vr": "US", "Value": [4000]}}, {"60003000": {"vr": "OW"}}],
)  # fmt: skip
def test_overlays_that_cannot_be_are_left_out(broken):
    assert overlays_from_json(overlay_json() | broken, 0, lambda _: b"") == ()


# -- region and size ---------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 90), st.integers(1, 90),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_viewport_is_filled_in_one_direction_and_never_exceeded(
    rows, columns, height, width, mirrored, upside_down
):
    region = Region(flip_horizontal=mirrored, flip_vertical=upside_down)
    options = RenderOptions(viewport=Viewport(width, height, region))
    got = shown(np.zeros((rows, columns), np.uint8), options=options)
    assert got.shape[0] <= height
    assert got.shape[1] <= width
    assert got.shape[0] == height or got.shape[1] == width


def test_colour_is_cut_and_mirrored_like_grey():
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    viewport = Viewport(2, 2, Region(1, 1, 2, 2, flip_horizontal=True))
    got = shown(pixels, "RGB", options=RenderOptions(viewport=viewport))
    assert np.array_equal(got, pixels[1:, 1:][:, ::-1])
