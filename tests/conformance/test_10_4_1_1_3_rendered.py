"""PS3.18 §10.4.1.1.3 and §8.7.4: rendered studies, series, instances and frames."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from tests.conformance.multipart import parts_of
from tests.conformance.showcase import CDA, PDF, STL, VIDEO, image_of

JPEG_PARTS = 'multipart/related; type="image/jpeg"'
PNG_PARTS = 'multipart/related; type="image/png"'
XHTML = "{http://www.w3.org/1999/xhtml}"
BROWSER = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


# -- media types of images ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "image/jpeg"),
        ("image/*", "image/jpeg"),
        ("image/jpeg", "image/jpeg"),
        ("image/png", "image/png"),
        ("image/gif", "image/gif"),
        ("image/jp2", "image/jp2"),
        ("IMAGE/PNG", "image/png"),
        ("image/png;q=0.5, image/jpeg;q=0.4", "image/png"),
        ("image/png;q=0.4, image/jpeg;q=0.5", "image/jpeg"),
        ("image/webp, image/png", "image/png"),
        ("image/jpeg;q=0, image/*", "image/png"),
        ("image/*;q=0.1, image/gif", "image/gif"),
        ("text/html, application/xml;q=0.9, */*;q=0.8", "image/jpeg"),
        (BROWSER, "image/jpeg"),
        ('image/png; foo="bar"', "image/png"),
    ],
)
@pytest.mark.parametrize("instance", ["first", "colour"])
def test_the_most_wanted_media_type_is_given(showcase, accept, expected, instance):
    got = showcase.get(f"{showcase.url(instance)}/rendered", accept)
    assert got.status_code == 200
    assert got.headers["content-type"] == expected
    formats = {
        "image/jpeg": "JPEG",
        "image/png": "PNG",
        "image/gif": "GIF",
        "image/jp2": "JPEG2000",
    }
    assert Image.open(io.BytesIO(got.content)).format == formats[expected]


def test_jpeg_is_baseline_of_8_bits(showcase):
    got = showcase.rendered("first", "", "image/jpeg")
    assert b"\xff\xc0\x00\x0b\x08" in got.content


def test_the_accept_parameter_comes_before_the_header(showcase):
    got = showcase.rendered("first", "accept=image/png", "image/jpeg")
    assert got.headers["content-type"] == "image/png"
    got = showcase.rendered("first", "accept=image/webp", "image/gif")
    assert got.headers["content-type"] == "image/gif"


@pytest.mark.parametrize(
    ("instance", "accept"),
    [("first", "application/dicom"), ("first", "text/html"), ("first", "video/mp4"),
     ("first", "image/webp"), ("report", "image/jpeg"), ("pdf", "image/png"),
     ("video", "image/jpeg"), ("first", "application/json")],
)  # fmt: skip
def test_406_says_what_there_is(showcase, instance, accept):
    refused = showcase.rendered(instance, "", accept)
    assert refused.status_code == 406
    assert refused.headers["content-type"] == "application/problem+json"
    default = showcase.rendered(instance, "", "*/*").headers["content-type"].partition(";")[0]
    assert default in refused.json()["detail"]
    assert default in refused.json()["offered"]


@pytest.mark.parametrize("accept", ["*/*", "image/jpeg", "text/html", JPEG_PARTS])
def test_what_cannot_be_rendered_says_what_it_is(showcase, accept):
    refused = showcase.get(f"{showcase.url('plan')}/rendered", accept)
    assert refused.status_code == 406
    assert "RTPLAN" in refused.json()["detail"]
    assert "application/dicom" in refused.json()["detail"]


# -- frames ------------------------------------------------------------------------------------


def test_one_frame_is_one_image(showcase):
    shown = [showcase.pixels("cine", frame=number)[10, 10] for number in range(1, 7)]
    assert shown == [0, 40, 80, 120, 160, 200]


@pytest.mark.parametrize("frames", ["1,3", "3,1", "2,2,5", "1, 2"])
def test_several_frames_are_parts_in_the_order_asked(showcase, frames):
    got = showcase.get(f"{showcase.url('cine')}/frames/{frames}/rendered", PNG_PARTS)
    parts = parts_of(got)
    numbers = [int(number) for number in frames.split(",")]
    values = [np.asarray(Image.open(io.BytesIO(part.content)))[10, 10] for part in parts]
    assert values == [40 * (number - 1) for number in numbers]
    for part, number in zip(parts, numbers, strict=True):
        location = part.headers["Content-Location"]
        assert location.endswith(f"/frames/{number}/rendered")
        assert showcase.client.get(location).status_code == 200
        assert part.headers["Content-Type"] == "image/png"


@pytest.mark.parametrize("accept", ["*/*", "multipart/related", "multipart/*", JPEG_PARTS])
def test_several_frames_are_jpeg_parts_by_default(showcase, accept):
    parts = parts_of(showcase.get(f"{showcase.url('cine')}/frames/1,2/rendered", accept))
    assert [part.media_type for part in parts] == ["image/jpeg"] * 2


def test_several_frames_are_not_one_still_image(showcase):
    url = f"{showcase.url('cine')}/frames/1,2/rendered"
    assert showcase.get(url, "image/jpeg").status_code == 406
    animated = Image.open(io.BytesIO(showcase.get(url, "image/gif").content))
    assert animated.n_frames == 2


def test_a_frame_can_be_a_part_too(showcase):
    [part] = parts_of(showcase.get(f"{showcase.url('cine')}/frames/2/rendered", PNG_PARTS))
    assert np.asarray(Image.open(io.BytesIO(part.content)))[10, 10] == 40


@pytest.mark.parametrize(
    ("frames", "status"),
    [("0", 400), ("-1", 400), ("x", 400), ("1,", 400), ("1.5", 400), ("1,0", 400), ("7", 404),
     ("1,7", 404), ("999999999", 404)],
)  # fmt: skip
def test_frames_that_are_no_numbers_are_400_and_those_that_are_not_there_404(
    showcase, frames, status
):
    assert (
        showcase.get(f"{showcase.url('cine')}/frames/{frames}/rendered").status_code == status
    )


@pytest.mark.parametrize("name", ["report", "pdf", "plan"])
@pytest.mark.parametrize("view", ["rendered", "thumbnail"])
def test_what_has_no_frames_shows_none(showcase, name, view):
    assert showcase.get(f"{showcase.url(name)}/frames/1/{view}").status_code == 404


def test_a_video_is_shown_whole_for_any_of_its_frames(showcase):
    url = f"{showcase.url('video')}/frames/1"
    assert showcase.get(f"{url}/rendered").headers["content-type"] == "video/mp4"
    assert showcase.get(f"{url}/thumbnail").headers["content-type"] == "image/jpeg"


def test_parameters_hold_for_every_frame(showcase):
    url = f"{showcase.url('cine')}/frames/1,2/rendered?viewport=10,8"
    for part in parts_of(showcase.get(url, PNG_PARTS)):
        assert Image.open(io.BytesIO(part.content)).size == (10, 8)


# -- multi-frame instances ---------------------------------------------------------------------


def test_a_multi_frame_image_is_its_middle_frame(showcase):
    got = showcase.rendered("cine")
    assert image_of(got)[10, 10] == 80
    assert got.headers["content-location"].endswith("/frames/3/rendered")


def test_a_multi_frame_image_is_an_animation_where_gif_is_wanted(showcase):
    animated = Image.open(io.BytesIO(showcase.rendered("cine", "", "image/gif").content))
    assert animated.n_frames == 6
    assert animated.info["loop"] == 0
    values = []
    for index in range(6):
        animated.seek(index)
        values.append(np.asarray(animated.convert("L"))[10, 10])
        assert animated.info["duration"] == 40
    assert values == [0, 40, 80, 120, 160, 200]


def test_a_multi_frame_image_is_all_its_frames_where_parts_are_wanted(showcase):
    parts = parts_of(showcase.rendered("cine", "", PNG_PARTS))
    values = [np.asarray(Image.open(io.BytesIO(part.content)))[10, 10] for part in parts]
    assert values == [0, 40, 80, 120, 160, 200]


def test_an_animation_takes_the_parameters(showcase):
    got = showcase.rendered("cine", "viewport=10,10&annotation=technique", "image/gif")
    animated = Image.open(io.BytesIO(got.content))
    assert (animated.size, animated.n_frames) == ((10, 8), 6)


# -- studies and series ------------------------------------------------------------------------


def test_a_series_is_a_part_for_each_instance_in_order(showcase):
    url = f"{showcase.series_url('first')}/rendered"
    parts = parts_of(showcase.get(url, PNG_PARTS))
    locations = [part.headers["Content-Location"] for part in parts]
    names = ["first", "second", "third"]
    assert [location.partition("/dicom-web")[2] for location in locations] == [
        showcase.url(name) + "/rendered" for name in names
    ]
    for part, name in zip(parts, names, strict=True):
        assert part.content == showcase.rendered(name).content


@pytest.mark.parametrize("accept", ["*/*", "multipart/related", "multipart/*", JPEG_PARTS])
def test_a_series_of_images_is_jpeg_parts_by_default(showcase, accept):
    parts = parts_of(showcase.get(f"{showcase.series_url('first')}/rendered", accept))
    assert [part.media_type for part in parts] == ["image/jpeg"] * 3


@pytest.mark.parametrize("level", ["study", "series"])
@pytest.mark.parametrize("accept", ["image/jpeg", "image/png", "image/*", BROWSER])
def test_a_single_image_of_a_study_or_series_is_the_one_that_stands_for_it(
    showcase, level, accept
):
    url = showcase.study_url if level == "study" else showcase.series_url("first")
    got = showcase.get(f"{url}/rendered", accept)
    assert got.status_code == 200
    assert got.headers["content-type"].startswith("image/")
    assert got.headers["content-location"].endswith(showcase.url("second") + "/rendered")
    alone = showcase.get(f"{showcase.url('second')}/rendered", accept)
    assert got.content == alone.content


def test_a_study_is_each_instance_as_what_it_is(showcase):
    got = showcase.get(f"{showcase.study_url}/rendered", "multipart/related")
    parts = parts_of(got)
    kinds = [part.media_type for part in parts]
    assert kinds.count("image/jpeg") == 5
    for kind in ("text/html", "application/pdf", "text/xml", "model/stl", "video/mp4"):
        assert kind in kinds
    # All but the plan (Table 10.4.3-1: some, but not all).
    assert got.status_code == 206
    assert "1 of 13" in got.headers["warning"]


def test_parts_of_one_type_are_those_that_are_rendered_so(showcase):
    got = showcase.get(f"{showcase.study_url}/rendered", JPEG_PARTS)
    assert [part.media_type for part in parts_of(got)] == ["image/jpeg"] * 5
    assert got.status_code == 206
    text = showcase.get(f"{showcase.study_url}/rendered", 'multipart/related; type="text/html"')
    assert len(parts_of(text)) == 1


def test_a_series_without_anything_to_show_is_406(showcase):
    for accept in ("*/*", JPEG_PARTS, "image/jpeg"):
        url = f"{showcase.series_url('plan')}/rendered"
        assert showcase.get(url, accept).status_code == 406


@pytest.mark.parametrize(
    "path",
    ["/studies/1.2.3/rendered", "/studies/1.2.3/series/4/rendered",
     "/studies/1.2.3/series/4/instances/5/rendered",
     "/studies/1.2.3/series/4/instances/5/frames/1/rendered"],
)  # fmt: skip
@pytest.mark.parametrize("accept", ["*/*", "image/jpeg", JPEG_PARTS])
def test_what_does_not_exist_is_404(showcase, path, accept):
    assert showcase.get(path, accept).status_code == 404


# -- documents and video -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instance", "media_type", "body"),
    [
        ("pdf", "application/pdf", PDF + b"\0" * (len(PDF) % 2)),
        ("cda", "text/xml", CDA),
        ("stl", "model/stl", STL),
        ("untyped", "model/obj", b"v 0 0 0\n"),
        ("odd type", "model/mtl", b"newmtl x\n"),
        ("video", "video/mp4", VIDEO),
    ],
)
def test_documents_and_video_are_given_as_they_are(showcase, instance, media_type, body):
    for accept in ("*/*", media_type, media_type.partition("/")[0] + "/*"):
        got = showcase.rendered(instance, "", accept)
        assert got.status_code == 200
        assert got.headers["content-type"].partition(";")[0] == media_type
        assert got.content.rstrip(b"\0") == body.rstrip(b"\0")
        assert got.headers["content-length"] == str(len(got.content))


def test_the_padding_of_a_document_is_not_given(showcase):
    assert len(CDA) % 2 == 1
    assert showcase.rendered("cda", "", "text/xml").content == CDA


@pytest.mark.parametrize("accept", ["text/plain", "application/xml"])
def test_xml_can_be_had_by_its_other_names(showcase, accept):
    got = showcase.rendered("cda", "", accept)
    assert got.headers["content-type"].startswith(accept)
    assert got.content == CDA


@pytest.mark.parametrize("instance", ["pdf", "video", "stl"])
def test_documents_and_video_can_be_had_in_ranges(showcase, instance):
    url = f"{showcase.url(instance)}/rendered"
    whole = showcase.get(url)
    assert whole.headers["accept-ranges"] == "bytes"
    part = showcase.get(url, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, whole.content[5:10])
    assert part.headers["content-range"] == f"bytes 5-9/{len(whole.content)}"
    last = showcase.get(url, headers={"Range": "bytes=-3"})
    assert last.content == whole.content[-3:]
    beyond = showcase.get(url, headers={"Range": "bytes=9999999-"})
    assert beyond.status_code == 416


def test_what_a_document_says_it_is_does_not_get_into_the_headers(showcase):
    got = showcase.rendered("odd type", "", "*/*")
    assert "x-evil" not in got.headers


@pytest.mark.parametrize("instance", ["cda", "report", "stl"])
def test_no_content_of_others_runs_as_ours(showcase, instance):
    got = showcase.rendered(instance, "", "*/*")
    assert got.headers["content-security-policy"].startswith("sandbox;")
    assert got.headers["x-content-type-options"] == "nosniff"


# -- reports -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("*/*", "text/html"), ("text/*", "text/html"), ("text/html", "text/html"),
     ("text/plain", "text/plain"), ("text/xml", "text/xml"), (BROWSER, "text/html"),
     ("text/plain;q=0.9, text/html;q=0.3", "text/plain")],
)  # fmt: skip
def test_a_report_is_text(showcase, accept, media_type):
    got = showcase.rendered("report", "", accept)
    assert got.headers["content-type"] == f"{media_type}; charset=utf-8"
    for text in ("Imaging Measurement Report", "Findings", "Größe", "moderate", "12.5"):
        assert text in got.text


def page(response) -> ET.Element:
    """The page, which is well-formed XML as well."""
    text = response.text.removeprefix("<!DOCTYPE html>\n")
    return ET.fromstring(text)


def test_a_report_is_an_accessible_page(showcase):
    root = page(showcase.rendered("report", "", "text/html"))
    assert root.get("lang")
    assert root.find(f".//{XHTML}title").text == "Imaging Measurement Report"
    assert root.find(f".//{XHTML}h1").text == "Imaging Measurement Report"
    assert [heading.text for heading in root.iter(f"{XHTML}h2")] == ["Findings"]
    assert root.find(f".//{XHTML}main") is not None
    heads = [cell.get("scope") for cell in root.iter(f"{XHTML}th")]
    assert heads == ["col"] * 3 + ["row"] * 2
    assert not list(root.iter(f"{XHTML}script"))


def test_text_of_a_report_is_never_markup(showcase):
    text = showcase.rendered("report", "", "text/html").text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_measurements_are_a_table_with_their_units(showcase):
    root = page(showcase.rendered("report", "", "text/html"))
    rows = [[cell.text for cell in row] for row in root.iter(f"{XHTML}tr")]
    assert rows[1:] == [["Length", "12.5", "mm"], ["Width", "7", "mm"]]


def test_references_lead_to_rendered_instances(showcase):
    root = page(showcase.rendered("report", "", "text/html"))
    [link] = root.iter(f"{XHTML}a")
    assert link.get("href").endswith(showcase.url("first") + "/rendered")
    assert showcase.client.get(link.get("href")).headers["content-type"] == "image/jpeg"


def test_names_and_times_are_written_for_people(showcase):
    text = showcase.rendered("report", "", "text/plain").text
    assert "Reader: Müller Anna" in text
    assert "Read at: 2026-01-02 03:04:05" in text


def test_a_key_object_selection_is_text_too(showcase, shared_dicom, archive, client):
    from tests.conftest import store

    ref = store(archive, shared_dicom / "valid/derived_KO_evr_dicomdirtests-MR2.dcm").ref
    url = (f"/studies/{ref.study_instance_uid}/series/{ref.series_instance_uid}"
           f"/instances/{ref.sop_instance_uid}/rendered")  # fmt: skip
    got = client.get(url, headers={"Accept": "*/*"})
    assert got.headers["content-type"].startswith("text/html")


def test_real_reports_are_well_formed(room):
    for name in ("reportsi.dcm", "test-SR.dcm"):
        got = room.get(room.url(name) + "/rendered", "text/html")
        assert page(got).find(f".//{XHTML}h1").text


# -- character sets (§8.8) ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "headers", "charset"),
    [
        ("charset=utf-8", {}, "utf-8"),
        ("charset=UTF-8", {}, "utf-8"),
        ("charset=iso-8859-1", {}, "iso-8859-1"),
        ("charset=latin-1", {}, "iso-8859-1"),
        ("charset=ISO_IR%20100", {}, "iso-8859-1"),
        ('charset="ISO_IR%20192"', {}, "utf-8"),
        ("charset=nonsense", {}, "utf-8"),
        ("charset=nonsense,iso-8859-1", {}, "iso-8859-1"),
        ("", {"Accept-Charset": "iso-8859-1;q=0.2, utf-8;q=0.9"}, "utf-8"),
        ("", {"Accept-Charset": "iso-8859-1"}, "iso-8859-1"),
        ("", {"Accept-Charset": "*"}, "utf-8"),
        ("charset=utf-8", {"Accept-Charset": "iso-8859-1"}, "utf-8"),
        ("accept=text/plain;charset=iso-8859-1", {}, "iso-8859-1"),
    ],
)
def test_text_comes_in_the_character_set_asked_for(showcase, query, headers, charset):
    got = showcase.get(
        f"{showcase.url('report')}/rendered?{query}", "text/plain", headers=headers
    )
    assert got.headers["content-type"] == f"text/plain; charset={charset}"
    assert got.headers["vary"] == "Accept, Accept-Charset"
    assert "Größe" in got.content.decode(charset)


def test_markup_writes_what_a_character_set_lacks_by_number(showcase):
    got = showcase.rendered("report", "charset=us-ascii", "text/html")
    assert "charset=us-ascii" in got.headers["content-type"]
    assert b"Gr&#246;&#223;e" in got.content


def test_plain_text_that_cannot_be_written_so_is_406(showcase):
    refused = showcase.rendered("report", "charset=us-ascii", "text/plain")
    assert refused.status_code == 406
    assert "UTF-8" in refused.json()["detail"]


# -- HTTP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("instance", ["first", "cine", "report", "pdf", "video"])
def test_an_etag_saves_the_body(showcase, instance):
    url = f"{showcase.url(instance)}/rendered"
    first = showcase.get(url)
    again = showcase.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    other = showcase.get(url, headers={"If-None-Match": '"another"'})
    assert (other.status_code, other.content) == (200, first.content)


def test_etags_of_parts_save_the_body_too(showcase):
    for url in (showcase.study_url, showcase.series_url("first"), showcase.url("cine")):
        first = showcase.get(f"{url}/rendered", JPEG_PARTS)
        again = showcase.get(
            f"{url}/rendered", JPEG_PARTS, headers={"If-None-Match": first.headers["etag"]}
        )
        assert again.status_code == 304


def test_etags_differ_where_the_content_does(showcase):
    url = f"{showcase.url('first')}/rendered"
    queries = ["", "?quality=50", "?window=1,2,linear", "?viewport=9,9", "?annotation=patient",
               "?iccprofile=yes", "?viewport=9,9,1,1"]  # fmt: skip
    tags = {showcase.get(url + query, "image/jpeg").headers["etag"] for query in queries}
    tags.add(showcase.get(url, "image/png").headers["etag"])
    assert len(tags) == len(queries) + 1


@pytest.mark.parametrize("instance", ["first", "cine", "report", "pdf", "video"])
def test_head_is_get_without_the_body(showcase, instance):
    url = f"{showcase.url(instance)}/rendered"
    got, head = showcase.get(url), showcase.client.head(url)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("content-type", "content-length", "etag", "content-location", "vary"):
        assert head.headers.get(name) == got.headers.get(name), name


def test_answers_say_how_they_may_be_kept(showcase):
    got = showcase.rendered("first")
    assert "Accept" in got.headers["vary"]
    assert got.headers["cache-control"].startswith("private")
    assert got.headers["content-location"].endswith(showcase.url("first") + "/rendered")
    assert "last-modified" in got.headers
