"""PS3.18 §9: WADO-URI."""

import io

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.conformance.showcase import CDA, STUDY, VIDEO, image_of, ramp

EXPLICIT = "1.2.840.10008.1.2.1"


# -- what is mandatory (§9.1.2.1) --------------------------------------------------------------


@pytest.mark.parametrize("name", ["requestType", "studyUID", "seriesUID", "objectUID"])
def test_without_a_mandatory_parameter_it_is_400(showcase, name):
    refused = showcase.wado("first", **{name: None})
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"
    assert name in refused.json()["detail"]


@pytest.mark.parametrize("value", ["", "wado", "XYZ", "WADO "])
def test_another_request_type_is_400(showcase, value):
    assert showcase.wado("first", requestType=value).status_code == 400


@pytest.mark.parametrize("name", ["studyUID", "seriesUID", "objectUID"])
@pytest.mark.parametrize("value", ["", "x", "1..2", "1.2 ", "1" * 65])
def test_a_malformed_uid_is_400(showcase, name, value):
    assert showcase.wado("first", **{name: value}).status_code == 400


@pytest.mark.parametrize("name", ["studyUID", "seriesUID", "objectUID"])
def test_uids_that_do_not_belong_together_are_404(showcase, name):
    assert showcase.wado("first", **{name: "1.2.3.4"}).status_code == 404
    assert showcase.wado("first", seriesUID=f"{STUDY}.2").status_code == 404


def test_a_parameter_given_twice_is_400(showcase):
    assert showcase.wado("first", objectUID=[f"{STUDY}.1.1", f"{STUDY}.1.2"]).status_code == 400


def test_parameters_come_in_any_order_and_unknown_ones_are_ignored(showcase):
    ref = showcase.refs["first"]
    url = str(showcase.client.base_url).replace("/dicom-web/", "/wado")
    got = showcase.client.get(
        f"{url}?x=y&objectUID={ref.sop_instance_uid}&seriesUID={ref.series_instance_uid}"
        f"&requestType=WADO&studyUID={ref.study_instance_uid}"
    )
    assert got.status_code == 200


# -- which representation (§9.3, §9.1.2.2.1) ---------------------------------------------------


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("first", "image/jpeg"), ("cine", "image/jpeg"), ("colour", "image/jpeg"),
     ("report", "text/html"), ("pdf", "application/pdf"), ("cda", "text/xml"),
     ("stl", "model/stl"), ("video", "video/mp4"), ("plan", "application/dicom")],
)  # fmt: skip
def test_by_default_it_is_what_the_instance_is_rendered_as(showcase, name, media_type):
    got = showcase.wado(name)
    assert got.status_code == 200
    assert got.headers["content-type"].partition(";")[0] == media_type


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("image/jpeg", "image/jpeg"),
        ("image/png", "image/png"),
        ("image/gif", "image/gif"),
        ("image/jp2", "image/jp2"),
        ("application/dicom", "application/dicom"),
        ("image/png,image/jpeg", "image/png"),
        ("image/png;q=0.3,image/jpeg;q=0.8", "image/jpeg"),
        ("video/mpeg,image/png", "image/png"),
        ("image/*", "image/jpeg"),
    ],
)
def test_content_type_decides(showcase, content_type, expected):
    got = showcase.wado("first", accept="image/gif", contentType=content_type)
    assert got.status_code == 200
    assert got.headers["content-type"] == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [("image/png", "image/png"), ("application/dicom", "application/dicom"),
     ("image/webp, image/gif;q=0.2", "image/gif"), ("*/*", "image/jpeg")],
)  # fmt: skip
def test_without_content_type_the_header_decides(showcase, accept, expected):
    got = showcase.wado("first", accept=accept)
    assert got.headers["content-type"] == expected


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("first", "text/html"), ("first", "application/pdf"), ("report", "image/jpeg"),
     ("plan", "image/jpeg"), ("pdf", "image/png"), ("first", "video/mp4")],
)  # fmt: skip
def test_what_it_is_not_rendered_as_is_406(showcase, name, content_type):
    refused = showcase.wado(name, contentType=content_type)
    assert refused.status_code == 406
    assert "application/dicom" in refused.json()["detail"]


@pytest.mark.parametrize(
    "content_type",
    ["", "nonsense", "application/dicom,image/jpeg", "application/dicom;transfer-syntax=1.2.3",
     "text/html;charset=utf-8"],
)  # fmt: skip
def test_a_content_type_that_is_forbidden_is_400(showcase, content_type):
    assert showcase.wado("first", contentType=content_type).status_code == 400


# -- DICOM (§9.4) ------------------------------------------------------------------------------


def dicom(response):
    assert response.status_code == 200, response.text
    # No transfer syntax parameter here (§9.1.3).
    assert response.headers["content-type"] == "application/dicom"
    assert response.headers["content-length"] == str(len(response.content))
    return pydicom.dcmread(io.BytesIO(response.content))


def test_dicom_is_explicit_little_endian_by_default(showcase):
    got = dicom(showcase.wado("first", contentType="application/dicom"))
    assert got.file_meta.TransferSyntaxUID == EXPLICIT
    assert got.SOPInstanceUID == f"{STUDY}.1.1"
    assert np.array_equal(got.pixel_array, ramp())


@pytest.mark.parametrize(
    ("name", "stored"),
    [("MR_small_implicit.dcm", "1.2.840.10008.1.2"),
     ("MR_small_bigendian.dcm", "1.2.840.10008.1.2.2"),
     ("MR_small_RLE.dcm", "1.2.840.10008.1.2.5")],
)  # fmt: skip
def test_any_stored_syntax_comes_as_explicit_little_endian(archive, client, name, stored):
    from tests.conftest import store, wheel_file

    path = wheel_file(name)
    ref = store(archive, path).ref
    url = str(client.base_url).replace("/dicom-web/", "/wado")
    asked = {
        "requestType": "WADO", "studyUID": ref.study_instance_uid,
        "seriesUID": ref.series_instance_uid, "objectUID": ref.sop_instance_uid,
        "contentType": "application/dicom",
    }  # fmt: skip
    got = dicom(client.get(url, params=asked))
    assert got.file_meta.TransferSyntaxUID == EXPLICIT
    assert np.array_equal(got.pixel_array, pydicom.dcmread(path).pixel_array)
    as_stored = client.get(url, params=asked | {"transferSyntax": "*"})
    assert dicom(as_stored).file_meta.TransferSyntaxUID == stored
    assert as_stored.content == path.read_bytes()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5",
                                    "1.2.840.10008.1.2.4.90", EXPLICIT])  # fmt: skip
def test_the_transfer_syntax_asked_for_is_made(showcase, syntax):
    got = dicom(showcase.wado("first", contentType="application/dicom", transferSyntax=syntax))
    assert got.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(got.pixel_array, ramp())


@pytest.mark.parametrize(
    ("syntax", "status"),
    [("", 400), ("x", 400), ("1.2.840.10008.1.2", 406), ("1.2.840.10008.1.2.2", 406),
     ("1.2.3.4.5", 406), ("1.2.840.10008.1.2.4.102", 406),
     (["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"], 400)],
)  # fmt: skip
def test_a_transfer_syntax_that_is_none_is_400_and_one_that_is_not_made_406(
    showcase, syntax, status
):
    got = showcase.wado("first", contentType="application/dicom", transferSyntax=syntax)
    assert got.status_code == status


def test_an_instance_without_pixels_is_dicom_too(showcase):
    assert dicom(showcase.wado("report", contentType="application/dicom")).Modality == "SR"


@pytest.mark.parametrize(
    "parameter",
    [{"windowCenter": "1", "windowWidth": "2"}, {"windowCenter": "1"}, {"frameNumber": "1"},
     {"rows": "10", "columns": "10"}, {"region": "0,0,1,1"}, {"imageQuality": "50"}],
)  # fmt: skip
def test_parameters_of_images_do_not_go_with_dicom(showcase, parameter):
    got = showcase.wado("cine", contentType="application/dicom", **parameter)
    assert got.status_code == 400


def test_dicom_can_be_had_in_ranges_and_saved_by_its_etag(showcase):
    asked = {"contentType": "application/dicom"}
    whole = showcase.wado("first", **asked)
    url = whole.url
    part = showcase.client.get(url, headers={"Range": "bytes=128-131"})
    assert (part.status_code, part.content) == (206, b"DICM")
    again = showcase.client.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert again.status_code == 304
    head = showcase.client.head(url)
    assert head.headers["content-length"] == whole.headers["content-length"]


@pytest.mark.parametrize(("value", "status"), [("yes", 406), ("no", 400), ("", 400)])
@pytest.mark.parametrize("content_type", ["application/dicom", "image/jpeg"])
def test_nothing_identifiable_is_sent_as_anonymous(showcase, value, status, content_type):
    got = showcase.wado("first", contentType=content_type, anonymize=value)
    assert got.status_code == status


# -- rendered images (§9.5) --------------------------------------------------------------------


def test_window_is_linear(showcase):
    got = image_of(
        showcase.wado("first", contentType="image/png", windowCenter="600.5", windowWidth="300")
    )
    expected = np.clip(((ramp() - 600.0) / 299 + 0.5) * 255, 0, 255)
    assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize(
    "window",
    [{"windowCenter": "1"}, {"windowWidth": "1"}, {"windowCenter": "x", "windowWidth": "1"},
     {"windowCenter": "1", "windowWidth": "0"}, {"windowCenter": "", "windowWidth": ""},
     {"windowCenter": "1", "windowWidth": "-5"}, {"windowCenter": "nan", "windowWidth": "5"}],
)  # fmt: skip
def test_half_a_window_or_one_without_numbers_is_400(showcase, window):
    assert showcase.wado("first", contentType="image/png", **window).status_code == 400


@pytest.mark.parametrize(
    ("parameters", "shape"),
    [
        ({"rows": "20", "columns": "30"}, (20, 30)),
        ({"rows": "20", "columns": "300"}, (20, 30)),
        ({"rows": "80"}, (80, 120)),
        ({"columns": "30"}, (20, 30)),
        ({}, (40, 60)),
        ({"region": "0,0,1,1"}, (40, 60)),
        ({"region": "0.5,0.5,1,1"}, (20, 30)),
        ({"region": "0,0,0.5,1", "rows": "80"}, (80, 60)),
        ({"region": "0.25,0,0.75,1", "rows": "40", "columns": "100"}, (40, 30)),
    ],
)
def test_rows_columns_and_region_give_the_size(showcase, parameters, shape):
    got = showcase.wado("first", contentType="image/png", **parameters)
    assert image_of(got).shape == shape


def test_a_region_is_those_pixels(showcase):
    whole = image_of(showcase.wado("first", contentType="image/png"))
    got = showcase.wado("first", contentType="image/png", region="0.5,0.25,1.0,0.75")
    assert np.array_equal(image_of(got), whole[10:30, 30:60])


@pytest.mark.parametrize(
    "region",
    ["", "0,0,1", "0,0,1,1,1", "0,0,0,1", "0.5,0,0.5,1", "0.6,0,0.4,1", "-0.1,0,1,1",
     "0,0,1.1,1", "a,b,c,d", "0,0,1,nan"],
)  # fmt: skip
def test_a_region_that_encloses_nothing_is_400(showcase, region):
    assert showcase.wado("first", contentType="image/png", region=region).status_code == 400


@pytest.mark.parametrize("name", ["rows", "columns"])
@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "x", "99999999"])
def test_rows_and_columns_are_positive_integers(showcase, name, value):
    assert showcase.wado("first", contentType="image/png", **{name: value}).status_code == 400


def test_frame_number_chooses_the_frame(showcase):
    for number in range(1, 7):
        got = showcase.wado("cine", contentType="image/png", frameNumber=str(number))
        assert image_of(got)[10, 10] == 40 * (number - 1)


@pytest.mark.parametrize("value", ["0", "7", "-1", "x", "", "1.0", ["1", "2"]])
def test_a_frame_that_is_not_there_is_400(showcase, value):
    got = showcase.wado("cine", contentType="image/png", frameNumber=value)
    assert got.status_code == 400


@pytest.mark.parametrize("name", ["first", "report", "pdf"])
def test_a_frame_number_is_for_multi_frame_images(showcase, name):
    assert showcase.wado(name, frameNumber="1").status_code == 400


def test_a_multi_frame_image_is_an_animation_as_gif(showcase):
    got = showcase.wado("cine", contentType="image/gif")
    assert Image.open(io.BytesIO(got.content)).n_frames == 6
    one = showcase.wado("cine", contentType="image/gif", frameNumber="2")
    assert Image.open(io.BytesIO(one.content)).n_frames == 1


def test_image_quality_is_that_of_jpeg(showcase):
    low = showcase.wado("first", imageQuality="5")
    high = showcase.wado("first", imageQuality="95")
    assert len(low.content) < len(high.content)
    for value in ("0", "101", "x", ""):
        assert showcase.wado("first", imageQuality=value).status_code == 400


@pytest.mark.parametrize("name", ["annotation", "imageAnnotation"])
def test_annotations_go_by_both_names(showcase, name):
    plain = showcase.wado("first", contentType="image/png", rows="400", columns="600")
    got = showcase.wado(
        "first", contentType="image/png", rows="400", columns="600", **{name: "patient"}
    )
    assert not np.array_equal(image_of(got), image_of(plain))
    assert showcase.wado("first", **{name: ""}).status_code == 400
    unknown = showcase.wado("first", **{name: "logo"})
    assert unknown.status_code == 200
    assert "logo" in unknown.headers["warning"]


# -- presentation states (§9.5.1.2.7) ----------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"presentationUID": f"{STUDY}.1.2"}, 400),
        ({"presentationSeriesUID": f"{STUDY}.1"}, 400),
        ({"presentationUID": "1.2.3", "presentationSeriesUID": "1.2"}, 400),
        ({"presentationUID": "x", "presentationSeriesUID": "1.2"}, 400),
        ({"presentationUID": f"{STUDY}.1.2", "presentationSeriesUID": f"{STUDY}.1"}, 406),
        ({"presentationUID": f"{STUDY}.1.2", "presentationSeriesUID": f"{STUDY}.1",
          "windowCenter": "1", "windowWidth": "2"}, 400),
    ],
)  # fmt: skip
def test_a_presentation_state_is_refused_rather_than_passed_over(showcase, parameters, status):
    assert showcase.wado("first", **parameters).status_code == status


# -- text, documents, video --------------------------------------------------------------------


def test_documents_and_video_are_given_as_they_are(showcase):
    assert showcase.wado("cda", contentType="text/xml").content == CDA
    got = showcase.wado("video", contentType="video/mp4")
    assert got.content == VIDEO
    part = showcase.client.get(got.url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, VIDEO[10:20])


def test_a_report_comes_in_the_character_set_asked_for(showcase):
    got = showcase.wado("report", contentType="text/plain", charset="iso-8859-1")
    assert got.headers["content-type"] == "text/plain; charset=iso-8859-1"
    assert "Größe".encode("latin-1") in got.content


def test_rendered_answers_have_etag_head_and_location(showcase):
    got = showcase.wado("first", contentType="image/png")
    again = showcase.client.get(got.url, headers={"If-None-Match": got.headers["etag"]})
    assert again.status_code == 304
    head = showcase.client.head(got.url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert showcase.client.get(got.headers["content-location"]).status_code == 200


def test_rendering_is_the_same_by_both_services(showcase):
    by_uri = showcase.wado("first", contentType="image/png")
    assert by_uri.content == showcase.rendered("first").content
