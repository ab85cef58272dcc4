"""Bulk data and pixel data (PS3.18 §10.4.1.1.4, §10.4.1.1.5, §8.7.3.3)."""

import numpy as np
import pydicom
import pytest

from tests import synthetic
from tests.conformance.multipart import parts_of
from tests.conftest import store

ELE = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
OCTETS = f"application/octet-stream; transfer-syntax={ELE}"
PARTS = 'multipart/related; type="application/octet-stream"'
AS_STORED = "multipart/related; type=application/octet-stream; transfer-syntax=*"
VIDEO_SYNTAX = "1.2.840.10008.1.2.4.102"


def bulk_uris(attributes: dict) -> list[tuple[str, str]]:
    """Tag and address of every bulk value, in sequences too."""
    found = []
    for tag, element in attributes.items():
        if "BulkDataURI" in element:
            found.append((tag, element["BulkDataURI"]))
        for item in element.get("Value", []) if element["vr"] == "SQ" else []:
            found += bulk_uris(item)
    return found


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        PARTS,
        'multipart/related; type="*/*"',
        AS_STORED,
        "multipart/related",
        "application/octet-stream",
    ],
)
def test_every_bulk_data_uri_resolves(room, accept):
    resolved = 0
    for name in room.refs:
        (metadata,) = room.get(room.url(name) + "/metadata").json()
        for _, uri in bulk_uris(metadata):
            assert uri.startswith("http")
            response = room.get(uri, accept)
            if accept == "application/octet-stream" or accept == PARTS:
                # What cannot be decoded has no native form.
                assert response.status_code in (200, 406), (name, uri)
            else:
                assert response.status_code == 200, (name, uri)
            if response.status_code == 200 and accept.startswith("multipart"):
                assert all("/bulkdata/" in part.headers["Content-Location"]
                           or "/frames/" in part.headers["Content-Location"]
                           for part in parts_of(response))  # fmt: skip
            resolved += response.status_code == 200
    assert resolved > 40


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", OCTETS),
        ("application/octet-stream", OCTETS),
        ("application/*", OCTETS),
        ("application/octet-stream; transfer-syntax=*", OCTETS),
        (f"application/octet-stream; transfer-syntax={ELE}", OCTETS),
    ],
)
def test_one_value_is_one_body_for_whoever_does_not_mind(room, accept, content_type):
    response = room.get(room.url("CT_small.dcm") + "/bulkdata/7FE00010", accept)
    assert response.headers["content-type"] == content_type
    assert response.content == pydicom.dcmread(room.paths["CT_small.dcm"]).PixelData
    assert response.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("accept", [PARTS, "multipart/related", 'multipart/related;type="*/*"',
                                    "multipart/*", AS_STORED])  # fmt: skip
def test_one_value_comes_in_parts_where_only_parts_are_accepted(room, accept):
    (part,) = parts_of(room.get(room.url("CT_small.dcm") + "/bulkdata/7FE00010", accept))
    assert part.headers["Content-Type"] == OCTETS
    assert part.content == pydicom.dcmread(room.paths["CT_small.dcm"]).PixelData
    assert part.headers["Content-Location"].endswith("/bulkdata/7FE00010")


@pytest.mark.parametrize("path", ["7FE00010", "7fe00010", "PixelData", "7FE00010/"])
def test_a_value_goes_by_tag_or_keyword(room, path):
    response = room.get(f"{room.url('CT_small.dcm')}/bulkdata/{path}")
    assert response.content == pydicom.dcmread(room.paths["CT_small.dcm"]).PixelData


@pytest.mark.parametrize("path", ["54000100/0/54001010", "54000100.0.54001010",
                                  "WaveformSequence/0/WaveformData",
                                  "WaveformSequence.1.WaveformData"])  # fmt: skip
def test_a_value_in_a_sequence_goes_by_its_path(room, path):
    dataset = pydicom.dcmread(room.paths["waveform_ecg.dcm"])
    item = dataset.WaveformSequence[1 if "1" in path.split(".") else 0]
    response = room.get(f"{room.url('waveform_ecg.dcm')}/bulkdata/{path}")
    assert response.status_code == 200
    assert response.content == item.WaveformData


@pytest.mark.parametrize("path", ["00100010", "7FE00011", "nothing", "7FE00010/0/00100010",
                                  "54000100/9/54001010", "0"])  # fmt: skip
def test_what_is_no_bulk_value_is_404(room, path):
    assert room.get(f"{room.url('CT_small.dcm')}/bulkdata/{path}").status_code == 404


# -- compressed pixel data ---------------------------------------------------------------------


def test_one_compressed_frame_is_one_body_of_its_own_type(room):
    response = room.get(room.url("examples_jpeg2k.dcm") + "/bulkdata/7FE00010", "*/*")
    assert response.headers["content-type"] == (
        "image/jp2; transfer-syntax=1.2.840.10008.1.2.4.90"
    )
    assert response.content[:4] == b"\xff\x4f\xff\x51"


@pytest.mark.parametrize("suffix", ["/bulkdata/7FE00010", "/pixeldata", "/bulkdata"])
def test_compressed_frames_are_a_part_each(room, suffix):
    parts = parts_of(room.get(room.url("examples_ybr_color.dcm") + suffix, AS_STORED))
    frames = [part for part in parts if "/frames/" in part.headers["Content-Location"]]
    assert [part.content[:3] for part in frames] == [b"\xff\xd8\xff"] * 30
    assert {part.headers["Content-Type"] for part in frames} == {
        "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"
    }


@pytest.mark.parametrize("suffix", ["/bulkdata/7FE00010", "/pixeldata"])
@pytest.mark.parametrize("accept", [PARTS, "application/octet-stream"])
def test_compressed_pixel_data_is_decoded_for_who_takes_octets(room, suffix, accept):
    response = room.get(room.url("examples_ybr_color.dcm") + suffix, accept)
    content = response.content if accept[0] == "a" else parts_of(response)[0].content
    assert len(content) == 30 * 240 * 320 * 3
    one = room.get(
        room.url("examples_ybr_color.dcm") + "/frames/30", "application/octet-stream"
    )
    assert content.endswith(one.content)


# -- whole resources ---------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["url", "series_url", "study_url"])
@pytest.mark.parametrize("accept", ["*/*", PARTS, AS_STORED, "multipart/related"])
def test_all_bulk_data_of_a_resource_are_parts(room, level, accept):
    base = getattr(room, level)("waveform_ecg.dcm")
    parts = parts_of(room.get(base + "/bulkdata", accept))
    metadata = room.get(base + "/metadata").json()
    uris = [uri for attributes in metadata for _, uri in bulk_uris(attributes)]
    assert [part.headers["Content-Location"] for part in parts] == uris
    for part in parts:
        assert part.content == room.get(part.headers["Content-Location"]).content


@pytest.mark.parametrize("level", ["url", "series_url", "study_url"])
def test_pixel_data_of_a_resource_are_parts(room, level):
    response = room.get(getattr(room, level)("CT_small.dcm") + "/pixeldata", "*/*")
    pixels = pydicom.dcmread(room.paths["CT_small.dcm"]).PixelData
    assert pixels in [part.content for part in parts_of(response)]


@pytest.mark.parametrize("level", ["series_url", "study_url"])
@pytest.mark.parametrize("suffix", ["/bulkdata", "/pixeldata"])
@pytest.mark.parametrize("accept", ["application/octet-stream", "image/jpeg", "text/html"])
def test_a_single_part_is_no_form_of_many_values(room, level, suffix, accept):
    response = room.get(getattr(room, level)("CT_small.dcm") + suffix, accept)
    assert response.status_code == 406


def test_only_what_can_be_had_in_the_media_type_is_sent(room):
    accept = 'multipart/related; type="image/jls"'
    parts = parts_of(room.get(room.study_url("CT_small.dcm") + "/bulkdata", accept))
    assert {part.media_type for part in parts} == {"image/jls"}


def test_values_that_are_left_out_are_told_of(client, archive):
    grey = synthetic.image(rows=4, columns=4, number_of_frames=1, bits_allocated=8)
    grey.PixelData = bytes(16)
    document = synthetic.data_set(EncapsulatedDocument=bytes(64))
    document.StudyInstanceUID = grey.StudyInstanceUID
    for dataset in (grey, document):
        ref = store(archive, synthetic.part10(dataset, ELE)).ref
    url = f"/studies/{ref.study_instance_uid}/bulkdata"
    whole = client.get(url, headers={"Accept": PARTS})
    assert (whole.status_code, len(parts_of(whole))) == (200, 2)
    some = client.get(url, headers={"Accept": 'multipart/related; type="image/jls"'})
    assert (some.status_code, len(parts_of(some))) == (206, 1)
    assert "1 of 2 values" in some.headers["warning"]


@pytest.mark.parametrize("suffix", ["/bulkdata", "/pixeldata"])
def test_a_resource_without_bulk_data_is_404(room, suffix):
    assert room.get(room.url("rtplan.dcm") + suffix, "*/*").status_code == 404
    assert room.get("/studies/1.2.3.4" + suffix, "*/*").status_code == 404


# -- what lies in big endian -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "tag", "dtype"),
    [
        ("PixelData", "7FE00010", "u2"),
        ("FloatPixelData", "7FE00008", "f4"),
        ("DoubleFloatPixelData", "7FE00009", "f8"),
        ("RedPaletteColorLookupTableData", "00281201", "u2"),
        ("LongPrimitivePointIndexList", "00660040", "u4"),
    ],
)
@pytest.mark.parametrize("accept", ["application/octet-stream", PARTS])
def test_words_of_big_endian_instances_leave_in_little_endian(
    client, archive, keyword, tag, dtype, accept
):
    values = np.arange(5000).astype(">" + dtype)
    dataset = synthetic.data_set(**{keyword: values.tobytes()})
    if "Pixel" in keyword:
        dataset.Rows, dataset.Columns, dataset.BitsAllocated = 50, 100, values.itemsize * 8
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    url = synthetic.url(store(archive, synthetic.part10(dataset, BIG_ENDIAN)).ref)
    response = client.get(f"{url}/bulkdata/{tag}", headers={"Accept": accept})
    content = response.content if accept[0] == "a" else parts_of(response)[0].content
    assert content == values.astype("<" + dtype).tobytes()


@pytest.mark.parametrize(("first", "last"), [(0, 0), (1, 1), (3, 10), (9998, 9999), (7, 7001)])
def test_a_range_of_turned_words_is_a_range_of_the_whole(client, archive, first, last):
    values = np.arange(5000).astype(">u2")
    dataset = synthetic.data_set(RedPaletteColorLookupTableData=values.tobytes())
    url = synthetic.url(store(archive, synthetic.part10(dataset, BIG_ENDIAN)).ref)
    response = client.get(
        f"{url}/bulkdata/00281201", headers={"Range": f"bytes={first}-{last}"}
    )
    assert response.status_code == 206
    assert response.content == values.astype("<u2").tobytes()[first : last + 1]


# -- documents and videos ----------------------------------------------------------------------


@pytest.fixture
def pdf(client, archive):
    document = b"%PDF-1.7\n" + bytes(range(256)) * 40 + b"\n%%EOF\n"
    dataset = synthetic.data_set(
        "1.2.840.10008.5.1.4.1.1.104.1",
        EncapsulatedDocument=document,
        MIMETypeOfEncapsulatedDocument="application/pdf",
    )
    ref = store(archive, synthetic.part10(dataset, ELE)).ref
    return synthetic.url(ref) + "/bulkdata/00420011", document


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/pdf"),
        ("application/pdf", "application/pdf"),
        ("application/*", "application/pdf"),
        ("application/octet-stream", "application/octet-stream"),
        ("text/html, application/pdf;q=0.9", "application/pdf"),
    ],
)
def test_a_document_is_of_the_type_it_names(client, pdf, accept, content_type):
    url, document = pdf
    response = client.get(url, headers={"Accept": accept})
    assert response.headers["content-type"] == content_type
    assert response.content[: len(document)] == document
    part = client.get(url, headers={"Accept": accept, "Range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, b"%PDF-1.7")


def test_a_document_in_parts_is_of_the_type_it_names(client, pdf):
    for accept in (PARTS, "multipart/related", 'multipart/related; type="application/pdf"'):
        (part,) = parts_of(client.get(pdf[0], headers={"Accept": accept}))
        assert part.headers["Content-Type"] == "application/pdf"
    refused = {"Accept": 'multipart/related; type="image/png"'}
    assert client.get(pdf[0], headers=refused).status_code == 406


def test_a_document_has_its_address_however_short_it_is(client, archive):
    dataset = synthetic.data_set(
        EncapsulatedDocument=b"%PDF-1.7\n%%EOF\n",
        MIMETypeOfEncapsulatedDocument="application/pdf",
    )
    url = synthetic.url(store(archive, synthetic.part10(dataset, ELE)).ref)
    (metadata,) = client.get(f"{url}/metadata").json()
    assert metadata["00420011"]["BulkDataURI"].endswith("/bulkdata/00420011")
    for suffix in ("/bulkdata/00420011", "/rendered"):
        response = client.get(url + suffix)
        assert response.headers["content-type"] == "application/pdf"
        assert response.content.rstrip(b"\0") == dataset.EncapsulatedDocument
    (part,) = parts_of(client.get(f"{url}/bulkdata"))
    assert part.headers["Content-Type"] == "application/pdf"


@pytest.mark.parametrize("named", ["", "nonsense", "text/html\r\nX: y"])
def test_a_document_that_names_no_type_is_octets(client, archive, named):
    dataset = synthetic.data_set(EncapsulatedDocument=bytes(8000))
    if named:
        dataset.MIMETypeOfEncapsulatedDocument = named
    url = synthetic.url(store(archive, synthetic.part10(dataset, ELE)).ref)
    assert client.get(f"{url}/bulkdata/00420011").headers["content-type"] == OCTETS


@pytest.fixture
def video(client, archive):
    stream = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 64
    dataset = synthetic.image(rows=8, columns=8, number_of_frames=25, bits_allocated=8)
    half = len(stream) // 2
    fragments = [stream[:half], stream[half:]]
    dataset.PixelData = pydicom.encaps.encapsulate(fragments, has_bot=False)
    ref = store(archive, synthetic.part10(dataset, VIDEO_SYNTAX)).ref
    return synthetic.url(ref), stream


@pytest.mark.parametrize("suffix", ["/bulkdata/7FE00010", "/frames/1"])
@pytest.mark.parametrize("accept", ["*/*", "video/mp4", "video/*", "application/octet-stream"])
def test_a_video_is_one_stream_in_one_body(client, video, suffix, accept):
    url, stream = video
    response = client.get(url + suffix, headers={"Accept": accept})
    if suffix == "/frames/1" and accept == "*/*":
        content = parts_of(response)[0].content
    else:
        content = response.content
        assert response.headers["content-type"].startswith("video/mp4")
        piece = client.get(url + suffix, headers={"Accept": accept, "Range": "bytes=4-11"})
        assert (piece.status_code, piece.content) == (206, b"ftypmp42")
    assert content == stream


@pytest.mark.parametrize("accept", ["*/*", "application/dicom",
                                    'multipart/related; type="application/dicom"'])  # fmt: skip
def test_a_video_instance_leaves_as_stored(client, video, accept):
    response = client.get(video[0], headers={"Accept": accept})
    content_type = response.headers["content-type"]
    if content_type.startswith("multipart"):
        content_type = parts_of(response)[0].headers["Content-Type"]
    assert content_type == f"application/dicom; transfer-syntax={VIDEO_SYNTAX}"
