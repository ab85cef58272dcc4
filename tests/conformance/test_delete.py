"""DELETE at the addresses of the Retrieve transaction, and who may do it.

PS3.18 leaves deletion to the implementation; the conformance statement says what ours is.
"""

import io
import json

import pydicom
import pytest
from pydicom.uid import generate_uid

from archive.auth.principal import OPERATOR
from archive.config import AuthSection
from archive.identity import StudyRef
from tests.conftest import http_client, make_config, running_archive, store, wheel_file

DICOM = {"Content-Type": "application/dicom"}


@pytest.fixture
def study(archive):
    """A study of two series of two instances: URLs by level."""
    base = pydicom.dcmread(wheel_file("CT_small.dcm"))
    refs = []
    for _ in range(2):
        base.SeriesInstanceUID = generate_uid()
        for _ in range(2):
            base.SOPInstanceUID = base.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            buffer = io.BytesIO()
            base.save_as(buffer)
            refs.append(store(archive, buffer.getvalue()).ref)
    return refs


def url_of(ref, level: str) -> str:
    url = f"/studies/{ref.study_instance_uid}"
    if level != "study":
        url += f"/series/{ref.series_instance_uid}"
    if level == "instance":
        url += f"/instances/{ref.sop_instance_uid}"
    return url


def visible(client) -> int:
    """How many instances a search finds, which every count must agree with."""
    found = len(client.get("/instances").json())
    counted = [
        study["00201208"]["Value"][0]
        for study in client.get("/studies", params={"includefield": "00201208"}).json()
    ]
    assert sum(counted) == found
    return found


@pytest.mark.parametrize(("level", "left"), [("study", 0), ("series", 2), ("instance", 3)])
def test_what_is_deleted_is_gone_at_once_for_every_transaction(client, study, level, left):
    ref, url = study[0], url_of(study[0], level)
    etag = client.get(url_of(ref, "study") + "/metadata").headers["ETag"]
    response = client.delete(url)
    assert (response.status_code, response.content) == (204, b"")
    assert visible(client) == left
    gone = url_of(ref, "instance")
    for path in ("", "/metadata", "/frames/1", "/rendered", "/bulkdata/7FE00010"):
        assert client.get(gone + path).status_code == 404, path
    if level != "instance":
        assert client.get(url_of(ref, level) + "/metadata").status_code == 404
    again = client.get(url_of(ref, "study") + "/metadata", headers={"If-None-Match": etag})
    assert again.status_code == (404 if level == "study" else 200)


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_what_is_not_there_is_404(client, study, level):
    url = url_of(study[0], level)
    assert client.delete(url).status_code == 204
    twice = client.delete(url)
    assert twice.status_code == 404
    assert twice.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_another_state_than_the_one_that_is_named_is_not_deleted(client, study, level):
    url = url_of(study[0], level)
    for condition in (
        {"If-Match": '"of another state"'},
        {"If-Unmodified-Since": "Thu, 01 Jan 1998 00:00:00 GMT"},
    ):
        assert client.delete(url, headers=condition).status_code == 412
    assert visible(client) == 4
    etag = client.get(url).headers["ETag"]
    assert client.delete(url, headers={"If-Match": etag}).status_code == 204


def test_whatever_state_is_named_there_is_none_of_what_is_not_there(client):
    assert client.delete("/studies/1.2.3", headers={"If-Match": "*"}).status_code == 404


def test_a_malformed_uid_is_400(client):
    assert client.delete("/studies/1.2.x").status_code == 400


def test_an_instance_is_deleted_at_its_own_address_only(client, study):
    first, other = study[0], study[2]
    crossed = (
        f"/studies/{first.study_instance_uid}/series/{other.series_instance_uid}"
        f"/instances/{first.sop_instance_uid}"
    )
    assert client.delete(crossed).status_code == 404
    assert visible(client) == 4


def test_reason_and_act_are_in_the_change_feed(client, archive, study):
    url = url_of(study[0], "instance")
    assert client.delete(url, params={"reason": "sent by mistake — again"}).status_code == 204
    last = archive.changes.since(OPERATOR, 0)[-1]
    assert (last.kind, last.reason, last.principal) == (
        "deleted",
        "sent by mistake — again",
        "anonymous",
    )
    assert (
        client.delete(url_of(study[1], "instance"), params={"reason": "x" * 2000}).status_code
        == 400
    )


def test_it_can_be_restored_and_stored_again(client, archive, study):
    ref = study[0]
    url = url_of(ref, "study")
    body = client.get(
        url_of(ref, "instance"), headers={"Accept": "application/dicom; transfer-syntax=*"}
    ).content
    assert client.delete(url).status_code == 204
    stored = client.post("/studies", content=body, headers=DICOM)
    assert stored.status_code == 200
    assert visible(client) == 1
    archive.lifecycle.restore(OPERATOR, StudyRef(ref.study_instance_uid))
    assert visible(client) == 4


def test_collections_of_resources_are_not_deleted(client, study):
    for path in ("/studies", "/series", "/instances", url_of(study[0], "study") + "/series"):
        assert client.delete(path).status_code == 405, path
    assert visible(client) == 4


# -- who may -----------------------------------------------------------------------------------

FOREIGN = {
    "a page of another origin": {"Origin": "https://evil.example"},
    "a page without an origin": {"Origin": "null"},
    "a name that leads here": {"Host": "evil.example", "Origin": "http://evil.example"},
    "the client of a proxy": {"X-Forwarded-For": "192.0.2.7"},
    "the client of another proxy": {"Forwarded": "for=192.0.2.7"},
}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
def test_where_nothing_is_written_only_programs_of_this_machine_delete(client, study, headers):
    response = client.delete(url_of(study[0], "study"), headers=headers)
    assert response.status_code == 403
    assert response.headers["Content-Type"] == "application/problem+json"
    assert visible(client) == 4


def test_our_own_page_may_delete(client, study):
    own = f"http://{client.base_url.netloc.decode()}"
    response = client.delete(url_of(study[0], "study"), headers={"Origin": own})
    assert response.status_code == 204


RIGHTS = {
    (): (200, 200, 204),
    ("read",): (200, 403, 403),
    ("write",): (403, 200, 403),
    ("read", "write"): (200, 200, 403),
    ("read", "delete"): (200, 403, 204),
    ("read", "write", "delete"): (200, 200, 204),
}


@pytest.mark.parametrize(
    ("allowed", "statuses"), RIGHTS.items(), ids=lambda v: "-".join(map(str, v))
)
def test_strangers_may_do_what_the_settings_say(tmp_path, allowed, statuses):
    config = make_config(tmp_path / "data", auth=AuthSection(allow_anonymous=allowed))
    body = wheel_file("CT_small.dcm").read_bytes()
    with running_archive(config) as archive, http_client(archive) as client:
        url = url_of(store(archive, body).ref, "study")
        read = client.get("/studies"), client.get(url + "/metadata")
        assert {response.status_code for response in read} == {statuses[0]}
        assert client.post("/studies", content=body, headers=DICOM).status_code == statuses[1]
        deleted = client.delete(url)
        assert deleted.status_code == statuses[2]
        if deleted.status_code == 403:
            assert "anonymous" in json.loads(deleted.content)["detail"]
