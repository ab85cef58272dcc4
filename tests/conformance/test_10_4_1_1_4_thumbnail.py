"""PS3.18 §10.4.1.1.4: thumbnails."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.conformance.showcase import image_of

EVERYTHING = ["first", "cine", "colour", "report", "pdf", "cda", "stl", "plan", "video"]


def levels(showcase, name: str) -> list[str]:
    return [showcase.study_url, showcase.series_url(name), showcase.url(name)]


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("name", EVERYTHING)
def test_everything_has_one_image_at_every_level(showcase, level, name):
    got = showcase.get(levels(showcase, name)[level] + "/thumbnail")
    assert got.headers["content-type"] == "image/jpeg"
    assert max(image_of(got).shape[:2]) <= 128


@pytest.mark.parametrize("accept", ["image/jpeg", "image/png", "image/gif", "image/jp2"])
@pytest.mark.parametrize("name", ["first", "cine", "pdf"])
def test_it_comes_in_every_media_type_of_images_and_never_moves(showcase, accept, name):
    got = showcase.get(showcase.url(name) + "/thumbnail", accept)
    assert got.headers["content-type"] == accept
    assert getattr(Image.open(io.BytesIO(got.content)), "n_frames", 1) == 1


def test_it_keeps_the_images_shape(showcase):
    got = image_of(showcase.get(showcase.url("first") + "/thumbnail", "image/png"))
    assert got.shape == (85, 128)


@pytest.mark.parametrize(
    ("viewport", "size"), [("60,40", (40, 60)), ("30,300", (20, 30)), ("256,256", (171, 256))]
)
def test_viewport_gives_its_size(showcase, viewport, size):
    url = f"{showcase.url('first')}/thumbnail?viewport={viewport}"
    assert image_of(showcase.get(url, "image/png")).shape == size


@pytest.mark.parametrize(
    "viewport",
    ["", "60", "0,0", "60,40,1", "60,40,,", "60,40,0,0,10,10", "a,b", "60,40,0,0,-60,40"],
)  # fmt: skip
def test_any_other_viewport_is_400(showcase, viewport):
    got = showcase.get(f"{showcase.url('first')}/thumbnail?viewport={viewport}")
    assert got.status_code == 400


def test_it_shows_nothing_of_the_patient(showcase):
    url = showcase.url("first") + "/thumbnail"
    plain = showcase.get(url, "image/png").content
    assert showcase.get(url + "?annotation=patient", "image/png").content == plain


def test_parameters_of_rendering_are_none_of_its_own(showcase):
    url = showcase.url("first") + "/thumbnail"
    plain = showcase.get(url, "image/png").content
    for query in ("window=1,2,linear", "window=x", "quality=1000", "iccprofile=yes"):
        assert showcase.get(f"{url}?{query}", "image/png").content == plain


def test_a_frame_has_a_thumbnail(showcase):
    for number in (1, 4):
        url = f"{showcase.url('cine')}/frames/{number}/thumbnail"
        assert image_of(showcase.get(url, "image/png"))[80, 80] == 40 * (number - 1)
    assert showcase.get(f"{showcase.url('cine')}/frames/7/thumbnail").status_code == 404
    assert showcase.get(f"{showcase.url('cine')}/frames/x/thumbnail").status_code == 400


def test_of_several_frames_one_is_shown(showcase):
    url = f"{showcase.url('cine')}/frames/3,4/thumbnail"
    assert image_of(showcase.get(url, "image/png"))[80, 80] == 80


def test_a_multi_frame_image_is_its_middle_frame(showcase):
    got = image_of(showcase.get(f"{showcase.url('cine')}/thumbnail", "image/png"))
    assert got[80, 80] == 80


def test_a_series_is_its_instance_in_the_middle(showcase):
    series = showcase.get(showcase.series_url("first") + "/thumbnail", "image/png")
    middle = showcase.get(showcase.url("second") + "/thumbnail", "image/png")
    assert series.content == middle.content
    study = showcase.get(showcase.study_url + "/thumbnail", "image/png")
    assert study.content == middle.content


def test_what_has_no_image_is_told_apart_by_letters(showcase):
    shown = {
        name: showcase.get(showcase.url(name) + "/thumbnail", "image/png").content
        for name in ("report", "pdf", "plan", "video")
    }
    assert len(set(shown.values())) == 4
    assert all(np.asarray(Image.open(io.BytesIO(body))).std() > 5 for body in shown.values())


@pytest.mark.parametrize(
    "accept", ["text/html", "application/pdf", 'multipart/related; type="image/jpeg"']
)
def test_what_is_no_image_is_406(showcase, accept):
    got = showcase.get(showcase.url("report") + "/thumbnail", accept)
    assert got.status_code == 406
    assert "image/jpeg" in got.json()["offered"]


@pytest.mark.parametrize(
    "path", ["/studies/1.2", "/studies/1.2/series/3", "/studies/1.2/series/3/instances/4"]
)
def test_what_does_not_exist_is_404(showcase, path):
    assert showcase.get(path + "/thumbnail").status_code == 404


def test_an_etag_saves_the_body(showcase):
    url = showcase.series_url("first") + "/thumbnail"
    first = showcase.get(url)
    again = showcase.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert showcase.client.head(url).headers["etag"] == first.headers["etag"]
