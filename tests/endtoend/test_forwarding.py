"""Forwarding by an archive that serves: live rules, the queue, and SIGKILL in the middle."""

import json
import threading

import httpx
import pytest

from tests.builders import dataset, part10
from tests.conftest import Served, wait_until
from tests.dimse.sink import Sink

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("endtoend")]


def write_study(folder, study: str, count: int, **attributes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        made = dataset(study, f"{study}.1", f"{study}.1.{number}", **attributes)
        (folder / f"{study}.{number}.dcm").write_bytes(part10(made))


def uids(study: str, count: int) -> set[str]:
    return {f"{study}.1.{number}" for number in range(1, count + 1)}


@pytest.fixture
def sink():
    with Sink() as made:
        yield made
        made.gate.set()


def report(server, *arguments: str):
    return json.loads(server.command(*arguments, "--json", check=False).stdout)


def test_rules_and_the_queue_are_live(tmp_path, sink):
    server = Served(
        tmp_path / "data",
        FILEROOM_DIMSE__FORWARD_ATTEMPTS="1",
        FILEROOM_DIMSE__WORKERS="1",
        FILEROOM_HTTP__WORKERS="1",
    )
    server.start()
    server.command("peer", "add", "SINK", "127.0.0.1", str(sink.port))
    rule = ("--to", "SINK", "--where", "Modality=CT", "--settle", "0")
    server.command("forward", "add", "live", *rule)
    sink.stop()
    write_study(tmp_path / "in", "1.1", 2, Modality="CT")
    write_study(tmp_path / "in", "1.2", 2, Modality="MR")
    wait_until(lambda: arrives(server, tmp_path / "in"), what="the import")

    def dead():
        told = report(server, "forward", "status", "--state", "dead")
        return told["studies"]

    (job,) = wait_until(dead, 30, "the first failure, which is the last here")
    assert (job["study_instance_uid"], job["rule"]) == ("1.1", "live")
    assert "nothing listens there" in job["reason"]
    sink.start()
    server.command("forward", "retry", "--rule", "live")
    server.command("send", "SINK", "1.2/1.2.1/1.2.1.2", "--queue")
    wanted = uids("1.1", 2) | {"1.2.1.2"}
    wait_until(lambda: set(sink.got) == wanted, 30, "what was tried again, and queued")
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'fileroom_instances_forwarded_total{outcome="sent"}' in metrics
    assert 'fileroom_forwards_ended_total{state="dead"} 1.0' in metrics
    assert server.stop() == 0


def arrives(server, folder) -> bool:
    return server.command("import", str(folder), check=False).returncode == 0


def test_sigkill_in_the_middle_loses_nothing_and_repeats_little(tmp_path, sink):
    count = 90
    pace = threading.Event()

    def slowly(uid):
        pace.wait(0.02)
        return 0

    sink.answer = slowly
    server = Served(
        tmp_path / "data",
        FILEROOM_DIMSE__FORWARD=json.dumps([{"name": "all", "to": "SINK", "settle_s": 1}]),
        FILEROOM_DIMSE__PEERS=json.dumps(
            [{"ae_title": "SINK", "host": "127.0.0.1", "port": sink.port}]
        ),
        FILEROOM_DIMSE__FORWARD_RETRY_S="0.5",
        FILEROOM_DIMSE__WORKERS="1",
        FILEROOM_HTTP__WORKERS="1",
    )
    server.start()
    write_study(tmp_path / "in", "1.1", count)
    server.command("import", str(tmp_path / "in"))
    for share in (1, 2):
        wait_until(lambda share=share: len(sink.got) > share * count // 3, 60, "the middle")
        server.kill()
        server.start()
    wait_until(lambda: set(sink.got) == uids("1.1", count), 60, "every instance")
    # At most what a second brought before each kill is sent again.
    assert len(sink.got) < 2.5 * count
    wait_until(lambda: state(server) == "done", what="the end of the job")
    before = len(sink.got)
    write_study(tmp_path / "late", "1.1", count + 1)  # of which one is new
    server.command("import", str(tmp_path / "late"))
    wait_until(lambda: f"1.1.1.{count + 1}" in sink.got, 30, "what came late")
    assert len(sink.got) == before + 1
    assert server.stop() == 0


def state(server) -> str:
    (job,) = report(server, "forward", "status", "1.1")["studies"]
    return job["state"]
