"""Forwarding as an operator sees it, and what outlives a rebuilt index."""

import pytest

from archive.assembly import finish_rebuild, rebuilder
from archive.auth.principal import ANONYMOUS, OPERATOR
from archive.config import ForwardRule
from archive.errors import ForbiddenError
from archive.forward.service import JobFilter
from archive.identity import StudyRef
from storage.index import clock
from tests.builders import dataset, part10
from tests.conftest import running_archive, store

ALL = JobFilter()


def test_only_who_administers_sees_and_changes_the_queue(archive):
    forward = archive.forward
    for act in (
        lambda who: forward.status(who, ALL),
        forward.counts,
        lambda who: forward.retry(who, ALL),
        lambda who: forward.cancel(who, ALL),
        lambda who: forward.enqueue(who, "SINK", [StudyRef("1.2")]),
    ):
        act(OPERATOR)
        with pytest.raises(ForbiddenError):
            act(ANONYMOUS)


def test_without_rules_the_feed_is_followed_rarely(archive, monkeypatch):
    queue = archive.forward.queue
    now = clock.now_us()
    monkeypatch.setattr(clock, "now_us", lambda: now)
    queue.follow(queue.pulse())
    behind = []
    for number in range(3):
        store(archive, part10(dataset("1.2", "1.2.1", f"1.2.1.{number}")))
        queue.follow(queue.pulse())
        pulse = queue.pulse()
        behind.append(pulse.last_change - pulse.cursor)
    assert behind == [0, 1, 2]
    now += 61_000_000
    queue.follow(queue.pulse())
    assert queue.pulse().cursor == queue.pulse().last_change


def test_a_rebuilt_index_keeps_rules_and_jobs_and_forwards_nothing_anew(config):
    with running_archive(config) as archive:
        rule = ForwardRule(name="all", to="SINK", settle_s=0)
        archive.forward.rules.add(OPERATOR, rule)
        store(archive, part10(dataset("1.2", "1.2.1", "1.2.1.1")))
        archive.forward.queue.follow(archive.forward.queue.pulse())
        archive.forward.enqueue(OPERATOR, "SINK", [StudyRef("1.2")])
        (job, other) = archive.forward.status(OPERATOR, ALL)
        assert {job.rule, other.rule} == {"all", ""}
        archive.forward.cancel(OPERATOR, JobFilter(rule="all"))
    worker = rebuilder(config)
    worker.rebuild()
    finish_rebuild(config, worker)
    with running_archive(config) as archive:
        queue = archive.forward.queue
        assert archive.forward.rules.find("all") == rule
        assert queue.pulse().cursor == queue.pulse().last_change == 1
        queue.follow(queue.pulse())
        states = {one.rule: one.state for one in archive.forward.status(OPERATOR, ALL)}
        assert states == {"all": "cancelled", "": "waiting"}
        store(archive, part10(dataset("1.2", "1.2.1", "1.2.1.2")))
        queue.follow(queue.pulse())
        states = {one.rule: one.state for one in archive.forward.status(OPERATOR, ALL)}
        assert states["all"] == "waiting"
