"""Content negotiation (PS3.18 §8.7, RFC 9110 §12.5.1)."""

import pytest

from tests.conformance.multipart import parts_of

ELE = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
BASELINE = "1.2.840.10008.1.2.4.50"

CT = "CT_small.dcm"
J2K = "examples_jpeg2k.dcm"
IMPLICIT_FILE = "rtplan.dcm"


def got(room, path, accept, **more) -> str:
    """What was sent, in short: multipart or single, media type, transfer syntax."""
    response = room.get(path, accept, **more)
    if response.status_code != 200:
        return str(response.status_code)
    assert "Accept" in response.headers["vary"]
    content_type = response.headers["content-type"]
    form = "single"
    if content_type.startswith("multipart/"):
        form = "parts"
        content_type = parts_of(response)[0].headers["Content-Type"]
    media_type, _, syntax = content_type.partition("; transfer-syntax=")
    return f"{form} {media_type} {syntax}".strip()


NATIVE_FRAME = f"single application/octet-stream {ELE}"
NATIVE_FRAMES = f"parts application/octet-stream {ELE}"
J2K_FRAME = f"single image/jp2 {JPEG_2000}"
J2K_FRAMES = f"parts image/jp2 {JPEG_2000}"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, NATIVE_FRAMES),
        ("*/*", NATIVE_FRAMES),
        ("", NATIVE_FRAMES),
        ("multipart/related", NATIVE_FRAMES),
        ("multipart/*", NATIVE_FRAMES),
        ('multipart/related; type="*/*"', NATIVE_FRAMES),
        ("multipart/related; type=*/*", NATIVE_FRAMES),
        ('multipart/related; type="application/*"', NATIVE_FRAMES),
        ('multipart/related; type="application/octet-stream"', NATIVE_FRAMES),
        ("multipart/related; type=application/octet-stream", NATIVE_FRAMES),
        ("multipart/related;type=application/octet-stream;transfer-syntax=*", NATIVE_FRAMES),
        (f"multipart/related; type=application/octet-stream; transfer-syntax={ELE}",
         NATIVE_FRAMES),
        (f'multipart/related; transfer-syntax="{ELE}"; type="application/octet-stream"',
         NATIVE_FRAMES),
        ('Multipart/Related ; TYPE="Application/Octet-Stream" ; Transfer-Syntax=*',
         NATIVE_FRAMES),
        ('multipart/related; type="application/octet-stream"; charset=utf-8; x=y; q=0.3',
         NATIVE_FRAMES),
        ('multipart/related; type="application/octet-stream; transfer-syntax=*"',
         NATIVE_FRAMES),
        ("application/octet-stream", NATIVE_FRAME),
        ("application/octet-stream; transfer-syntax=*", NATIVE_FRAME),
        ("application/*", NATIVE_FRAME),
        (f'multipart/related; type="image/jp2"; transfer-syntax={JPEG_2000}', J2K_FRAMES),
        ('multipart/related; type="image/jp2"', J2K_FRAMES),
        ("image/jp2", J2K_FRAME),
        ('multipart/related; type="image/jls"', f"parts image/jls {JPEG_LS}"),
        ("image/x-jls", f"single image/x-jls {JPEG_LS}"),
        ('multipart/related; type="image/dicom-rle"', f"parts image/dicom-rle {RLE}"),
        ("image/dicom-rle", f"single image/dicom-rle {RLE}"),
        ("image/x-dicom-rle", f"single image/x-dicom-rle {RLE}"),
        (f"application/octet-stream; transfer-syntax={JPEG_LS}", f"single image/jls {JPEG_LS}"),
        # Never by HTTP (§8.7.3); no such thing for a frame; no syntax at all; of another type.
        (f"application/octet-stream; transfer-syntax={IMPLICIT}", "406"),
        (f"application/octet-stream; transfer-syntax={BIG_ENDIAN}", "406"),
        ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1.99", "406"),
        ("application/octet-stream; transfer-syntax=1.2.3.4", "406"),
        (f"image/jls; transfer-syntax={JPEG_2000}", "406"),
        (f"image/jpeg; transfer-syntax={BASELINE}", "406"),
        ("text/plain", "406"),
        ("video/mp4", "406"),
        ("text/*", "406"),
        ("multipart/mixed", "406"),
        ("application/dicom", "406"),
    ],
)  # fmt: skip
def test_a_native_frame_is_sent_in_the_form_that_is_asked_for(room, accept, expected):
    if accept is None:
        room.client.headers.pop("accept", None)
    assert got(room, room.url(CT) + "/frames/1", accept) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", J2K_FRAMES),
        ("multipart/related", J2K_FRAMES),
        ('multipart/related; type="*/*"', J2K_FRAMES),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", J2K_FRAMES),
        ("multipart/related; type=image/*", J2K_FRAMES),
        ("image/*", J2K_FRAME),
        ("image/jp2", J2K_FRAME),
        (f"image/jp2; transfer-syntax={JPEG_2000}", J2K_FRAME),
        ("image/jp2; transfer-syntax=*", J2K_FRAME),
        (f"application/octet-stream; transfer-syntax={JPEG_2000}", J2K_FRAME),
        ("application/octet-stream; transfer-syntax=*", J2K_FRAME),
        ("application/octet-stream", NATIVE_FRAME),
        ("multipart/related; type=application/octet-stream", NATIVE_FRAMES),
        # Compressed now is better than compressed anew, where both are wanted as much.
        ("image/jls, image/jp2", J2K_FRAME),
        ("image/jls, image/jp2;q=0.9", f"single image/jls {JPEG_LS}"),
        # Several transfer syntaxes: any will do, in that order.
        (f"application/octet-stream; transfer-syntax={ELE}; transfer-syntax={JPEG_2000}",
         NATIVE_FRAME),
        (f'multipart/related; type="image/jp2"; transfer-syntax="1.2.3,{JPEG_2000}"',
         J2K_FRAMES),
    ],
)  # fmt: skip
def test_a_compressed_frame_is_sent_as_stored_to_whoever_takes_it(room, accept, expected):
    assert got(room, room.url(J2K) + "/frames/1", accept) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("image/jp2;q=0.2, application/octet-stream;q=0.8", NATIVE_FRAME),
        ("image/jp2;q=0.8, application/octet-stream;q=0.2", J2K_FRAME),
        ("text/html, image/jp2;q=0.1", J2K_FRAME),
        ("text/html, */*;q=0.01", J2K_FRAMES),
        ("*/*, application/octet-stream", NATIVE_FRAME),
        ("application/*, image/jp2", J2K_FRAME),
        ("image/jp2;q=0, */*", f"parts application/octet-stream {ELE}"),
        ("image/*;q=0, */*;q=0.5", f"parts application/octet-stream {ELE}"),
        ("*/*, multipart/*;q=0", J2K_FRAME),
        ("*/*, multipart/related;q=0", J2K_FRAME),
        ('*/*, multipart/related;type="image/jp2";q=0, image/jp2;q=0', NATIVE_FRAMES),
        ("image/jp2, */*;q=0", J2K_FRAME),
        ("*/*;q=0", "406"),
        ("image/jp2;q=0", "406"),
        ("image/jp2;q=0.000", "406"),
        ("image/gif, image/png", "406"),
        # One that cannot be made gives way to the next.
        (f"image/jpeg; transfer-syntax={BASELINE}, image/jls;q=0.1",
         f"single image/jpeg {BASELINE}"),
        ("image/jxl, image/jls;q=0.1", f"single image/jls {JPEG_LS}"),
        (f"image/dicom-rle; transfer-syntax={JPEG_LS}, application/octet-stream;q=0.3",
         NATIVE_FRAME),
        ("nonsense", J2K_FRAMES),
        (", ,;;,", J2K_FRAMES),
        ('nonsense "," , image/jp2', J2K_FRAME),
        ("image/jp2;q=2", J2K_FRAME),
        ("image/jp2;q=x", J2K_FRAME),
    ],
)  # fmt: skip
def test_weights_and_precision_decide(room, accept, expected):
    assert got(room, room.url(J2K) + "/frames/1", accept) == expected


def test_several_accept_headers_are_one(room):
    headers = [("Accept", "text/html"), ("Accept", "image/jls;q=0.5"), ("Accept", "image/jp2")]
    response = room.client.get(room.url(J2K) + "/frames/1", headers=headers)
    assert response.headers["content-type"] == f"image/jp2; transfer-syntax={JPEG_2000}"


@pytest.mark.parametrize(
    ("query", "header", "expected"),
    [
        ("accept=image/jp2", "application/octet-stream", J2K_FRAME),
        ("accept=application/octet-stream", "image/jp2", NATIVE_FRAME),
        ("accept=image/jp2;q=0.1,image/jls", "*/*", f"single image/jls {JPEG_LS}"),
        ("accept=image/gif&accept=image/jls", "*/*", f"single image/jls {JPEG_LS}"),
        ("accept=multipart/related;type=image/jp2", "image/jls", J2K_FRAMES),
        ("accept=image/jp2%3Btransfer-syntax%3D" + JPEG_2000, "image/jls", J2K_FRAME),
        # Nothing of the parameter can be made: the header is looked at (§8.7.8.1).
        ("accept=image/gif", "image/jls", f"single image/jls {JPEG_LS}"),
        ("accept=image/gif", "text/html", "406"),
        ("accept=", "image/jls", f"single image/jls {JPEG_LS}"),
        # §8.7.3.7: the syntax may stand in a parameter of its own.
        ("transfer-syntax=*", "application/octet-stream", J2K_FRAME),
        (f"transfer-syntax={JPEG_LS}", "image/jls", f"single image/jls {JPEG_LS}"),
        ("unknown=1", "image/jp2", J2K_FRAME),
    ],
)
def test_the_accept_parameter_comes_before_the_header(room, query, header, expected):
    assert got(room, f"{room.url(J2K)}/frames/1?{query}", header) == expected


@pytest.mark.parametrize("query", ["application/dicom+xml", "application/dicom%2Bxml"])
def test_a_plus_in_the_accept_parameter_may_be_escaped_or_not(room, query):
    path = f"{room.url(CT)}/metadata?accept={query}"
    assert got(room, path, "application/json") == "single application/dicom+xml"


# -- instances ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", f"parts application/dicom {ELE}"),
        ("multipart/*", f"parts application/dicom {ELE}"),
        ("multipart/related", f"parts application/dicom {ELE}"),
        ('multipart/related; type="*/*"', f"parts application/dicom {ELE}"),
        ("multipart/related; type=application/dicom", f"parts application/dicom {ELE}"),
        ('multipart/related; type="application/dicom"', f"parts application/dicom {ELE}"),
        ("application/dicom", f"single application/dicom {ELE}"),
        ("application/*", f"single application/dicom {ELE}"),
        (f"application/dicom; transfer-syntax={ELE}", f"single application/dicom {ELE}"),
        ("application/dicom; transfer-syntax=*", f"single application/dicom {JPEG_2000}"),
        (f"application/dicom; transfer-syntax={JPEG_2000}",
         f"single application/dicom {JPEG_2000}"),
        (f"application/dicom; transfer-syntax={JPEG_LS}",
         f"single application/dicom {JPEG_LS}"),
        (f"application/dicom; transfer-syntax={IMPLICIT}", "406"),
        (f"application/dicom; transfer-syntax={BIG_ENDIAN}", "406"),
        ("application/dicom; transfer-syntax=1.2.840.10008.1.2.4.100", "406"),
        (f"application/dicom; transfer-syntax={IMPLICIT}, application/dicom;q=0.5",
         f"single application/dicom {ELE}"),
        ("application/zip", "single application/zip"),
        ("image/jpeg", "406"),
        ("application/dicom+json", "406"),
        ("text/html", "406"),
        ("application/dicom;q=0", "406"),
        # An instance as octet-stream is its bulk data (Table 10.4.4-1).
        ('multipart/related; type="application/octet-stream"', NATIVE_FRAMES),
        ('multipart/related; type="image/jp2"', J2K_FRAMES),
    ],
)  # fmt: skip
def test_an_instance_is_sent_in_the_form_that_is_asked_for(room, accept, expected):
    assert got(room, room.url(J2K), accept) == expected


@pytest.mark.parametrize("level", ["series_url", "study_url"])
@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", f"parts application/dicom {ELE}"),
        ('multipart/related; type="application/dicom"', f"parts application/dicom {ELE}"),
        ("application/dicom", "406"),
        ("application/dicom; transfer-syntax=*", "406"),
        ("application/octet-stream", "406"),
        ("image/jp2", "406"),
        ("application/dicom, multipart/related;q=0.1", f"parts application/dicom {ELE}"),
        ("application/zip", "single application/zip"),
    ],
)
def test_a_single_part_is_no_form_of_a_study_or_series(room, level, accept, expected):
    assert got(room, getattr(room, level)(J2K), accept) == expected


@pytest.mark.parametrize(
    ("accept", "syntax"),
    [
        ("*/*", ELE),
        ("application/dicom", ELE),
        ("multipart/related; type=application/dicom", ELE),
        # As stored means as stored, whatever it is.
        ("application/dicom; transfer-syntax=*", IMPLICIT),
    ],
)
def test_implicit_instances_leave_in_explicit_unless_asked_for_as_stored(room, accept, syntax):
    assert got(room, room.url(IMPLICIT_FILE), accept).endswith(f"application/dicom {syntax}")


# -- metadata ----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["url", "series_url", "study_url"])
@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "single application/dicom+json"),
        ("application/dicom+json", "single application/dicom+json"),
        ('application/dicom+json; charset="utf-8"', "single application/dicom+json"),
        ("application/*", "single application/dicom+json"),
        ("application/json", "single application/json"),
        ("application/json;q=0.5, application/dicom+json", "single application/dicom+json"),
        ("application/dicom+json;q=0, application/*", "single application/json"),
        ('multipart/related; type="application/dicom+xml"', "parts application/dicom+xml"),
        ("multipart/related; type=application/dicom+xml", "parts application/dicom+xml"),
        ("multipart/related", "parts application/dicom+xml"),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*",
         "single application/dicom+json"),
        ("application/dicom+json, multipart/related; type=application/octet-stream;"
         " transfer-syntax=*", "single application/dicom+json"),
        ("image/png", "406"),
        ("text/html", "406"),
        ("application/dicom", "406"),
        ('multipart/related; type="application/dicom"', "406"),
    ],
)  # fmt: skip
def test_metadata_is_sent_in_the_form_that_is_asked_for(room, level, accept, expected):
    assert got(room, getattr(room, level)(CT) + "/metadata", accept) == expected


# -- 406 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "/frames/1", "/metadata", "/bulkdata", "/pixeldata",
                                    "/bulkdata/7FE00010"])  # fmt: skip
def test_406_is_a_problem_that_lists_what_is_offered(room, suffix):
    response = room.get(room.url(J2K) + suffix, "audio/basic")
    assert response.status_code == 406
    assert response.headers["content-type"] == "application/problem+json"
    assert "Accept" in response.headers["vary"]
    problem = response.json()
    assert problem["status"] == 406
    assert problem["offered"]
    assert all(offered.partition(";")[0] in problem["detail"] for offered in problem["offered"])
    # What is offered can be had.
    for offered in problem["offered"]:
        assert room.get(room.url(J2K) + suffix, offered).status_code == 200, offered


@pytest.mark.parametrize("suffix", ["", "/frames/1", "/metadata"])
def test_what_does_not_exist_is_404_whatever_is_accepted(room, suffix):
    path = room.url(J2K) + "9" + suffix
    assert room.get(path, "*/*").status_code == 404
    assert room.get(path, "audio/basic").status_code == 404 or suffix == "/metadata"
