"""Forwarding: what newly arrives reaches whoever a rule names, once, whatever goes wrong."""

import json
import socket
import threading
from collections import Counter
from datetime import timedelta
from urllib.parse import parse_qsl

import pytest
from sqlalchemy import event

from archive.auth.principal import OPERATOR
from archive.config import DimseSection, ForwardRule, IndexSection
from archive.forward.service import JobFilter
from archive.identity import SeriesRef, StudyRef
from archive.ingest.incoming import Incoming, Source
from archive.metrics import exposition
from archive.query.parameters import parse_search
from archive.query.request import Level
from dimse.forwarding import Forwarder
from storage.index import clock
from tests.builders import dataset, item, part10
from tests.conftest import make_config, running_archive, wait_until
from tests.dimse.sink import Sink

STUDY = "1.2.3"
ALL = JobFilter()


class Clock:
    """The time of day, which only passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_750_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


@pytest.fixture
def time_of_day(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(clock, "now_us", made)
    return made


@pytest.fixture
def sink():
    made = Sink()
    yield made
    made.gate.set()
    made.stop()


class Post:
    """An archive that forwards, one turn at a time."""

    def __init__(self, archive, time_of_day) -> None:
        self.archive, self.time = archive, time_of_day
        self.stopping = threading.Event()
        self.forwarder = Forwarder(archive, self.stopping)

    def rule(self, to: str = "SINK", name: str = "rule", **more) -> None:
        rule = ForwardRule(name=name, to=to, **({"settle_s": 60} | more))
        self.archive.forward.rules.add(OPERATOR, rule)

    def know(self, *sinks: Sink) -> None:
        for one in sinks:
            self.archive.peers.add(OPERATOR, one.peer)

    def store(self, *uids: str, study: str = STUDY, caller: str = "", site="", **attributes):
        source = Source(site, "default", "C-STORE", f"ae:{caller}", calling_ae_title=caller)
        for uid in uids:
            body = part10(dataset(study, f"{study}.1", f"{study}.1.{uid}", **attributes))
            self.archive.ingest.store(OPERATOR, Incoming(bytearray(body), source))

    def turn(self) -> None:
        """Do what is due at this moment, all of it."""
        self.forwarder.round()
        self.forwarder.join()

    def settle(self, seconds: float = 61) -> None:
        """Notice what arrived, let it settle, do what is due then."""
        self.turn()
        self.time.pass_(seconds)
        self.turn()

    @property
    def jobs(self):
        return self.archive.forward.status(OPERATOR, ALL)

    @property
    def job(self):
        (one,) = self.jobs
        return one


@pytest.fixture
def post(archive, time_of_day, sink):
    made = Post(archive, time_of_day)
    made.know(sink)
    yield made
    made.stopping.set()
    made.forwarder.join()


def make_post(request, tmp_path, time_of_day, database: str = "sqlite", **settings):
    index = IndexSection()
    if database == "postgresql":
        url = request.getfixturevalue("postgres_url").replace("+psycopg", "")
        index = IndexSection(url=url)
    section = DimseSection(port=0, workers=1, network_timeout_s=2, **settings)
    return running_archive(make_config(tmp_path / "data", dimse=section, index=index))


def uids(*last: str, study: str = STUDY) -> list[str]:
    return [f"{study}.1.{one}" for one in last]


# -- what is sent, and when --------------------------------------------------------------------


def test_a_study_is_sent_once_nothing_new_has_come_for_a_while(post, sink, time_of_day):
    post.rule()
    with sink:
        post.store("1", "2")
        post.turn()
        time_of_day.pass_(40)
        post.store("3")
        post.turn()
        time_of_day.pass_(40)
        post.turn()
        assert sink.got == []  # the third came 40 s ago
        time_of_day.pass_(21)
        post.turn()
    assert sorted(sink.got) == uids("1", "2", "3")
    assert sink.callers == {"FILEROOM"}
    job = post.job
    assert (job.state, job.sent, job.refused, job.failed) == ("done", 3, 0, 0)


def test_late_instances_go_later_and_nothing_goes_twice(post, sink):
    post.rule()
    with sink:
        post.store("1", "2")
        post.settle()
        post.store("3", "1")  # the first again: a duplicate
        post.settle()
        post.settle(3600)
    assert Counter(sink.got) == Counter(uids("1", "2", "3"))
    assert (post.job.state, post.job.sent) == ("done", 3)


def test_what_was_there_before_its_rule_has_not_newly_arrived(post, sink):
    with sink:
        post.store("1", study="1.1")
        post.settle()
        post.rule()
        post.store("1", study="1.2")
        post.settle()
    assert sink.got == uids("1", study="1.2")


def test_a_study_goes_whole_when_something_new_makes_it_match(post, sink):
    post.rule(where="Modality=SR")
    with sink:
        post.store("1", "2")
        post.settle()
        assert (sink.got, post.jobs) == ([], [])
        body = part10(dataset(STUDY, "1.2.3.2", "1.2.3.2.1", Modality="SR"))
        source = Source("", "default", "import", "operator")
        post.archive.ingest.store(OPERATOR, Incoming(bytearray(body), source))
        post.settle()
    assert sorted(sink.got) == [*uids("1", "2"), "1.2.3.2.1"]


WANTED = {
    "": {"1.1", "1.2", "1.3"},
    "Modality=CT": {"1.1", "1.3"},
    "ModalitiesInStudy=CT&StudyDescription=*chest*": {"1.1"},
    "StudyDate=20240101-": {"1.1", "1.2"},
    "StudyDate=20230101-20231231": {"1.3"},
    "00081030=CHEST*": {"1.1", "1.2"},
    "PatientName=doe^jane": {"1.2"},
    "PatientName=Döe*&fuzzymatching=true": {"1.2"},
    "StudyInstanceUID=1.1,1.2": {"1.1", "1.2"},
    "BodyPartExamined=CHEST&Modality=MR": {"1.2"},
    'AccessionNumber=""&emptyvaluematching=true': {"1.1", "1.3"},
    "RequestAttributesSequence.RequestedProcedureID=R7": {"1.2"},
    "Modality=US": set(),
}


def test_a_rule_wants_what_a_search_finds(post, sink):
    for number, where in enumerate(WANTED):
        post.rule(name=f"rule-{number}", to=f"TO{number}", where=where)
    post.store("1", study="1.1", Modality="CT", StudyDate="20240201", StudyDescription="Chest")
    post.store(
        "1",
        study="1.2",
        Modality="MR",
        StudyDate="20240301",
        StudyDescription="CHEST PA",
        PatientName="Doe^Jane",
        PatientID="P2",
        BodyPartExamined="CHEST",
        AccessionNumber="A1",
        RequestAttributesSequence=[item(RequestedProcedureID="R7")],
    )
    post.store("1", study="1.3", Modality="CT", StudyDate="20230501", StudyDescription="Head")
    post.turn()
    queue = post.archive.forward.queue
    jobs = queue._jobs.jobs(ALL, 100)
    assert len(jobs) == 3 * len(WANTED)  # each study may yet come to match
    for number, (where, wanted) in enumerate(WANTED.items()):
        of_rule = [job for job in jobs if job.rule == f"rule-{number}"]
        forwarded = {job.study_instance_uid for job in of_rule if queue.matches(job)}
        pairs = parse_qsl(where, keep_blank_values=True)
        request = parse_search(pairs, Level.STUDY, ()).request
        found = post.archive.query.search(OPERATOR, request)
        assert {match["0020000D"]["Value"][0] for match in found} == wanted, where
        assert forwarded == wanted, where


def test_only_what_matches_is_sent(post, sink):
    post.rule(where="Modality=CT&StudyDate=20240101-")
    post.store("1", study="1.1", Modality="CT", StudyDate="20240201")
    post.store("1", study="1.2", Modality="CT", StudyDate="20230201")
    post.store("1", study="1.3", Modality="MR", StudyDate="20240201")
    with sink:
        post.settle()
    assert sink.got == ["1.1.1.1"]
    assert post.job.study_instance_uid == "1.1"  # of the others nothing is kept


def test_a_rule_may_want_only_what_came_from_a_site_or_a_device(post, sink):
    post.rule(name="site", site="north")
    post.rule(name="device", source="CT1")
    with sink:
        post.store("1", site="north", study="1.1")
        post.store("1", site="south", study="1.2")
        post.store("1", caller="CT1", study="1.3")
        post.store("2", caller="CT2", study="1.3")
        post.settle()
    assert sorted(sink.got) == ["1.1.1.1", "1.3.1.1"]


def test_two_rules_that_want_the_same_send_it_once(post, sink):
    post.rule(name="one")
    post.rule(name="other", where="Modality=OT")
    with sink:
        post.store("1", "2")
        post.settle()
    assert sorted(sink.got) == uids("1", "2")


def test_what_is_deleted_before_it_is_due_is_not_sent_and_what_comes_back_is(post, sink):
    post.rule()
    post.store("1", "2")
    post.turn()
    ref = StudyRef(STUDY)
    post.archive.lifecycle.delete(OPERATOR, ref, reason="test")
    with sink:
        post.time.pass_(61)
        post.turn()
        assert (sink.got, post.jobs) == ([], [])
        post.archive.lifecycle.restore(OPERATOR, ref)
        post.settle()
    assert sorted(sink.got) == uids("1", "2")


# -- what goes wrong ---------------------------------------------------------------------------


def test_a_peer_that_is_down_is_tried_again_later_and_later(post, sink, time_of_day):
    post.rule()
    post.store("1")
    post.settle()
    job = post.job
    assert (job.state, job.attempts) == ("waiting", 1)
    assert "nothing listens there" in job.reason
    pauses = []
    for attempt in range(2, 6):
        assert job.due_at is not None
        pauses.append(clock.to_us(job.due_at) - time_of_day.now)
        time_of_day.now = clock.to_us(job.due_at) + 1_000_000
        post.forwarder._destinations["SINK"].rests_until_us = 0
        post.turn()
        job = post.job
        assert job.attempts == attempt
    for number, pause in enumerate(pauses):  # 10 s doubled each time, a quarter more or less
        assert 0.74 < pause / (10_000_000 * 2**number) < 1.26
    with sink:
        time_of_day.pass_(3600)
        post.turn()
    assert sink.got == uids("1")
    assert (post.job.state, post.job.attempts, post.job.reason) == ("done", 0, "")


def test_a_peer_that_is_down_is_not_asked_for_each_study_that_waits(post, sink, time_of_day):
    post.rule()
    for number in range(5):
        post.store("1", study=f"1.{number + 1}")
    post.settle()
    assert [job.attempts for job in post.jobs].count(1) == 1  # the others were left in peace
    time_of_day.pass_(1)
    post.turn()
    assert sum(job.attempts for job in post.jobs) == 1  # it rests
    with sink:
        time_of_day.pass_(30)
        post.turn()
    assert len(sink.got) == 5


def test_an_association_that_breaks_is_gone_on_with_where_it_broke(post, sink, time_of_day):
    broken = []

    def break_once(uid):
        if uid.endswith(".4") and not broken:
            broken.append(uid)
            return None
        return 0

    sink.answer = break_once
    post.rule()
    post.store(*"123456")
    with sink:
        post.settle()
        job = post.job
        # What was under way may have arrived; all behind it went on a new association.
        assert (job.state, job.sent, job.attempts) == ("waiting", 5, 1)
        assert "SINK" in job.reason
        time_of_day.pass_(20)
        post.turn()
    assert Counter(sink.got) == Counter(uids(*"123456"))
    assert (post.job.state, post.job.sent) == ("done", 6)


def test_an_instance_that_breaks_every_association_does_not_hold_up_the_others(
    post, sink, time_of_day
):
    sink.answer = lambda uid: None if uid.endswith(".2") else 0
    post.rule()
    post.store(*"12345")
    post.store("1", study="1.9")
    with sink:
        post.settle()
        for _ in range(4):
            time_of_day.pass_(400)
            post.turn()
    assert Counter(sink.got) == Counter([*uids(*"1345"), "1.9.1.1"])
    by_study = {job.study_instance_uid: job for job in post.jobs}
    assert (by_study[STUDY].state, by_study[STUDY].sent) == ("waiting", 4)
    assert by_study["1.9"].state == "done"


@pytest.mark.parametrize("status", [0xA900, 0x0124])
def test_what_is_refused_for_good_is_noted_and_not_sent_again(post, sink, status, time_of_day):
    asked = []

    def answer(uid):
        asked.append(uid)
        return status if uid.endswith(".2") else 0

    sink.answer = answer
    post.rule()
    with sink:
        post.store("1", "2", "3")
        post.settle()
        job = post.job
        assert (job.state, job.sent, job.refused, job.failed) == ("done", 2, 1, 0)
        (why,) = job.undelivered
        assert (why.sop_instance_uid, why.status) == (uids("2")[0], status)
        assert f"{status:04X}" in why.reason
        time_of_day.pass_(3600)
        post.store("4")
        post.settle()
    assert Counter(asked) == Counter(uids(*"1234"))
    assert (post.job.sent, post.job.refused) == (3, 1)


@pytest.mark.parametrize("status", [0xA700, 0x0110])
def test_what_fails_for_now_is_sent_again_alone(post, sink, status, time_of_day):
    asked = []

    def answer(uid):
        asked.append(uid)
        return status if uid.endswith(".2") and asked.count(uid) == 1 else 0

    sink.answer = answer
    post.rule()
    post.store("1", "2", "3")
    with sink:
        post.settle()
        job = post.job
        assert (job.state, job.sent, job.failed, job.attempts) == ("waiting", 2, 1, 1)
        assert f"{status:04X}" in job.reason
        time_of_day.pass_(30)
        post.turn()
    assert Counter(asked) == Counter(uids("1", "2", "2", "3"))
    assert (post.job.state, post.job.sent, post.job.failed) == ("done", 3, 0)
    assert post.job.undelivered == []


def test_a_peer_that_is_full_is_not_offered_everything(post, sink):
    asked = []
    sink.answer = lambda uid: asked.append(uid) or 0xA700
    post.rule()
    post.store(*(str(number) for number in range(1, 30)))
    with sink:
        post.settle()
    assert len(asked) == 3
    assert (post.job.state, post.job.failed) == ("waiting", 3)


def test_a_warning_is_a_success(post, sink):
    sink.answer = lambda uid: 0xB007
    post.rule()
    post.store("1")
    with sink:
        post.settle()
    assert (post.job.state, post.job.sent, post.job.undelivered) == ("done", 1, [])


def test_what_the_peer_takes_in_no_form_is_given_up_after_three_tries(
    post, sink, time_of_day, monkeypatch
):
    monkeypatch.setattr("pynetdicom._config.UNRESTRICTED_STORAGE_SERVICE", False)
    post.rule()
    post.store("1")
    sink.start("1.2.840.10008.5.1.4.1.1.2")  # CT alone
    for attempt in (1, 2):
        post.settle() if attempt == 1 else post.turn()
        assert (post.job.state, post.job.attempts) == ("waiting", attempt)
        time_of_day.pass_(100)
    post.turn()
    job = post.job
    assert (job.state, job.refused) == ("done", 1)
    assert job.undelivered[0].status is None
    assert job.undelivered[0].reason


def test_a_destination_nobody_knows_waits_until_somebody_does(post, sink, time_of_day):
    post.archive.peers.remove(OPERATOR, "SINK")
    post.rule()
    post.store("1")
    post.settle()
    assert "fileroom peer add SINK HOST PORT" in post.job.reason
    post.know(sink)
    with sink:
        time_of_day.pass_(20)
        post.turn()
    assert sink.got == uids("1")


def test_a_silent_destination_delays_no_other(request, tmp_path, time_of_day):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Sink("QUICK") as quick,
        make_post(request, tmp_path, time_of_day) as archive,
    ):
        post = Post(archive, time_of_day)
        hanging = Sink("SILENT")
        hanging.port = silent.getsockname()[1]
        post.know(quick, hanging)
        post.rule("SILENT", name="a")
        post.rule("QUICK", name="b")
        for number in range(3):
            post.store("1", study=f"1.{number + 1}")
        post.turn()
        time_of_day.pass_(61)
        post.forwarder.round()
        wait_until(lambda: len(quick.got) == 3, what="the quick destination")
        assert [job.state for job in post.jobs if job.destination == "SILENT"].count(
            "sending"
        ) == 1
        silent.close()
        post.stopping.set()
        post.forwarder.join()


# -- the end of patience -----------------------------------------------------------------------


def test_after_so_many_tries_it_is_given_up_until_told_otherwise(
    request, tmp_path, time_of_day, sink, caplog
):
    with make_post(request, tmp_path, time_of_day, forward_attempts=3) as archive:
        post = Post(archive, time_of_day)
        post.know(sink)
        post.rule()
        post.store("1")
        post.settle()
        for _ in range(5):
            time_of_day.pass_(3600)
            post.turn()
        assert (post.job.state, post.job.attempts, post.job.due_at) == ("dead", 3, None)
        assert [r.message for r in caplog.records].count("forward.dead") == 1
        with sink:
            assert archive.forward.retry(OPERATOR, ALL) == 1
            time_of_day.pass_(400)
            post.turn()
        assert sink.got == uids("1")
        assert post.job.state == "done"


def test_after_so_many_days_it_is_given_up_and_what_is_new_begins_anew(
    request, tmp_path, time_of_day, sink
):
    with make_post(
        request, tmp_path, time_of_day, forward_days=2, forward_attempts=0
    ) as archive:
        post = Post(archive, time_of_day)
        post.know(sink)
        post.rule()
        post.store("1")
        post.settle()
        for _ in range(60):
            time_of_day.pass_(3600)
            post.turn()
        assert post.job.state == "dead"
        assert post.job.attempts > 20
        post.store("2")
        with sink:
            post.settle(4000)
        assert sorted(sink.got) == uids("1", "2")
        assert post.job.state == "done"


def test_a_refusal_may_be_tried_again_on_demand(post, sink):
    sink.answer = lambda uid: 0x0124
    post.rule()
    post.store("1")
    with sink:
        post.settle()
        assert (post.job.state, post.job.refused) == ("done", 1)
        sink.answer = lambda uid: 0
        assert post.archive.forward.retry(OPERATOR, JobFilter(destination="OTHER")) == 0
        assert post.archive.forward.retry(OPERATOR, JobFilter(destination="SINK")) == 1
        post.turn()
    assert sink.got == uids("1")
    assert (post.job.refused, post.job.undelivered) == (0, [])


def test_what_is_cancelled_is_not_sent_even_in_the_middle(post, sink):
    post.rule()
    post.store(*(str(number) for number in range(1, 151)))
    with sink:
        post.turn()
        post.time.pass_(61)
        sink.gate.clear()
        post.forwarder.round()
        wait_until(lambda: sink.callers, what="the first instance")
        assert post.archive.forward.cancel(OPERATOR, ALL) == 1
        sink.gate.set()
        post.forwarder.join()
        post.turn()
    assert 0 < len(sink.got) < 150
    assert post.job.state == "cancelled"
    assert "operator" in post.job.reason
    sent = len(sink.got)
    with sink:
        assert post.archive.forward.retry(OPERATOR, ALL) == 0
        assert post.archive.forward.retry(OPERATOR, JobFilter(study_instance_uid=STUDY)) == 1
        post.turn()
    assert len(set(sink.got)) == 150
    assert len(sink.got) < 150 + sent  # and not all over again


def test_a_rule_that_is_gone_sends_nothing_more(post, sink):
    post.rule()
    post.store("1")
    post.turn()
    post.archive.forward.rules.remove(OPERATOR, "rule")
    with sink:
        post.settle()
    assert sink.got == []
    assert (post.job.state, post.job.reason) == ("cancelled", "rule rule is gone")


# -- several at once ---------------------------------------------------------------------------

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.mark.parametrize("database", DATABASES)
def test_nodes_that_share_an_index_share_the_work_and_send_nothing_twice(
    request, tmp_path, time_of_day, sink, database
):
    with make_post(request, tmp_path, time_of_day, database) as archive:
        one, other = Post(archive, time_of_day), Post(archive, time_of_day)
        one.know(sink)
        one.rule()
        one.rule(name="again", where="Modality=OT")
        for number in range(8):
            one.store("1", "2", study=f"1.{number + 1}")
        with sink:
            for seconds in (0, 61, 0):
                time_of_day.pass_(seconds)
                both = [threading.Thread(target=post.turn) for post in (one, other)]
                for thread in both:
                    thread.start()
                for thread in both:
                    thread.join()
        assert len(sink.got) == len(set(sink.got)) == 16
        assert {job.state for job in one.jobs} == {"done"}


@pytest.mark.parametrize("database", DATABASES)
def test_no_more_than_so_many_studies_are_on_their_way_to_one_peer(
    request, tmp_path, time_of_day, sink, database
):
    with make_post(request, tmp_path, time_of_day, database, forward_associations=2) as archive:
        posts = [Post(archive, time_of_day) for _ in range(3)]
        posts[0].know(sink)
        posts[0].rule()
        for number in range(6):
            posts[0].store("1", study=f"1.{number + 1}")
        posts[0].turn()
        time_of_day.pass_(61)
        with sink:
            sink.gate.clear()
            for post in posts * 2:
                post.forwarder.round()
            wait_until(lambda: sink.associations == 2, what="two associations")
            states = [job.state for job in posts[0].jobs]
            assert states.count("sending") == 2
            sink.gate.set()
            for post in posts:
                post.turn()
            posts[0].turn()
        assert len(sink.got) == 6


@pytest.mark.parametrize("database", DATABASES)
def test_what_a_dead_node_was_sending_another_takes_over(
    request, tmp_path, time_of_day, sink, database
):
    with make_post(request, tmp_path, time_of_day, database) as archive:
        post = Post(archive, time_of_day)
        post.know(sink)
        post.rule()
        post.store("1", "2")
        post.turn()
        time_of_day.pass_(61)
        queue = archive.forward.queue
        dead = queue.claim("SINK", limit=1)
        assert dead is not None
        with sink:
            post.turn()
            assert sink.got == []  # for half a minute it is somebody's
            assert queue.renew([dead.claim]) == {dead.claim}
            time_of_day.pass_(31)
            post.turn()
            assert sorted(sink.got) == uids("1", "2")
        assert queue.renew([dead.claim]) == set()
        assert queue.record(dead, []) is False
        queue.failed(dead, "too late")
        assert post.job.state == "done"


def test_what_arrives_while_its_study_is_sent_is_sent_afterwards(post, sink):
    post.rule()
    post.store("1")
    post.turn()
    post.time.pass_(61)
    with sink:
        sink.gate.clear()
        post.forwarder.round()
        wait_until(lambda: sink.callers, what="the first instance")
        post.store("2")
        post.forwarder.round()
        sink.gate.set()
        post.forwarder.join()
        assert post.job.state == "waiting"
        post.settle()
    assert sorted(sink.got) == uids("1", "2")
    assert post.job.state == "done"


def test_who_is_told_to_stop_gives_back_what_is_being_sent_and_it_goes_on(post, sink):
    post.rule()
    post.store(*(str(number) for number in range(1, 31)))
    post.turn()
    post.time.pass_(61)
    with sink:
        sink.gate.clear()
        post.forwarder.round()
        wait_until(lambda: sink.callers, what="the first instance")
        post.stopping.set()
        sink.gate.set()
        post.forwarder.join()
        job = post.job
        assert (job.state, job.attempts, job.reason) == ("waiting", 0, "")
        assert 0 < job.sent < 30
        Post(post.archive, post.time).turn()
    assert len(sink.got) == len(set(sink.got)) == 30


def test_nothing_to_do_costs_one_statement(post, sink):
    post.rule()
    post.store("1")
    with sink:
        post.settle()
    post.turn()
    told = []
    engine = post.archive.engine._engine
    event.listen(engine, "before_cursor_execute", lambda c, u, text, *_: told.append(text))
    for _ in range(10):
        post.turn()
    asked = [text for text in told if text != "BEGIN" and not text.startswith("COMMIT")]
    assert len(asked) == 10
    assert all(text.lstrip().startswith("SELECT") for text in asked)


# -- an operator's word ------------------------------------------------------------------------


def test_what_an_operator_queues_is_sent_whether_the_peer_has_it_or_not(post, sink):
    post.rule()
    post.store("1", "2")
    with sink:
        post.settle()
        post.archive.forward.enqueue(OPERATOR, "SINK", [StudyRef(STUDY)])
        post.turn()
        assert Counter(sink.got) == Counter(uids("1", "2") * 2)
        post.archive.forward.enqueue(OPERATOR, "SINK", [SeriesRef(STUDY, f"{STUDY}.1")])
        post.turn()
    assert len(sink.got) == 6
    assert {(job.rule, job.state) for job in post.jobs} == {("rule", "done"), ("", "done")}


def test_purged_instances_take_what_is_known_of_them_along(post, sink):
    post.rule()
    post.store("1", "2")
    with sink:
        post.settle()
        post.archive.lifecycle.delete(OPERATOR, StudyRef(STUDY), reason="test")
        post.time.pass_(10)
        purged = post.archive.lifecycle.purge(OPERATOR, older_than=timedelta(seconds=1))
        assert purged.instances == 2
        post.store("1", "2")
        post.settle()
    assert Counter(sink.got) == Counter(uids("1", "2") * 2)


def test_forwarding_is_counted(post, sink):
    post.rule()
    post.store("1")
    with sink:
        post.settle()
    text = exposition().decode()
    assert 'fileroom_instances_forwarded_total{outcome="sent"}' in text
    assert 'fileroom_forwards_ended_total{state="done"}' in text
    assert 'fileroom_forwards_open{state="dead"}' in text


def test_logs_name_no_patient(post, sink, caplog):
    caplog.set_level("INFO")
    sink.answer = lambda uid: 0xC000
    post.rule()
    post.store("1", PatientName="Secret^Name", PatientID="SECRET7")
    with sink:
        post.settle()
    lines = [json.dumps(vars(record), default=str) for record in caplog.records]
    assert any("forward.done" in line for line in lines)
    assert not [line for line in lines if "secret" in line.lower()]
