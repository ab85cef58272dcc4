"""Far more at once than can be served: refused in order, nothing lost, and then over."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import wheel_file

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("endtoend")]

_AT_ONCE = 160


def test_a_crowd_of_stores_is_served_or_told_to_come_back(served):
    body = wheel_file("CT_small.dcm").read_bytes()
    uid = b"1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
    assert body.count(uid) == 2

    def store(number):
        mine = uid[:-5] + b"%05d" % number
        answer = httpx.post(
            f"{served.url}/dicom-web/studies",
            content=body.replace(uid, mine),
            headers={"Content-Type": "application/dicom"},
            timeout=120,
        )
        return mine.decode(), answer

    with ThreadPoolExecutor(_AT_ONCE) as crowd:
        answers = list(crowd.map(store, range(_AT_ONCE)))
    statuses = {answer.status_code for _, answer in answers}
    assert statuses <= {200, 503}
    assert 200 in statuses
    assert all(a.headers.get("Retry-After") for _, a in answers if a.status_code == 503)
    found = httpx.get(f"{served.url}/dicom-web/instances", params={"limit": 1000}).json()
    there = {one["00080018"]["Value"][0] for one in found}
    assert {mine for mine, answer in answers if answer.status_code == 200} <= there
    assert httpx.get(f"{served.url}/dicom-web/studies").status_code == 200


def test_the_first_picture_starts_the_worker_that_makes_it(served):
    body = wheel_file("CT_small.dcm").read_bytes()
    headers = {"Content-Type": "application/dicom"}
    stored = httpx.post(f"{served.url}/dicom-web/studies", content=body, headers=headers)
    where = stored.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    picture = httpx.get(f"{where}/rendered", headers={"Accept": "image/jpeg"}, timeout=60)
    assert picture.status_code == 200
    assert picture.content.startswith(b"\xff\xd8")
