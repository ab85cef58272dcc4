"""The change feed over HTTP: ordered, without gaps, by page, line, long poll and event."""

import json
import threading
import time

import httpx
import pytest

from archive.auth.principal import OPERATOR
from archive.identity import StudyRef
from dicomweb.worker import Server, server_settings
from tests.conftest import listening_socket, store, wait_until, wheel_file

NAMES = ("CT_small.dcm", "MR_small_RLE.dcm", "693_J2KI.dcm", "JPEG2000.dcm", "image_dfl.dcm")
URL = "/api/changes"


@pytest.fixture
def feed(client, archive):
    """The client of an archive in which five instances were stored, one deleted."""
    client.base_url = client.base_url.copy_with(path="/")
    refs = [store(archive, wheel_file(name)).ref for name in NAMES]
    archive.lifecycle.delete(OPERATOR, StudyRef(refs[0].study_instance_uid), reason="a test")
    client.refs = refs
    return client


def page(client, **parameters) -> dict:
    response = client.get(URL, params=parameters)
    assert response.status_code == 200
    return response.json()


def test_it_tells_every_change_in_order_without_gaps(feed):
    told = page(feed)
    assert [change["sequence"] for change in told["changes"]] == [1, 2, 3, 4, 5, 6]
    assert [change["kind"] for change in told["changes"]] == ["stored"] * 5 + ["deleted"]
    assert (told["next"], told["more"]) == (6, False)
    first, last = told["changes"][0], told["changes"][-1]
    assert (
        first["sop_instance_uid"] == last["sop_instance_uid"] == feed.refs[0].sop_instance_uid
    )
    assert (last["reason"], last["principal"]) == ("a test", "operator")
    assert len(first["sha256"]) == 64
    assert first["at"].endswith("Z")


def test_pages_join_without_a_gap_or_a_repetition(feed):
    seen, since = [], 0
    while True:
        told = page(feed, since=since, limit=2)
        seen += [change["sequence"] for change in told["changes"]]
        since = told["next"]
        if not told["more"] or not told["changes"]:
            break
    assert seen == [1, 2, 3, 4, 5, 6]


def test_the_next_page_is_linked(feed):
    response = feed.get(URL, params={"limit": 4, "kind": "stored,deleted"})
    following = feed.get(response.links["next"]["url"])
    assert [change["sequence"] for change in following.json()["changes"]] == [5, 6]
    assert "Link" not in following.headers


def test_lines(feed):
    response = feed.get(URL, headers={"Accept": "application/x-ndjson"})
    assert response.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert lines == page(feed)["changes"]


def test_filters_go_past_what_they_leave_out(feed):
    study = feed.refs[0].study_instance_uid
    told = page(feed, study=study)
    assert [change["sequence"] for change in told["changes"]] == [1, 6]
    told = page(feed, kind="stored", since=4)
    assert [change["sequence"] for change in told["changes"]] == [5]
    assert told["next"] == 6


def test_the_latest(feed):
    assert feed.get(URL + "/latest").json() == {"sequence": 6}
    assert page(feed, since="latest")["changes"] == []


def test_an_empty_archive_has_an_empty_feed(client):
    client.base_url = client.base_url.copy_with(path="/")
    assert page(client) == {"changes": [], "next": 0, "more": False}
    assert client.get(URL + "/latest").json() == {"sequence": 0}


@pytest.mark.parametrize(
    "query",
    [
        "since=-1", "since=abc", "since=1.5", "since=", "since=99999999999999999999",
        "since=%D9%A3", "limit=0", "limit=-1", "limit=10001", "limit=x", "wait=x", "wait=-1",
        "wait=301", "wait=nan", "kind=nothing", "study=abc", "study=1..2",
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_400(feed, query):
    response = feed.get(f"{URL}?{query}")
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"


def test_another_media_type_is_406_and_names_what_there_is(feed):
    response = feed.get(URL, headers={"Accept": "image/png"})
    assert response.status_code == 406
    assert "text/event-stream" in response.json()["detail"]


# -- waiting -----------------------------------------------------------------------------------


def later(act) -> threading.Thread:
    def run():
        time.sleep(0.4)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_long_poll_answers_when_something_happens(feed, archive):
    thread = later(lambda: store(archive, wheel_file("SC_rgb_rle_2frame.dcm")))
    told = page(feed, since=6, wait=25)
    thread.join()
    assert [change["sequence"] for change in told["changes"]] == [7]


def test_a_long_poll_for_one_study_sleeps_through_others(feed, archive):
    def act():
        store(archive, wheel_file("SC_rgb_rle_2frame.dcm"))
        time.sleep(0.6)
        archive.lifecycle.restore(OPERATOR, StudyRef(feed.refs[0].study_instance_uid))

    thread = later(act)
    told = page(feed, since=6, wait=25, study=feed.refs[0].study_instance_uid)
    thread.join()
    assert [change["kind"] for change in told["changes"]] == ["restored"]


def test_a_long_poll_ends_empty(feed):
    assert page(feed, since=6, wait=1) == {"changes": [], "next": 6, "more": False}


def test_what_there_is_is_not_waited_for(feed):
    assert len(page(feed, since=3, wait=300)["changes"]) == 3


def test_head_waits_for_nothing(feed):
    assert feed.head(URL, params={"since": 6, "wait": 300}).status_code == 200
    events = feed.head(URL, headers={"Accept": "text/event-stream"})
    assert events.status_code == 200
    assert events.headers["Content-Type"].startswith("text/event-stream")


# -- events ------------------------------------------------------------------------------------


def events(lines, count: int) -> list[tuple[int, dict]]:
    """The first ``count`` events of a stream of lines."""
    found, identifier = [], 0
    for line in lines:
        if line.startswith("id: "):
            identifier = int(line[4:])
        if line.startswith("data: "):
            found.append((identifier, json.loads(line[6:])))
            if len(found) == count:
                break
    return found


def test_events_tell_what_was_and_then_what_happens(feed, archive):
    with feed.stream("GET", URL, headers={"Accept": "text/event-stream"}) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        lines = response.iter_lines()
        past = events(lines, 6)
        thread = later(lambda: store(archive, wheel_file("SC_rgb_rle_2frame.dcm")))
        ((identifier, change),) = events(lines, 1)
        thread.join()
    assert [identifier for identifier, _ in past] == [1, 2, 3, 4, 5, 6]
    assert identifier == change["sequence"] == 7
    assert change["kind"] == "stored"


def test_who_comes_back_goes_on_where_they_were(feed):
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "4"}
    with feed.stream("GET", URL, params={"since": 1}, headers=headers) as response:
        assert [identifier for identifier, _ in events(response.iter_lines(), 2)] == [5, 6]


@pytest.mark.parametrize("name", ["Last-Event-ID"])
def test_a_wrong_place_to_go_on_is_400(feed, name):
    headers = {"Accept": "text/event-stream", name: "x"}
    assert feed.get(URL, headers=headers).status_code == 400


def test_a_long_feed_comes_whole(feed, archive):
    for _ in range(300):
        store(archive, wheel_file("image_dfl.dcm"))
        store(archive, wheel_file("JPEG2000.dcm"))
    with feed.stream("GET", URL, headers={"Accept": "text/event-stream"}) as response:
        got = events(response.iter_lines(), 606)
    assert [identifier for identifier, _ in got] == list(range(1, 607))


def test_waiting_holds_no_thread_and_has_an_end(archive):
    """More wait than there are threads; others are served; and shutting down lets them go."""
    listening = listening_socket()
    settings = server_settings(archive)
    server = Server(settings)
    server.capture_signals = lambda: __import__("contextlib").nullcontext()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    ended = []

    def wait(headers):
        with httpx.Client(base_url=base, timeout=60) as client:
            response = client.get(URL, params={"wait": 60}, headers=headers)
            ended.append(response.status_code)

    accepts = [{"Accept": "text/event-stream"}, {"Accept": "application/json"}]
    waiting = [threading.Thread(target=wait, args=(accepts[n % 2],)) for n in range(60)]
    for one in waiting:
        one.start()
    try:
        app = settings.app
        wait_until(lambda: app.state.watch._free_seats <= 140, what="all to wait")
        assert httpx.get(f"{base}/dicom-web/studies", timeout=20).json() == []
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listening.close()
    for one in waiting:
        one.join(timeout=20)
    assert ended == [200] * 60


def test_too_many_who_wait_are_asked_to_come_back(feed, monkeypatch, archive):
    from dicomweb import watch

    seated = []
    original = watch.ChangeWatch.seat

    def seat(self):
        self._free_seats = 0
        seated.append(self)
        return original(self)

    monkeypatch.setattr(watch.ChangeWatch, "seat", seat)
    for headers in ({"Accept": "text/event-stream"}, {}):
        response = feed.get(URL, params={"since": 6, "wait": 5}, headers=headers)
        assert response.status_code == 503
        assert response.headers["Retry-After"]
        assert response.headers["Content-Type"] == "application/problem+json"
    assert seated
