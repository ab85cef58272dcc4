"""Two nodes on one PostgreSQL database, sharing objects: what a killed one was at, goes on.

A claim is a lease of half a minute which the one who has it renews; a node that dies renews
nothing more, and the other one takes over when the lease has run out.
"""

import contextlib
import json
import threading

import pytest
from pynetdicom import evt

from tests.builders import SECONDARY_CAPTURE, dataset, part10
from tests.conftest import Served, free_port, new_database, objects_url, wait_until
from tests.dimse.commitment_scu import Reports, ask, associate, information, listening
from tests.dimse.sink import Sink

pytestmark = [pytest.mark.endtoend, pytest.mark.xdist_group("endtoend")]

COUNT = 12
# 30 s, or 120 s where a report was sent and not answered; and room for a loaded machine.
TAKEN_OVER_S = 180.0


@contextlib.contextmanager
def nodes(cluster, tmp_path, **environment):
    """Two archives that share the database and the objects (a folder, or a bucket)."""
    url = new_database(cluster)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / "objects").mkdir()
    (folders[1] / "objects").symlink_to(folders[0] / "objects")
    objects = objects_url(folders[0])
    made = [
        Served(
            folder,
            FILEROOM_INDEX__URL=url,
            FILEROOM_STORAGE__URL=objects,
            FILEROOM_HTTP__WORKERS="1",
            FILEROOM_DIMSE__WORKERS="1",
            **environment,
        )
        for folder in folders
    ]
    try:
        yield made
    finally:
        for one in made:
            if one.process is not None and one.process.poll() is None:
                one.stop()


def jobs(server):
    told = server.command("forward", "status", "1.1", "--json", check=False).stdout
    return json.loads(told)["studies"]


def test_what_a_killed_node_was_sending_and_had_to_report_the_other_does(
    postgres_cluster, tmp_path
):
    stuck = threading.Event()
    seen: list[str] = []
    wanted = {f"1.1.1.{number}" for number in range(1, COUNT + 1)}
    scu_port = free_port()

    def hangs(uid):
        seen.append(uid)
        if len(seen) == COUNT // 2:
            stuck.wait(300)
        return 0

    def unanswered(_event):  # should the first one be fast enough to report
        stuck.wait(300)
        return 0, None

    with Sink(answer=hangs) as sink:
        peers = [("SINK", sink.port), ("MODALITY", scu_port)]
        environment = {
            "FILEROOM_DIMSE__FORWARD": json.dumps(
                [{"name": "all", "to": "SINK", "settle_s": 0}]
            ),
            "FILEROOM_DIMSE__PEERS": json.dumps(
                [{"ae_title": one, "host": "127.0.0.1", "port": port} for one, port in peers]
            ),
            "FILEROOM_DIMSE__NETWORK_TIMEOUT_S": "90",
        }
        with nodes(postgres_cluster, tmp_path, **environment) as (first, second):
            try:
                first.start()
                (tmp_path / "in").mkdir()
                for number in range(1, COUNT + 1):
                    made = dataset("1.1", "1.1.1", f"1.1.1.{number}")
                    (tmp_path / "in" / f"{number}.dcm").write_bytes(part10(made))
                first.command("import", str(tmp_path / "in"))
                wait_until(lambda: len(seen) == COUNT // 2, 60, "the middle of the study")
                second.start()
                association = associate(
                    first.dicom_port, handlers=[(evt.EVT_N_EVENT_REPORT, unanswered)]
                )
                asked = information((SECONDARY_CAPTURE, "1.1.1.1"))
                assert ask(association, asked).Status == 0
                assert len(seen) == COUNT // 2  # it hangs still
                first.kill()
                association.abort()
                reports = Reports()
                with listening(scu_port, reports):
                    event, report = reports.wait(timeout_s=TAKEN_OVER_S)
                assert (event, report.TransactionUID) == (1, asked.TransactionUID)
                wait_until(lambda: set(sink.got) == wanted, TAKEN_OVER_S, "every instance")
                wait_until(lambda: jobs(second)[0]["state"] == "done", 30, "the job's end")
            finally:
                stuck.set()
            assert all(seen.count(uid) <= 2 for uid in wanted)
            assert second.stop() == 0
