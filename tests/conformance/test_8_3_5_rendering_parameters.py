"""PS3.18 §8.3.5: the query parameters of rendered resources."""

import io
import re

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.conformance.showcase import image_of, ramp


def linear(values, centre, width):
    """PS3.3 §C.11.2.1.2.1, for an output of 0 to 255."""
    shown = ((values - (centre - 0.5)) / (width - 1) + 0.5) * 255
    return np.clip(shown, 0, 255)


def linear_exact(values, centre, width):
    return np.clip(((values - centre) / width + 0.5) * 255, 0, 255)


def sigmoid(values, centre, width):
    return 255 / (1 + np.exp(-4 * (values - centre) / width))


FUNCTIONS = {"linear": linear, "linear-exact": linear_exact, "sigmoid": sigmoid}
OWN = (600, 800)


# -- window (§8.3.5.1.4) -----------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("centre", "width"), [(600, 800), (1000.5, 333.25), (-50, 400), (0, 2)]
)
def test_window_is_applied_as_its_function_says(showcase, function, centre, width):
    got = showcase.pixels("first", f"window={centre},{width},{function}")
    expected = FUNCTIONS[function](ramp().astype(float), centre, width)
    assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("name", ["LINEAR", "linear_exact", "LINEAR_EXACT", "Sigmoid"])
def test_the_functions_are_known_by_the_names_of_the_data_set_too(showcase, name):
    got = showcase.pixels("first", f"window=600,800,{name}")
    plain = name.lower().replace("_", "-")
    assert np.array_equal(got, showcase.pixels("first", f"window=600,800,{plain}"))


def test_spaces_and_percent_encoding_do_not_matter(showcase):
    plain = showcase.pixels("first", "window=600,800,linear")
    for query in ("window=600%2C800%2Clinear", "window=600,%20800,%20linear"):
        assert np.array_equal(showcase.pixels("first", query), plain)


def test_without_window_the_first_of_the_instance_is_used(showcase):
    assert np.abs(showcase.pixels("first") - linear(ramp().astype(float), *OWN)).max() <= 1


def test_a_window_of_one_makes_a_threshold(showcase):
    got = showcase.pixels("first", "window=600,1,linear")
    assert set(np.unique(got)) == {0, 255}
    assert (got == 255).sum() == (ramp() > 599.5).sum()


@pytest.mark.parametrize(
    "value",
    ["", "600", "600,800", "600,800,", ",800,linear", "600,,linear", "x,800,linear",
     "600,800,cubic", "600,0,linear", "600,0.5,linear", "600,-1,linear", "600,0,sigmoid",
     "600,800,linear,1", "nan,800,linear", "600,inf,linear", "1_0,800,linear", "6e999,8,linear",
     "600;800;linear"],
)  # fmt: skip
def test_a_window_without_three_valid_parts_is_400(showcase, value):
    refused = showcase.rendered("first", f"window={value}")
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"
    detail = refused.json()["detail"]
    assert "window" in detail
    assert "expected" in detail


def test_colours_have_no_window(showcase):
    assert np.array_equal(
        showcase.pixels("colour", "window=10,20,linear"), showcase.pixels("colour")
    )


# -- viewport (§8.3.5.1.3) ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("viewport", "size"),
    [
        ("60,40", (60, 40)),
        ("30,30", (30, 20)),  # as large as fits, undistorted
        ("30,100", (30, 20)),
        ("100,20", (30, 20)),
        ("600,600", (600, 400)),  # enlarged too
        ("1,1", (1, 1)),
        ("40,40,10,10,20,20", (40, 40)),
        ("40,40,,,30,15", (40, 20)),
        ("40,40,20", (40, 40)),
        ("40,40,,20", (40, 13)),
        ("60,60,30,10,30,30", (60, 60)),
        ("60,60,50,30,100,100", (60, 60)),  # what reaches beyond the edge is cut
    ],
)
def test_viewport_keeps_the_regions_shape_and_fills_what_it_can(showcase, viewport, size):
    got = showcase.pixels("first", f"viewport={viewport}")
    assert got.shape == size[::-1]


def test_without_viewport_every_pixel_is_one(showcase):
    assert showcase.pixels("first").shape == (40, 60)


def test_a_region_of_its_own_size_is_exactly_those_pixels(showcase):
    whole = showcase.pixels("first")
    assert np.array_equal(
        showcase.pixels("first", "viewport=20,10,7,3,20,10"), whole[3:13, 7:27]
    )


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (",,-60", lambda whole: whole[:, ::-1]),
        (",,,-40", lambda whole: whole[::-1]),
        (",,-60,-40", lambda whole: whole[::-1, ::-1]),
        ("0,0,60,40", lambda whole: whole),
        ("-0,-0,60,40", lambda whole: whole),  # of the corner only the absolute value counts
    ],
)
def test_negative_sizes_flip_the_image(showcase, region, expected):
    whole = showcase.pixels("first")
    assert np.array_equal(showcase.pixels("first", f"viewport=60,40,{region}"), expected(whole))


def test_a_negative_corner_is_its_absolute_value_and_no_flip(showcase):
    assert np.array_equal(
        showcase.pixels("first", "viewport=20,20,-10,-10,20,20"),
        showcase.pixels("first", "viewport=20,20,10,10,20,20"),
    )


def test_fractions_of_pixels_are_taken(showcase):
    assert showcase.pixels("first", "viewport=40,40,0.5,0.5,10.25,10.25").shape == (40, 40)


@pytest.mark.parametrize(
    "value",
    ["", "60", "60,", ",40", "0,40", "60,0", "-60,40", "60.5,40", "a,b", "60,40,x",
     "60,40,0,0,0,1", "60,40,0,0,1,1,1", "60,40,60,0", "60,40,0,40", "60,40,100,100,5,5",
     "99999,99999", "16384,16384", "60,40,nan", "60x40"],
)  # fmt: skip
def test_a_viewport_that_is_ill_formed_or_outside_is_400(showcase, value):
    refused = showcase.rendered("first", f"viewport={value}")
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"


# -- quality (§8.3.5.1.2) ----------------------------------------------------------------------


def test_a_higher_quality_is_nearer_and_larger(showcase):
    exact = showcase.pixels("first")
    sizes, errors = [], []
    for quality in (1, 30, 75, 100):
        got = showcase.rendered("first", f"quality={quality}", "image/jpeg")
        sizes.append(len(got.content))
        errors.append(np.abs(image_of(got) - exact).mean())
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1


@pytest.mark.parametrize("value", ["", "0", "101", "-1", "50.5", "high", "1e1", "٥"])
@pytest.mark.parametrize("accept", ["image/jpeg", "image/png"])
def test_a_quality_that_is_no_integer_from_1_to_100_is_400(showcase, value, accept):
    assert showcase.rendered("first", f"quality={value}", accept).status_code == 400


def test_quality_changes_nothing_that_has_no_loss(showcase):
    assert np.array_equal(showcase.pixels("first", "quality=1"), showcase.pixels("first"))


# -- annotation (§8.3.5.1.1) -------------------------------------------------------------------


@pytest.mark.parametrize("value", ["patient", "technique", "patient,technique", '"patient"'])
def test_annotations_are_burned_into_the_image(showcase, value):
    plain = showcase.pixels("first", "viewport=600,400")
    got = showcase.pixels("first", f"viewport=600,400&annotation={value}")
    changed = np.argwhere(got != plain)
    assert len(changed) > 50
    left = changed[:, 1].max() < 300
    right = changed[:, 1].min() > 300
    assert (left, right) == ("technique" not in value, "patient" not in value)


def test_annotations_are_applied_to_the_region_not_before_it(showcase):
    got = showcase.pixels("first", "viewport=300,300,20,20,20,20&annotation=patient")
    plain = showcase.pixels("first", "viewport=300,300,20,20,20,20")
    assert np.argwhere(got != plain)[:, 0].max() < 100


def test_an_unsupported_annotation_is_ignored_with_a_warning(showcase):
    got = showcase.rendered("first", "annotation=patient,logo")
    assert got.status_code == 200
    told = '"The following annotation values are not supported: logo"'
    assert re.fullmatch(f"299 127.0.0.1:[0-9]+ {told}", got.headers["warning"])
    assert got.content == showcase.rendered("first", "annotation=patient").content


@pytest.mark.parametrize("value", ["", "%20", ",", "patient,", "12", "pa tient", "<x>"])
def test_an_annotation_that_is_no_keyword_is_400(showcase, value):
    assert showcase.rendered("first", f"annotation={value}").status_code == 400


def test_no_annotation_is_applied_unasked(showcase):
    assert np.array_equal(
        showcase.pixels("first"), showcase.pixels("first", "window=600,800,linear")
    )


# -- iccprofile (§8.3.5.1.5) -------------------------------------------------------------------


def profile_of(response) -> bytes:
    assert response.status_code == 200, response.text
    return Image.open(io.BytesIO(response.content)).info.get("icc_profile", b"")


def jp2_profile_of(response) -> bytes:
    """The profile of the colour box, where a JPEG 2000 decoder still reads the image."""
    body = response.content
    assert image_of(response).shape[2] == 3
    at = body.index(b"colr")
    length = int.from_bytes(body[at - 4 : at], "big")
    assert body[at + 4] == 2  # restricted ICC profile
    return body[at + 7 : at - 4 + length]


@pytest.mark.parametrize("accept", ["image/jpeg", "image/png", "image/jp2"])
@pytest.mark.parametrize(
    ("value", "name"),
    [("yes", "sRGB"), ("srgb", "sRGB"), ("adobergb", "Adobe RGB"), ("rommrgb", "ROMM RGB"),
     ("displayp3", "Display P3")],
)  # fmt: skip
@pytest.mark.parametrize("instance", ["colour", "first"])
def test_the_profile_that_is_asked_for_is_embedded(showcase, accept, value, name, instance):
    got = showcase.rendered(instance, f"iccprofile={value}", accept)
    profile = jp2_profile_of(got) if accept == "image/jp2" else profile_of(got)
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    assert ImageCms.getProfileName(opened).startswith(name)
    assert profile[36:40] == b"acsp"


@pytest.mark.parametrize("query", ["", "iccprofile=no"])
@pytest.mark.parametrize("accept", ["image/jpeg", "image/png"])
def test_no_profile_is_embedded_unasked(showcase, query, accept):
    assert not profile_of(showcase.rendered("colour", query, accept))


def test_colours_are_converted_to_the_space_that_is_named(showcase):
    plain = showcase.pixels("colour")
    converted = showcase.pixels("colour", "iccprofile=adobergb")
    assert np.array_equal(showcase.pixels("colour", "iccprofile=srgb"), plain)
    # Red of sRGB lies inside Adobe RGB: less of it is the same colour.
    assert converted[0, 0, 0] < plain[0, 0, 0]


@pytest.mark.parametrize("value", ["", "maybe", "srgb,adobergb", "SRGBx"])
def test_another_profile_is_400(showcase, value):
    assert showcase.rendered("colour", f"iccprofile={value}").status_code == 400


@pytest.mark.parametrize(("value", "status"), [("no", 200), ("yes", 400), ("srgb", 400)])
def test_a_media_type_without_place_for_a_profile_is_400_unless_none_is_asked(
    showcase, value, status
):
    got = showcase.rendered("colour", f"iccprofile={value}", "image/gif")
    assert got.status_code == status


# -- all of them -------------------------------------------------------------------------------


def test_unknown_parameters_are_ignored(showcase):
    plain = showcase.rendered("first")
    assert (
        showcase.rendered("first", "foo=bar&presentation=x&=&rows=4").content == plain.content
    )


@pytest.mark.parametrize("name", ["window", "viewport", "quality", "iccprofile", "overlays"])
def test_a_parameter_given_twice_is_400(showcase, name):
    value = {"window": "1,2,linear", "viewport": "9,9", "quality": "9", "iccprofile": "no",
             "overlays": "true"}[name]  # fmt: skip
    assert showcase.rendered("first", f"{name}={value}&{name}={value}").status_code == 400


def test_parameters_work_together(showcase):
    query = (
        "window=600,800,sigmoid&viewport=120,80,0,0,-60,40&annotation=technique&iccprofile=yes"
    )
    got = showcase.pixels("first", query)
    assert got.shape == (80, 120, 3)


def test_overlays_are_drawn_on_request(room):
    """An extension: ``overlays=true`` (PS3.3 §C.9.2)."""
    import pydicom

    name = "examples_overlay.dcm"
    url = room.url(name) + "/rendered"
    plain = image_of(room.get(url, "image/png"))
    drawn = image_of(room.get(url, "image/png", params={"overlays": "true"}))
    overlay = pydicom.dcmread(room.paths[name]).overlay_array(0x6000) != 0
    expected = plain.copy()
    rows, columns = plain.shape
    expected[overlay[:rows, :columns]] = 255
    assert overlay.any()
    assert np.array_equal(drawn, expected)
    assert room.get(url + "?overlays=perhaps").status_code == 400
