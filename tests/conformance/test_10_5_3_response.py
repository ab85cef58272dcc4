"""§10.5.3 and Annex I: the status of a store transaction, and what it says of each instance."""

import dataclasses
import re

import pydicom
import pytest

from archive.auth.principal import OPERATOR, Right
from archive.config import HttpSection
from tests.conformance.stow import (
    copies,
    ct,
    failed,
    mr,
    others,
    post,
    referenced,
    stored_bytes,
    texts,
    uids,
    value,
)
from tests.conftest import fill_up, http_client, make_config, running_archive

OTHER_STUDY = "1.2.3.4.5.6.7"


def altered(old: bytes, new: bytes, body: bytes | None = None) -> bytes:
    assert len(old) == len(new)
    source = body or ct()
    assert old in source
    return source.replace(old, new)


def with_preamble(start: bytes) -> bytes:
    return start.ljust(128, b"\0") + ct()[128:]


# -- all well ----------------------------------------------------------------------------------


def test_all_stored_is_200_with_every_instance_referenced(client):
    response = post(client, ct(), mr())
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    assert set(response.json()) == {"00081190", "00081199"}
    for item, body in zip(referenced(response), (ct(), mr()), strict=True):
        assert set(item) == {"00081150", "00081155", "00081190"}
        study, series, instance = uids(body)
        assert value(item, "00081155") == instance
        assert item["00081150"]["vr"] == item["00081155"]["vr"] == "UI"
        assert item["00081190"]["vr"] == "UR"
        path = f"/studies/{study}/series/{series}/instances/{instance}"
        assert value(item, "00081190").endswith(f"/dicom-web{path}")
        assert stored_bytes(client, item) == body


def test_retrieve_url_is_that_of_the_study_where_there_is_one(client):
    study = uids(ct())[0]
    for path in ("/studies", f"/studies/{study}"):
        url = value(post(client, ct(), path=path).json(), "00081190")
        assert url.endswith(f"/dicom-web/studies/{study}")
        answer = client.get(
            url, headers={"Accept": "multipart/related; type=application/dicom"}
        )
        assert answer.status_code == 200


def test_retrieve_url_is_there_without_a_value_where_studies_are_many(client):
    assert post(client, ct(), mr()).json()["00081190"] == {"vr": "UR"}


def test_retrieve_url_is_there_without_a_value_where_nothing_was_stored(client):
    assert post(client, b"nothing").json()["00081190"] == {"vr": "UR"}


def test_the_module_is_read_by_pydicom(client):
    module = pydicom.Dataset.from_json(post(client, ct(), b"x").text)
    assert module.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uids(ct())[2]
    assert module.OtherFailuresSequence[0].FailureReason == 0xC000
    assert module.RetrieveURL.endswith(uids(ct())[0])


# -- the form of the answer --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/dicom+json"),
        ("", "application/dicom+json"),
        ("*/*", "application/dicom+json"),
        ("application/*", "application/dicom+json"),
        ("application/dicom+json", "application/dicom+json"),
        ("application/json", "application/json"),
        ("application/dicom+json; charset=utf-8", "application/dicom+json"),
        ("text/plain, application/dicom+json;q=0.1", "application/dicom+json"),
        ('multipart/related; type="application/dicom+json"', "application/dicom+json"),
    ],
)
def test_the_answer_is_json_unless_something_else_is_asked(client, accept, content_type):
    headers = {} if accept is None else {"Accept": accept}
    response = post(client, ct(), headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"] == content_type
    assert referenced(response)


@pytest.mark.parametrize(
    "accept",
    [
        "application/dicom",
        "image/jpeg",
        "text/html",
        "application/dicom+json;q=0",
        "nonsense/x",
    ],
)
def test_an_answer_that_cannot_be_given_is_406_and_nothing_is_stored(client, archive, accept):
    assert post(client, ct(), headers={"Accept": accept}).status_code == 406
    assert archive.changes.totals(OPERATOR).instances == 0


# -- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", ["abc", "1.2.x", "1" * 65, "1..2", ".1", "1.2 3"])
def test_a_study_in_the_path_that_is_no_uid_is_400(client, archive, uid):
    assert post(client, ct(), path=f"/studies/{uid}").status_code == 400
    assert archive.changes.totals(OPERATOR).instances == 0


def test_an_instance_of_another_study_fails_with_a901(client, archive):
    response = post(client, ct(), path=f"/studies/{OTHER_STUDY}")
    assert response.status_code == 409
    (item,) = failed(response)
    assert value(item, "00081197") == 0xA901
    assert value(item, "00081155") == uids(ct())[2]
    assert value(item, "00081150") == "1.2.840.10008.5.1.4.1.1.2"
    assert OTHER_STUDY in texts(item)
    assert archive.changes.totals(OPERATOR).instances == 0


def test_an_instance_of_another_study_does_not_sink_its_neighbours(client):
    response = post(client, ct(), mr(), path=f"/studies/{uids(ct())[0]}")
    assert response.status_code == 202
    assert [value(item, "00081155") for item in referenced(response)] == [uids(ct())[2]]
    assert [value(item, "00081197") for item in failed(response)] == [0xA901]


@pytest.mark.parametrize(
    ("body", "tag", "word"),
    [
        (altered(b"\x20\0\x0d\0UI", b"\x20\0\x0b\0UI"), "0020000D", "missing"),
        (altered(b"\x20\0\x0e\0UI", b"\x20\0\x0f\0UI"), "0020000E", "missing"),
        (ct().replace(b"\x08\0\x18\0UI", b"\x08\0\x1a\0UI"), "00080018", "missing"),
        (ct().replace(b"\x08\0\x16\0UI", b"\x08\0\x17\0UI"), "00080016", "missing"),
    ],
    ids=["study", "series", "instance", "class"],
)
def test_a_missing_identifier_fails_with_the_attribute(client, body, tag, word):
    response = post(client, body)
    assert response.status_code == 409
    (item,) = failed(response)
    assert value(item, "00081197") == 0xC000
    in_doubt = value(item, "00741048")
    assert value(in_doubt, "00720026") == tag
    assert word in texts(item)


@pytest.mark.parametrize("cut", [400, 2000, 9000, -2])
def test_a_truncated_instance_fails_and_is_named(client, cut):
    response = post(client, ct()[:cut])
    assert response.status_code == 409
    (item,) = failed(response)
    assert value(item, "00081155") == uids(ct())[2]
    assert 0xC000 <= value(item, "00081197") <= 0xCFFF


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text",
        b"%PDF-1.7",
        b"\xff\xd8\xff\xe0",
        b"<html>",
        b"{}",
        b"PK\x03\x04",
        bytes(500),
    ],
)
def test_what_is_no_instance_is_another_failure(client, body):
    response = post(client, body)
    assert response.status_code == 409
    assert failed(response) == []
    (item,) = others(response)
    assert value(item, "00081197") == 0xC000
    assert texts(item)


def test_comments_are_as_short_as_their_vr_allows(client):
    for response in (post(client, b"text"), post(client, ct()[:-2])):
        for item in (*failed(response), *others(response)):
            assert len(value(value(item, "00741048"), "00000902")) <= 64


def test_other_content_under_the_same_uids_is_409_and_held(client, archive):
    post(client, ct())
    changed = altered(b"CompressedSamples^CT1", b"CompressedSamples^CT2")
    response = post(client, changed)
    assert response.status_code == 409
    (item,) = failed(response)
    assert value(item, "00081197") == 0xC001
    assert archive.changes.totals(OPERATOR).held == 1


def test_too_large_a_part_is_413_when_there_is_nothing_else(tmp_path):
    config = make_config(tmp_path / "data", http=HttpSection(port=0, max_part_bytes=20_000))
    with running_archive(config) as archive, http_client(archive) as client:
        response = post(client, ct())
        assert response.status_code == 413
        assert value(others(response)[0], "00081197") == 0xA700
        mixed = post(client, ct(), mr(), ct())
        assert mixed.status_code == 202
        assert len(referenced(mixed)) == 1
        assert len(others(mixed)) == 2


def test_a_full_archive_is_503_with_retry_after(client, archive):
    fill_up(archive)
    response = post(client, ct())
    assert response.status_code == 503
    assert response.headers["retry-after"]


def test_who_may_not_write_is_403(client, monkeypatch):
    reader = dataclasses.replace(OPERATOR, rights=frozenset({Right.READ}))
    monkeypatch.setattr("dicomweb.stow.principal_of", lambda _request: reader)
    response = post(client, ct())
    assert response.status_code == 403
    assert value(others(response)[0], "00081197") == 0x0124


# -- warnings ----------------------------------------------------------------------------------


def test_the_same_again_is_200_and_says_so(client, archive):
    post(client, ct())
    response = post(client, ct())
    assert response.status_code == 200
    assert re.match(r'299 \S+ "1 instances were stored already"', response.headers["warning"])
    assert "00081196" not in referenced(response)[0]
    assert archive.changes.totals(OPERATOR).instances == 1


@pytest.mark.parametrize(
    ("body", "tags"),
    [
        (altered(b"DS\x12\x000.661468\\", b"DS\x12\x000.66l468\\"), ["00280030"]),
        (altered(b"\x20\0\x13\0IS\x02\x001 ", b"\x20\0\x13\0IS\x02\x00x "), ["00200013"]),
    ],
    ids=["DS", "IS"],
)
def test_a_value_that_is_none_of_its_vr_is_kept_and_told(client, body, tags):
    response = post(client, body)
    assert response.status_code == 202
    (item,) = referenced(response)
    assert value(item, "00081196") == 0xB007
    told = [value(doubt, "00720026") for doubt in item["00741048"]["Value"]]
    assert told == tags
    assert "VR" in texts(item)
    assert "66l468" not in texts(item)
    assert stored_bytes(client, item) == body


def test_a_file_header_that_says_another_sop_class_is_told(client):
    body = ct().replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.4\0", 1)
    response = post(client, body)
    assert response.status_code == 202
    (item,) = referenced(response)
    assert value(item, "00081150") == "1.2.840.10008.5.1.4.1.1.2"
    assert value(item, "00081196") == 0xB007
    assert value(value(item, "00741048"), "00720026") == "00020002"


def test_a_file_header_that_says_another_instance_harms_nobody(client):
    uid = uids(ct())[2].encode()
    response = post(client, ct().replace(uid, uid[:-1] + b"9", 1))
    assert response.status_code == 200
    assert value(referenced(response)[0], "00081155") == uid.decode()


def test_of_real_files_only_those_that_are_wrong_are_warned_about(client, wheel_files):
    codes = {}
    for path in wheel_files:
        for item in referenced(post(client, path.read_bytes())):
            codes[path.name] = item.get("00081196", {}).get("Value", [0])[0]
    assert {name for name, code in codes.items() if code} == {"SC_rgb_jpeg.dcm", "badVR.dcm"}
    assert len(codes) > 40


def test_a_sop_instance_uid_that_is_elsewhere_too_is_told(client, archive):
    post(client, ct())
    series = uids(ct())[1].encode()
    response = post(client, ct().replace(series, series[:-1] + b"9"))
    assert response.status_code == 202
    assert value(referenced(response)[0], "00081196") == 0xB001
    assert archive.changes.totals(OPERATOR).instances == 2


@pytest.mark.parametrize(
    "start",
    [b"MZ\x90\0", b"\x7fELF\x02", b"%PDF-1.4\n", b"#!/bin/sh\n", b"<html><script>", b"<SCRIPT"],
)
def test_a_preamble_that_makes_it_something_else_is_kept_and_told(client, start):
    body = with_preamble(start)
    response = post(client, body)
    assert response.status_code == 202
    (item,) = referenced(response)
    assert value(item, "00081196") == 0xB002
    assert "preamble" in texts(item)
    assert stored_bytes(client, item) == body


@pytest.mark.parametrize("start", [b"", b"II*\0\x10\0\0\0", b"MM\0*\0\0\0\x10", b"\x01\x02"])
def test_any_other_preamble_is_as_good_as_none(client, start):
    response = post(client, with_preamble(start))
    assert response.status_code == 200
    assert stored_bytes(client, referenced(response)[0]) == with_preamble(start)


def test_instances_keep_their_order_in_the_answer(client):
    bodies = copies(20)
    wanted = [uids(body)[2] for body in bodies]
    assert [value(item, "00081155") for item in referenced(post(client, *bodies))] == wanted
