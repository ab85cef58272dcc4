"""The change feed across the processes of a running archive."""

import json
import threading
import time

import httpx
import pytest

from tests.conftest import wheel_file

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("endtoend")]
EVENTS = {"Accept": "text/event-stream"}


def test_events_come_from_every_process_and_end_with_the_archive(served):
    url = f"{served.url}/api/changes"
    told, ended = [], threading.Event()

    def listen():
        with httpx.stream("GET", url, headers=EVENTS, timeout=60) as response:
            lines = response.iter_lines()
            told.extend(json.loads(of[6:])["kind"] for of in lines if of.startswith("data: "))
        ended.set()

    listeners = [threading.Thread(target=listen) for _ in range(4)]  # of both workers
    for listener in listeners:
        listener.start()
    study = None
    for name in ("CT_small.dcm", "MR_small_RLE.dcm"):
        body = wheel_file(name).read_bytes()
        headers = {"Content-Type": "application/dicom"}
        answer = httpx.post(f"{served.url}/dicom-web/studies", content=body, headers=headers)
        study = answer.json()["00081190"]["Value"][0].rpartition("/")[2]
    served.command("delete", study, "--reason", "a test")
    deadline = time.monotonic() + 20
    while len(told) < 12 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sorted(told) == ["deleted"] * 4 + ["stored"] * 8
    assert served.stop() == 0
    for listener in listeners:
        listener.join(timeout=10)
    assert ended.is_set()
