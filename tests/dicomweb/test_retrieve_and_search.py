"""QIDO-RS and WADO-RS (PS3.18 §10.4, §10.6) on real files, over a real socket."""

import email
import email.policy
import hashlib
import io
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.conftest import store, wheel_file

STORED = "application/dicom; transfer-syntax=*"


@pytest.fixture
def loaded(client, archive, wheel_files):
    """The client of an archive that holds every real file that can be held."""
    refs = {}
    for path in wheel_files:
        try:
            outcome = store(archive, path)
        except Exception:
            continue
        if outcome.disposition == "stored":
            refs[path] = outcome.ref
    client.refs = refs
    return client


def url_of(ref) -> str:
    return (
        f"/studies/{ref.study_instance_uid}/series/{ref.series_instance_uid}"
        f"/instances/{ref.sop_instance_uid}"
    )


def parts_of(response) -> list[tuple[dict, bytes]]:
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content, policy=email.policy.HTTP)
    return [
        (dict(part.items()), part.get_payload(decode=True)) for part in message.iter_parts()
    ]


def body_of_part(response) -> bytes:
    """The only part's bytes, exactly."""
    boundary = response.headers["content-type"].rpartition("boundary=")[2]
    head, _, rest = response.content.partition(b"\r\n\r\n")
    assert head.startswith(b"--" + boundary.encode())
    return rest.removesuffix(b"\r\n--" + boundary.encode() + b"--\r\n")


def test_every_real_file_comes_back_byte_for_byte(loaded):
    assert len(loaded.refs) > 40
    for path, ref in loaded.refs.items():
        single = loaded.get(url_of(ref), headers={"Accept": STORED})
        assert single.status_code == 200
        assert single.content == path.read_bytes(), path.name
        several = loaded.get(
            url_of(ref),
            headers={
                "Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'
            },
        )
        assert body_of_part(several) == path.read_bytes()
        assert int(several.headers["content-length"]) == len(several.content)


def test_metadata_is_what_ingest_read_and_every_bulk_uri_resolves(loaded):
    for path, ref in loaded.refs.items():
        (metadata,) = loaded.get(url_of(ref) + "/metadata").json()
        assert metadata["00080018"]["Value"] == [ref.sop_instance_uid]
        assert list(metadata) == sorted(metadata), path.name
        for element in metadata.values():
            if "BulkDataURI" in element:
                bulk = loaded.get(element["BulkDataURI"])
                assert bulk.status_code == 200, element
                assert len(bulk.content) == int(bulk.headers["content-length"])


def decoded(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        return pydicom.pixels.pixel_array(path, index=0, raw=True), dataset


def test_the_first_frame_in_explicit_little_endian_is_what_pydicom_decodes(loaded):
    accept = 'multipart/related; type="application/octet-stream"'
    compared = 0
    for path, ref in loaded.refs.items():
        try:
            expected, dataset = decoded(path)
        except Exception:
            continue  # no image, or one pydicom cannot decode
        if dataset.BitsAllocated == 1:
            continue  # pydicom unpacks bits; the wire does not
        response = loaded.get(url_of(ref) + "/frames/1", headers={"Accept": accept})
        assert response.status_code == 200, path.name
        header, _ = parts_of(response)[0]
        assert "1.2.840.10008.1.2.1" in header["Content-Type"]
        body = body_of_part(response)
        if dataset.PhotometricInterpretation == "YBR_FULL_422" and not (
            dataset.file_meta.TransferSyntaxUID.is_compressed
        ):
            continue  # subsampled as stored; pydicom spreads it
        if (
            dataset.file_meta.TransferSyntaxUID.is_compressed
            or dataset.get("PlanarConfiguration") != 1
        ):
            assert body[: expected.nbytes] == expected.tobytes(), path.name
            compared += 1
    assert compared > 15


def test_frames_as_stored_carry_their_media_type(loaded):
    ref = loaded.refs[wheel_file("MR_small_jp2klossless.dcm")] if (
        wheel_file("MR_small_jp2klossless.dcm") in loaded.refs
    ) else loaded.refs[wheel_file("693_J2KI.dcm")]  # fmt: skip
    response = loaded.get(
        url_of(ref) + "/frames/1",
        headers={
            "Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"
        },
    )
    head = response.content.partition(b"\r\n\r\n")[0].decode()
    assert "\r\nContent-Type: image/jp2; transfer-syntax=1.2.840.10008.1.2.4.9" in head
    assert "\r\nContent-Location: http" in head
    single = loaded.get(url_of(ref) + "/frames/1", headers={"Accept": "image/jp2"})
    assert single.headers["content-type"].startswith("image/jp2")
    assert single.content == body_of_part(response)


def test_frame_numbers_are_1_based_in_the_order_asked_and_404_beyond(loaded):
    instances = loaded.get("/instances?limit=5000").json()
    many = next(i for i in instances if i.get("00280008", {}).get("Value", [1])[0] >= 2)
    uid, last = many["00080018"]["Value"][0], many["00280008"]["Value"][0]
    ref = next(ref for ref in loaded.refs.values() if ref.sop_instance_uid == uid)
    both = loaded.get(url_of(ref) + "/frames/2,1", headers={"Accept": "multipart/related"})
    locations = [header["Content-Location"] for header, _ in parts_of(both)]
    assert [location.rpartition("/")[2] for location in locations] == ["2", "1"]
    assert loaded.get(f"{url_of(ref)}/frames/{last + 1}").status_code == 404
    assert loaded.get(url_of(ref) + "/frames/0").status_code == 400
    assert loaded.get(url_of(ref) + "/frames/x").status_code == 400


def test_a_range_of_an_instance_is_206_and_a_range_beyond_is_416(loaded):
    path, ref = next(iter(loaded.refs.items()))
    headers = {"Accept": STORED, "Range": "bytes=128-131"}
    part = loaded.get(url_of(ref), headers=headers)
    assert (part.status_code, part.content) == (206, b"DICM")
    assert part.headers["content-range"] == f"bytes 128-131/{path.stat().st_size}"
    beyond = loaded.get(url_of(ref), headers=headers | {"Range": "bytes=99999999-"})
    assert beyond.status_code == 416


def test_an_etag_saves_the_body(loaded):
    ref = next(iter(loaded.refs.values()))
    for path, accept in (("", STORED), ("/metadata", "*/*"), ("/rendered", "image/png")):
        first = loaded.get(url_of(ref) + path, headers={"Accept": accept})
        again = loaded.get(
            url_of(ref) + path,
            headers={"Accept": accept, "If-None-Match": first.headers["etag"]},
        )
        assert (again.status_code, again.content) == (304, b"")


def test_head_gives_the_headers_of_get(loaded):
    ref = next(iter(loaded.refs.values()))
    headers = {"Accept": STORED}
    got, head = (
        loaded.get(url_of(ref), headers=headers),
        loaded.head(url_of(ref), headers=headers),
    )
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"]


def test_rendered_is_the_files_own_window_of_the_grey_values(loaded):
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    path = wheel_file("CT_small.dcm")
    dataset = pydicom.dcmread(path)
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    values = apply_modality_lut(dataset.pixel_array, dataset)
    expected = apply_voi_lut(values, dataset)
    got = loaded.get(
        url_of(loaded.refs[path]) + "/rendered?window=40,400,linear",
        headers={"Accept": "image/png"},
    )
    shown = np.asarray(Image.open(io.BytesIO(got.content))).astype(int)
    # pydicom scales the window to the range of the stored values; we to 0..255.
    least, greatest = expected.min(), expected.max()
    scaled = (expected - least) / (greatest - least) * 255
    assert np.abs(shown - scaled).max() <= 1


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("window=1,2", 400),
        ("window=x", 400),
        ("window=1,0,linear", 400),
        ("viewport=64,64", 200),
        ("viewport=a", 400),
        ("quality=101", 400),
    ],
)
def test_parameters_of_rendering_are_checked(loaded, query, status):
    ref = loaded.refs[wheel_file("CT_small.dcm")]
    assert loaded.get(f"{url_of(ref)}/rendered?{query}").status_code == status


def test_a_thumbnail_is_small_and_keeps_its_shape(loaded):
    ref = loaded.refs[wheel_file("CT_small.dcm")]
    for url in (
        url_of(ref),
        url_of(ref).partition("/instances")[0],
        f"/studies/{ref.study_instance_uid}",
    ):
        got = loaded.get(url + "/thumbnail", headers={"Accept": "image/jpeg"})
        assert got.status_code == 200
        assert Image.open(io.BytesIO(got.content)).size == (128, 128)


# -- search ------------------------------------------------------------------------------------


def uids(response, tag: str) -> set[str]:
    assert response.status_code == 200, response.text
    return {match[tag]["Value"][0] for match in response.json()}


def test_all_six_urls_of_search_answer_at_their_level(loaded):
    ref = loaded.refs[wheel_file("CT_small.dcm")]
    study = f"/studies/{ref.study_instance_uid}"
    series = f"{study}/series/{ref.series_instance_uid}"
    for url, tag in (
        ("/studies", "0020000D"),
        ("/series", "0020000E"),
        ("/instances", "00080018"),
        (f"{study}/series", "0020000E"),
        (f"{study}/instances", "00080018"),
        (f"{series}/instances", "00080018"),
    ):
        assert uids(loaded.get(url, params={"limit": 5000}), tag), url
    assert len(uids(loaded.get("/instances", params={"limit": 5000}), "00080018")) == len(
        {r.sop_instance_uid for r in loaded.refs.values()}
    )


def test_keys_match_as_the_standard_says(loaded):
    ref = loaded.refs[wheel_file("CT_small.dcm")]
    study = ref.study_instance_uid
    for key, value in (
        ("PatientName", "compressedsamples^ct1"),
        ("PatientName", "Compressed*"),
        ("PatientName", "*SAMPLES*"),
        ("00100010", "CompressedSamples^CT?"),
        ("PatientID", "1CT1"),
        ("StudyDate", "20040119"),
        ("StudyDate", "20040101-20040131"),
        ("StudyDate", "-20040119"),
        ("StudyDate", "20040119-"),
        ("ModalitiesInStudy", "CT"),
        ("ModalitiesInStudy", "SR,CT"),
        ("StudyInstanceUID", study),
        ("StudyInstanceUID", f"1.2.3\\{study}"),
        ("StudyInstanceUID", f"1.2.3,{study}"),
        ("StudyDescription", "*"),
        ("PatientBirthDate", ""),
    ):
        assert study in uids(
            loaded.get("/studies", params={key: value, "limit": 5000}), "0020000D"
        ), (
            key,
            value,
        )
    for key, value in (
        ("PatientName", "CompressedSamples"),
        ("PatientID", "1ct1"),
        ("PatientID", "_CT1"),
        ("PatientID", "%"),
        ("StudyDate", "20040120-"),
        ("ModalitiesInStudy", "MR"),
        ("AccessionNumber", "nobody"),
    ):
        found = loaded.get("/studies", params={key: value, "limit": 5000})
        assert study not in uids(found, "0020000D"), (key, value)


def test_names_are_found_in_any_script(loaded):
    for name in ("山田*", "*やまだ*", "王^小东", "buc^jerome", "Hong*", "*길동*"):
        assert loaded.get("/studies", params={"PatientName": name}).json(), name


def test_no_match_is_200_with_an_empty_list(loaded):
    response = loaded.get("/studies", params={"PatientID": "nobody"})
    assert (response.status_code, response.json()) == (200, [])


@pytest.mark.parametrize(
    "query",
    ["limit=x", "offset=-1", "StudyDate=2024", "StudyDate=20240101-x", "StudyInstanceUID=a.b",
     "StudyTime=99", "SeriesNumber=x"],
)  # fmt: skip
def test_a_bad_value_is_400_and_says_what_was_expected(loaded, query):
    response = loaded.get(f"/studies?{query}")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert query.rpartition("=")[2].rpartition("-")[2] in response.json()["detail"]


def test_pages_are_stable_and_say_that_more_remains(loaded):
    everything = [m["0020000D"]["Value"][0] for m in loaded.get("/studies?limit=5000").json()]
    paged = []
    for offset in range(0, len(everything), 7):
        page = loaded.get("/studies", params={"limit": 7, "offset": offset})
        more = "additional results" in page.headers.get("warning", "")
        assert more == (offset + 7 < len(everything))
        paged += [match["0020000D"]["Value"][0] for match in page.json()]
    assert paged == everything


def test_unknown_keys_are_ignored_and_named(loaded):
    response = loaded.get("/studies", params={"NoSuchKey": "1", "": "", "includefield": ""})
    assert response.status_code == 200
    assert "NoSuchKey" in response.headers["warning"]
    assert loaded.get("/studies", params={"NoSuchKey": "1", "strict": "1"}).status_code == 400


def test_study_answers_have_what_viewers_read(loaded):
    (study,) = loaded.get(
        "/studies",
        params={"PatientID": "1CT1", "includefield": "00081030,00080060,00080090,00100030"},
    ).json()
    for tag in ("00080020", "00080030", "00080050", "00080061", "00081190", "00100010",
                "00100020", "00100030", "00100040", "0020000D", "00200010", "00201206",
                "00201208", "00080090", "00080056"):  # fmt: skip
        assert tag in study, tag
    assert study["00080061"]["Value"] == ["CT"]
    assert "00080060" not in study


def test_a_study_without_modality_has_no_empty_modalities(loaded):
    for study in loaded.get("/studies?limit=5000").json():
        assert study.get("00080061", {"Value": [1]})["Value"]


def test_errors_are_problems_that_other_origins_may_read(loaded):
    origin = {"Origin": "https://viewer.example.org"}
    for url, status in (("/studies/1.2.3/metadata", 404), ("/studies/x/metadata", 400)):
        response = loaded.get(url, headers=origin)
        assert response.status_code == status
        assert response.json()["detail"]
        assert response.headers["access-control-allow-origin"]
        assert response.headers["cross-origin-resource-policy"] == "cross-origin"
    assert loaded.delete("/studies").status_code == 405


def test_nothing_that_is_not_acceptable_is_sent(loaded):
    ref = loaded.refs[wheel_file("CT_small.dcm")]
    for url, accept in (
        ("/studies", "text/html"),
        (url_of(ref), "image/png"),
        (f"/studies/{ref.study_instance_uid}", "application/dicom"),
        (url_of(ref) + "/frames/1", "text/plain"),
        (url_of(ref) + "/rendered", "text/plain"),
        (url_of(ref) + "/metadata", "image/png"),
    ):
        response = loaded.get(url, headers={"Accept": accept})
        assert response.status_code == 406, url
        assert response.json()["detail"]


def test_a_deleted_study_is_nowhere_until_it_is_restored(loaded, archive):
    from archive.auth.principal import OPERATOR
    from archive.identity import StudyRef

    ref = loaded.refs[wheel_file("CT_small.dcm")]
    urls = [
        url_of(ref),
        url_of(ref) + "/metadata",
        url_of(ref) + "/frames/1",
        url_of(ref) + "/rendered",
        url_of(ref) + "/bulkdata/7FE00010",
        f"/studies/{ref.study_instance_uid}/metadata",
    ]
    archive.lifecycle.delete(OPERATOR, StudyRef(ref.study_instance_uid), reason="test")
    assert [loaded.get(url).status_code for url in urls] == [404] * len(urls)
    for level in ("/studies", "/series", "/instances"):
        found = loaded.get(level, params={"StudyInstanceUID": ref.study_instance_uid})
        assert found.json() == []
    archive.lifecycle.restore(OPERATOR, StudyRef(ref.study_instance_uid))
    assert [loaded.get(url).status_code for url in urls] == [200] * len(urls)


def test_two_boundaries_are_never_the_same(loaded):
    ref = loaded.refs[wheel_file("CT_small.dcm")]
    seen = {
        hashlib.sha256(loaded.get(url_of(ref)).headers["content-type"].encode()).hexdigest()
        for _ in range(5)
    }
    assert len(seen) == 5
