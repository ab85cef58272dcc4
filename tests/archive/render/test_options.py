"""Readers of parameters: what they take, and that nothing more than a refusal comes of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.errors import InvalidRequestError
from archive.render import options
from archive.render.options import Region, Viewport, Window

ONE_TEXT = [
    options.parse_window,
    options.parse_viewport,
    options.parse_thumbnail_viewport,
    options.parse_quality,
    options.parse_annotation,
    options.parse_colour_space,
    options.parse_overlays,
    options.parse_region,
]
NEARLY = st.text('0123456789.,-+eE linearxctsigmodpy"%_', max_size=40)


@pytest.mark.parametrize("parse", ONE_TEXT, ids=lambda parse: parse.__name__)
@settings(deadline=None)
@given(text=st.text(max_size=60) | NEARLY)
def test_any_text_is_read_or_refused_with_what_was_expected(parse, text):
    try:
        parse(text)
    except InvalidRequestError as refusal:
        assert "expected" in str(refusal)
        assert len(str(refusal)) < 400


@settings(deadline=None)
@given(NEARLY, NEARLY)
def test_any_pair_of_texts_is_read_or_refused(one, other):
    for parse in (options.parse_center_and_width, options.parse_rows_and_columns):
        try:
            parse(one, other)
        except InvalidRequestError as refusal:
            assert "expected" in str(refusal)


@settings(deadline=None)
@given(
    st.floats(-1e6, 1e6),
    st.floats(1, 1e6),
    st.sampled_from(["linear", "linear-exact", "sigmoid"]),
)
def test_what_is_a_window_is_read_as_written(centre, width, function):
    got = options.parse_window(f"{centre!r},{width!r},{function}")
    assert got == Window(centre, width, function.upper().replace("-", "_"))


@settings(deadline=None)
@given(
    st.integers(1, 4000), st.integers(1, 4000), st.integers(0, 99), st.integers(0, 99),
    st.integers(1, 99), st.integers(1, 99), st.booleans(), st.booleans(),
)  # fmt: skip
def test_what_is_a_viewport_is_read_as_written(width, height, x, y, wide, high, flip_x, flip_y):
    text = f"{width},{height},{x},{y},{'-' * flip_x}{wide},{'-' * flip_y}{high}"
    assert options.parse_viewport(text) == Viewport(
        width, height, Region(x, y, wide, high, False, flip_x, flip_y)
    )


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_region_is_taken_exactly_when_it_encloses_an_area(left, top, right, bottom):
    text = f"{left:.6f},{top:.6f},{right:.6f},{bottom:.6f}"
    left, top, right, bottom = map(float, text.split(","))
    if left < right and top < bottom:
        region = options.parse_region(text)
        box = region.box(1000, 500)
        assert 0 <= box[0] < box[2] <= 1000
        assert 0 <= box[1] < box[3] <= 500
    else:
        with pytest.raises(InvalidRequestError):
            options.parse_region(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("patient", (("patient",), ())),
        ("technique,patient", (("patient", "technique"), ())),
        ("patient,patient", (("patient",), ())),
        ('"patient, technique"', (("patient", "technique"), ())),
        ("patient,institution", (("patient",), ("institution",))),
        ("Patient", ((), ("Patient",))),  # keywords are case-sensitive (%s in the ABNF)
    ],
)
def test_annotations_are_read_and_unknown_ones_kept_apart(text, expected):
    assert options.parse_annotation(text) == expected
