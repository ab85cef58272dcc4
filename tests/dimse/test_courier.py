"""The courier: there when something is to be done, and not before."""

import json
import subprocess

from tests.builders import dataset, part10
from tests.conftest import wait_until
from tests.dimse.sink import Sink


def processes(server) -> int:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(server.process.pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return len(listed.stdout.split())


def test_a_courier_comes_when_a_rule_asks_for_one_and_ends_when_told(served, tmp_path):
    ready = json.loads((served.data_dir / "run" / "ready.json").read_text())
    assert ready["courier-1"] is True  # it would come
    before = processes(served)
    (tmp_path / "1.dcm").write_bytes(part10(dataset("1.1", "1.1.1", "1.1.1.1")))
    with Sink() as sink:
        served.command("peer", "add", "SINK", "127.0.0.1", str(sink.port))
        assert processes(served) == before
        served.command("forward", "add", "all", "--to", "SINK", "--settle", "0")
        served.command("import", str(tmp_path / "1.dcm"))
        wait_until(lambda: list(sink.got) == ["1.1.1.1"], 60, "the study at the other end")
    assert processes(served) == before + 1
    assert served.stop() == 0  # a worker that ends late makes it 1
