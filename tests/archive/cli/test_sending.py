"""`fileroom send` and `fileroom forward`: what they do, what they say, how they end."""

import threading
from collections import Counter

import pytest

from archive.assembly import open_archive
from dimse.forwarding import Forwarder
from tests.builders import dataset, part10
from tests.conftest import running_archive, store
from tests.dimse.sink import Sink


@pytest.fixture
def sink():
    with Sink() as made:
        yield made


@pytest.fixture
def known(program, sink):
    """A peer that takes instances, and studies of two modalities to send to it."""
    with running_archive(program.config) as archive:
        for study, modality, date, count in (
            ("1.1", "CT", "20240301", 3),
            ("1.2", "MR", "20230301", 2),
        ):
            for number in range(1, count + 1):
                made = dataset(study, f"{study}.1", f"{study}.1.{number}")
                made.Modality, made.StudyDate = modality, date
                store(archive, part10(made))
    assert program.run("peer", "add", "SINK", "127.0.0.1", str(sink.port)).exit_code == 0
    return sink


def uids(study: str, count: int) -> set[str]:
    return {f"{study}.1.{number}" for number in range(1, count + 1)}


def forward(program) -> None:
    """Be the courier for one round, and one more."""
    with open_archive(program.config) as archive:
        forwarder = Forwarder(archive, threading.Event())
        for _ in range(2):
            forwarder.round()
            forwarder.join()


def test_send_sends_what_is_named(program, known):
    sent = program.run("send", "SINK", "1.1")
    assert sent.exit_code == 0
    assert "3 sent to SINK, 0 refused, 0 failed" in sent.stdout
    assert set(known.got) == uids("1.1", 3)
    told = program.report("send", "SINK", "1.1/1.1.1/1.1.1.2", "1.2/1.2.1")
    assert (told["instances"], told["sent"], told["failed"], told["not_sent"]) == (3, 3, 0, [])
    assert Counter(known.got)["1.1.1.2"] == 2


def test_send_sends_what_a_search_finds(program, known):
    assert program.run("send", "SINK", "--where", "StudyDate=20240101-").exit_code == 0
    assert set(known.got) == uids("1.1", 3)
    series = ("--level", "series", "--where", "Modality=MR")
    assert program.report("send", "SINK", *series)["sent"] == 2
    one = ("--level", "instance", "--where", "SOPInstanceUID=1.1.1.3")
    assert program.report("send", "SINK", *one)["sent"] == 1
    nothing = program.run("send", "SINK", "--where", "Modality=US")
    assert (nothing.exit_code, "0 sent" in nothing.stdout) == (0, True)


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        ("send NOBODY 1.1", 2, "no peer NOBODY is known"),
        ("send SINK", 2, "say what to send"),
        ("send SINK 1.1.9", 1, "nothing is stored under 1.1.9"),
        ("send SINK 1.1.9 --queue", 1, "nothing is stored under 1.1.9"),
        ("send SINK not-a-uid", 2, "not-a-uid"),
        ("send SINK --where Modalty=CT", 2, "did you mean Modality?"),
        ("send SINK --where Modality=CT --level frame", 2, "no level"),
        ("forward add x --to NOBODY", 2, "no peer NOBODY"),
        ("forward add x --to SINK --where Modalty=CT", 2, "did you mean Modality?"),
        ("forward add x/y --to SINK", 2, "name"),
        ("forward remove nothing", 1, "no rule nothing"),
        ("forward cancel", 2, "say what"),
        ("forward status --state lost", 2, "no state 'lost'"),
    ],
)
def test_what_is_wrong_is_said(program, known, command, status, told):
    ended = program.run(*command.split())
    assert (ended.exit_code, told in ended.stderr) == (status, True), ended.stderr


def test_send_says_when_the_peer_is_not_reached(program, known):
    known.stop()
    ended = program.run("send", "SINK", "1.1")
    assert ended.exit_code == 2
    assert "nothing listens there" in ended.stderr
    told = program.report("send", "SINK", "1.1")
    assert (told["sent"], "nothing listens" in told["reason"]) == (0, True)


def test_send_says_which_instances_were_not_taken_and_why(program, known):
    known.answer = lambda uid: 0xA900 if uid.endswith(".2") else 0
    ended = program.run("send", "SINK", "1.1")
    assert ended.exit_code == 1
    assert "2 sent to SINK, 1 refused" in ended.stdout
    assert "1.1.1.2: status A900, Data Set Does Not Match SOP Class" in ended.stderr
    known.answer = lambda uid: 0xB000
    assert "(3 with a warning)" in program.run("send", "SINK", "1.1").stdout
    known.answer = lambda uid: None if uid.endswith(".2") else 0  # aborts
    ended = program.run("send", "SINK", "1.1")
    assert ended.exit_code == 1
    # What was under way is lost; the rest goes over a new association.
    assert "2 sent to SINK, 0 refused, 1 failed" in ended.stdout


def test_what_is_queued_is_sent_by_the_courier(program, known):
    ended = program.run("send", "SINK", "1.2", "--queue")
    assert (ended.exit_code, "1 queued" in ended.stdout) == (0, True)
    assert known.got == []
    forward(program)
    assert set(known.got) == uids("1.2", 2)
    told = program.report("forward", "status", "1.2")
    (job,) = told["studies"]
    assert (job["state"], job["sent"], job["rule"]) == ("done", 2, "")
    assert told["destinations"] == {"SINK": {"done": 1}}


def test_a_rule_is_added_listed_followed_and_removed(program, known):
    rule = ("forward", "add", "ct", "--to", "SINK", "--where", "Modality=CT", "--settle", "0")
    assert program.report(*rule)["replaced"] is False
    assert "rule ct replaced" in program.run(*rule).stdout
    (told,) = program.report("forward", "list")
    assert (told["name"], told["origin"], told["settle_s"]) == ("ct", "index", 0)
    assert "Modality=CT" in program.run("forward", "list").stdout
    known.answer = lambda uid: 0x0124
    # Nobody has followed the feed yet, but what was there before the rule is not meant.
    with running_archive(program.config) as archive:
        store(archive, part10(dataset("1.3", "1.3.1", "1.3.1.1", Modality="CT")))
    forward(program)
    shown = program.run("forward", "status")
    assert shown.exit_code == 1  # something was refused
    assert "1.3 to SINK (ct): 0 sent, 1 refused" in shown.stdout
    assert "1.3.1.1: status 0124, Refused: Not Authorised" in shown.stderr
    (job,) = program.report("forward", "status", "--rule", "ct")["studies"]
    assert job["undelivered"][0]["status"] == 0x0124
    known.answer = lambda uid: 0
    assert "1 study to be tried again" in program.run("forward", "retry").stdout
    forward(program)
    assert known.got == ["1.3.1.1"]
    assert program.run("forward", "status").exit_code == 0
    assert "rule ct removed" in program.run("forward", "remove", "ct").stdout
    assert program.report("forward", "list") == []
    assert "no rules" in program.run("forward", "list").stdout


def test_what_waits_can_be_cancelled(program, known):
    assert "nothing was forwarded" in program.run("forward", "status").stdout
    program.run("send", "SINK", "1.1", "1.2", "--queue")
    assert "1 study cancelled" in program.run("forward", "cancel", "1.1").stdout
    told = program.report("forward", "cancel", "--to", "SINK")
    assert told == {"studies": 1, "left": {"waiting": 0, "sending": 0, "dead": 0}}
    assert program.run("forward", "cancel", "--all").exit_code == 1
    forward(program)
    assert known.got == []


def test_a_wrong_rule_in_the_settings_is_said_at_once(program, monkeypatch):
    rules = '[{"name": "a", "to": "B", "where": "Modalty=CT"}]'
    monkeypatch.setenv("FILEROOM_DIMSE__FORWARD", rules)
    for command in ("serve", "status"):
        ended = program.run(command)
        assert ended.exit_code == 2
        assert "[[dimse.forward]] a: where: 'Modalty' is no attribute" in ended.stderr
