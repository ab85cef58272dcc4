"""Validators, conditions, ranges, HEAD and codings of what is retrieved (RFC 9110)."""

import gzip
import itertools
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pydicom
import pytest
import zstandard

from tests import synthetic
from tests.conftest import store

AS_STORED = "application/dicom; transfer-syntax=*"
PARTS = "multipart/related; type=application/octet-stream; transfer-syntax=*"
XML = 'multipart/related; type="application/dicom+xml"'

# Path below an instance, Accept: one of each form that is retrieved.
RETRIEVED = [
    ("", AS_STORED),
    ("", "application/dicom"),
    ("", 'multipart/related; type="application/dicom"'),
    ("", "application/zip"),
    ("/metadata", "application/dicom+json"),
    ("/metadata", XML),
    ("/metadata", "application/dicom+xml"),
    ("/frames/1", PARTS),
    ("/frames/1", "application/octet-stream"),
    ("/frames/1", "image/jls"),
    ("/bulkdata", "*/*"),
    ("/bulkdata/7FE00010", "*/*"),
    ("/bulkdata/7FE00010", PARTS),
    ("/pixeldata", "*/*"),
]
RANGED = [
    ("", AS_STORED),
    ("", "application/dicom"),
    ("/frames/1", "application/octet-stream"),
    ("/frames/1", "image/jls"),
    ("/bulkdata/7FE00010", "*/*"),
    ("/pixeldata", "application/octet-stream"),
]


@pytest.fixture
def url(room):
    return room.url("CT_small.dcm")


@pytest.mark.parametrize(("suffix", "accept"), RETRIEVED)
def test_every_representation_has_validators_and_says_what_it_varies_by(
    room, url, suffix, accept
):
    response = room.get(url + suffix, accept)
    assert response.status_code == 200
    etag = response.headers["etag"]
    assert etag[0] == etag[-1] == '"'
    assert parsedate_to_datetime(response.headers["last-modified"]) <= datetime.now(UTC)
    assert "Accept" in response.headers["vary"]
    assert "cache-control" in response.headers
    assert room.get(url + suffix, accept).headers["etag"] == etag


@pytest.mark.parametrize(("suffix", "accept"), RETRIEVED)
def test_head_has_the_headers_of_get_and_no_body(room, url, suffix, accept):
    got = room.get(url + suffix, accept)
    head = room.client.head(url + suffix, headers={"Accept": accept})
    assert head.status_code == 200
    assert head.content == b""
    own = {"date", "x-request-id", "content-type", "transfer-encoding", "connection"}
    for name, value in got.headers.items():
        if name not in own:
            assert head.headers[name] == value, name
    assert (
        head.headers["content-type"].partition("boundary")[0]
        == (got.headers["content-type"].partition("boundary")[0])
    )


def test_no_two_representations_share_an_entity_tag(room, url):
    # A tag is only ever compared with others of the same address.
    tags = [
        suffix + room.get(url + suffix, accept).headers["etag"] for suffix, accept in RETRIEVED
    ]
    codings = [
        room.get(url + "/metadata", accept, headers={"Accept-Encoding": coding}).headers["etag"]
        for accept in ("application/json", XML)
        for coding in ("gzip", "zstd", "identity")
    ]
    syntaxes = [
        room.get(url, f"application/dicom; transfer-syntax={uid}").headers["etag"]
        for uid in ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90")
    ]
    everything = tags + codings + syntaxes
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize(("suffix", "accept"), RETRIEVED)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_held_already_is_304(room, url, suffix, accept, method):
    first = room.get(url + suffix, accept)
    etag, at = first.headers["etag"], first.headers["last-modified"]
    later = format_datetime(parsedate_to_datetime(at) + timedelta(days=1), usegmt=True)
    for condition in (
        {"If-None-Match": etag},
        {"If-None-Match": f'"other", {etag}'},
        {"If-None-Match": f"W/{etag}"},
        {"If-None-Match": "*"},
        {"If-Modified-Since": at},
        {"If-Modified-Since": later},
        {"If-None-Match": etag, "If-Modified-Since": "Mon, 01 Jan 1990 00:00:00 GMT"},
        {"If-None-Match": etag, "Range": "bytes=0-3"},
    ):
        again = room.client.request(
            method, url + suffix, headers={"Accept": accept} | condition
        )
        assert (again.status_code, again.content) == (304, b""), condition
        assert again.headers["etag"] == etag
        assert "Accept" in again.headers["vary"]


@pytest.mark.parametrize(("suffix", "accept"), RETRIEVED)
def test_what_is_not_held_is_sent(room, url, suffix, accept):
    for condition in (
        {"If-None-Match": '"other"'},
        {"If-None-Match": '"other"', "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"If-Modified-Since": "Mon, 01 Jan 1990 00:00:00 GMT"},
        {"If-Modified-Since": "yesterday"},
        {"If-Modified-Since": ""},
        {"If-Match": "*"},
        {"If-Unmodified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"If-Unmodified-Since": "nonsense"},
    ):
        assert room.get(url + suffix, accept, headers=condition).status_code == 200, condition


@pytest.mark.parametrize(("suffix", "accept"), RETRIEVED)
def test_a_condition_that_fails_is_412(room, url, suffix, accept):
    etag = room.get(url + suffix, accept).headers["etag"]
    for condition in (
        {"If-Match": '"other"'},
        {"If-Match": f"W/{etag}"},
        {"If-Match": '"other"', "If-Unmodified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"If-Unmodified-Since": "Mon, 01 Jan 1990 00:00:00 GMT"},
    ):
        response = room.get(url + suffix, accept, headers=condition)
        assert response.status_code == 412, condition
        assert response.headers["content-type"] == "application/problem+json"
    matched = room.get(url + suffix, accept, headers={"If-Match": f'"other", {etag}'})
    assert matched.status_code == 200


# -- ranges ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "accept"), RANGED)
def test_a_range_is_that_part_of_the_whole(room, url, suffix, accept):
    whole = room.get(url + suffix, accept)
    size = len(whole.content)
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=100-299", 100, 299),
        ("bytes=100-", 100, size - 1),
        ("bytes=-1", size - 1, size - 1),
        ("bytes=-100", size - 100, size - 1),
        (f"bytes=-{size + 5}", 0, size - 1),
        (f"bytes=0-{size + 5}", 0, size - 1),
        (f"bytes={size - 1}-", size - 1, size - 1),
        ("Bytes=7-8", 7, 8),
        ("bytes= 7-8", 7, 8),
        ("bytes=7 - 8", 7, 8),
    ):
        part = room.get(url + suffix, accept, headers={"Range": asked})
        assert part.status_code == 206, asked
        assert part.content == whole.content[first : last + 1], asked
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert int(part.headers["content-length"]) == last - first + 1
        assert part.headers["etag"] == whole.headers["etag"]
        assert part.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize(("suffix", "accept"), RANGED)
def test_a_range_outside_is_416_with_the_length(room, url, suffix, accept):
    size = len(room.get(url + suffix, accept).content)
    for asked in (f"bytes={size}-", f"bytes={size}-{size + 9}", "bytes=-0", "bytes=99999999-"):
        response = room.get(url + suffix, accept, headers={"Range": asked})
        assert response.status_code == 416, asked
        assert response.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(("suffix", "accept"), RANGED)
@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,4-5", "bytes=9-3", "bytes=a-b", "bytes=-", "bytes=", "bytes", "lines=0-1",
     "bytes=1", "bytes=0x1-2", "bytes=+1-2", "bytes=" + "9" * 30 + "-"],
)  # fmt: skip
def test_several_ranges_and_nonsense_give_the_whole(room, url, suffix, accept, asked):
    whole = room.get(url + suffix, accept)
    response = room.get(url + suffix, accept, headers={"Range": asked})
    assert (response.status_code, response.content) == (200, whole.content)


@pytest.mark.parametrize(("suffix", "accept"), RANGED)
def test_if_range_gives_the_range_only_of_the_same_representation(room, url, suffix, accept):
    whole = room.get(url + suffix, accept)
    etag, at = whole.headers["etag"], whole.headers["last-modified"]
    for held, status in (
        (etag, 206),
        (at, 206),
        ('"other"', 200),
        (f"W/{etag}", 200),
        ("Mon, 01 Jan 1990 00:00:00 GMT", 200),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 200),
        ("nonsense", 200),
    ):
        response = room.get(
            url + suffix, accept, headers={"Range": "bytes=0-3", "If-Range": held}
        )
        assert response.status_code == status, held


@pytest.mark.parametrize(
    ("suffix", "accept"), [("/frames/1", PARTS), ("/metadata", XML), ("", "application/zip")]
)
def test_what_is_made_of_parts_has_no_ranges(room, url, suffix, accept):
    response = room.get(url + suffix, accept, headers={"Range": "bytes=0-3"})
    assert response.status_code == 200
    assert response.headers.get("accept-ranges", "none") == "none"


def test_a_range_of_many_megabytes_of_pixels_is_exact(client, archive):
    image = synthetic.image(rows=1000, columns=1500, number_of_frames=2, bits_allocated=16)
    image.PixelData = b"".join(n.to_bytes(4, "little") for n in range(1_500_000))
    content = synthetic.part10(image, "1.2.840.10008.1.2.1")
    url = synthetic.url(store(archive, content).ref)
    for first, last in ((0, 9), (262_143, 262_145), (2_999_990, 3_100_000), (5_999_999,) * 2):
        for suffix, whole in (("", content), ("/bulkdata/7FE00010", image.PixelData)):
            got = client.get(
                url + suffix,
                headers={"Accept": AS_STORED + ", */*", "Range": f"bytes={first}-{last}"},
            )
            assert got.content == whole[first : last + 1]


# -- what changes ------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["application/dicom+json", XML])
def test_a_study_that_grows_is_another_representation(client, archive, accept):
    one = synthetic.data_set()
    two = synthetic.data_set(
        StudyInstanceUID=one.StudyInstanceUID, SeriesInstanceUID=one.SeriesInstanceUID
    )
    store(archive, synthetic.part10(one, "1.2.840.10008.1.2.1"))
    base = f"/studies/{one.StudyInstanceUID}"
    urls = [
        (f"{base}/metadata", accept),
        (f"{base}/series/{one.SeriesInstanceUID}/metadata", accept),
        (base, "multipart/related; type=application/dicom"),
        (base, "application/zip"),
    ]
    before = [client.get(url, headers={"Accept": a}).headers["etag"] for url, a in urls]
    store(archive, synthetic.part10(two, "1.2.840.10008.1.2.1"))
    for (url, form), etag in zip(urls, before, strict=True):
        again = client.get(url, headers={"Accept": form, "If-None-Match": etag})
        assert again.status_code == 200
        assert again.headers["etag"] != etag
        held = client.get(url, headers={"Accept": form, "If-Match": etag})
        assert held.status_code == 412


# -- codings -----------------------------------------------------------------------------------


def plain(response) -> bytes:
    raw = b"".join(response.iter_raw())
    match response.headers.get("content-encoding"):
        case "gzip":
            return gzip.decompress(raw)
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(raw)
        case None:
            return raw
    raise AssertionError(response.headers["content-encoding"])


@pytest.mark.parametrize("suffix", ["url", "series_url", "study_url"])
@pytest.mark.parametrize(
    ("asked", "coding"),
    [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate", "gzip"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0, zstd;q=0.1", "zstd"),
        ("gzip;q=0", None),
        ("*", "zstd"),
        ("*;q=0", None),
        ("identity", None),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("br", None),
        ("deflate", None),
        ("", None),
        ("GZIP", "gzip"),
        ("gzip;q=nonsense", "gzip"),
    ],
)
def test_json_is_coded_as_it_is_liked_best(room, suffix, asked, coding):
    url = getattr(room, suffix)("CT_small.dcm") + "/metadata"
    headers = {"Accept": "application/dicom+json", "Accept-Encoding": asked}
    with room.client.stream("GET", url, headers=headers) as response:
        assert response.headers.get("content-encoding") == coding
        assert "Accept-Encoding" in response.headers["vary"]
        body = plain(response)
    assert body == room.get(url, headers={"Accept-Encoding": "identity"}).content


@pytest.mark.parametrize(("suffix", "accept"), RETRIEVED)
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_pixels_and_dicom_are_never_coded(room, url, suffix, accept, coding):
    with room.client.stream(
        "GET", url + suffix, headers={"Accept": accept, "Accept-Encoding": coding}
    ) as response:
        found = response.headers.get("content-encoding")
    assert found == (coding if suffix == "/metadata" else None)


def test_a_coded_xml_document_is_the_plain_one(room, url):
    with room.client.stream(
        "GET",
        url + "/metadata",
        headers={"Accept": "application/dicom+xml", "Accept-Encoding": "gzip"},
    ) as response:
        document = plain(response)
    same = room.get(
        url + "/metadata", "application/dicom+xml", headers={"Accept-Encoding": "identity"}
    )
    assert document == same.content


def test_instances_tell_when_they_were_received(room):
    stamps = {
        room.get(room.url(name), AS_STORED).headers["last-modified"]
        for name in itertools.islice(room.refs, 5)
    }
    for stamp in stamps:
        age = datetime.now(UTC) - parsedate_to_datetime(stamp)
        assert timedelta(0) <= age + timedelta(seconds=1) < timedelta(hours=1)


def test_every_part_of_an_instance_is_as_old_as_the_instance(room, url):
    original = pydicom.dcmread(room.paths["CT_small.dcm"])
    assert original.SOPInstanceUID in url
    at = {
        room.get(url + suffix, accept).headers["last-modified"]
        for suffix, accept in (("", AS_STORED), ("/frames/1", PARTS))
    }
    assert len(at) == 1
