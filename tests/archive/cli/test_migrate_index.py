"""The index moves to PostgreSQL and back, row by row, and the archive goes on with it."""

import json

import pytest

from archive.auth.principal import OPERATOR
from tests.conftest import Served, make_config, new_database, running_archive, store, wheel_file

pytestmark = pytest.mark.postgresql
FILES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "examples_palette.dcm", "chrH32.dcm")


def moved(server: Served, source: str, target: str) -> dict[str, int]:
    ended = server.command(
        "migrate-index", "--from", source, "--to", target, "--json", check=False
    )
    assert ended.returncode == 0, ended.stderr
    tables = json.loads(ended.stdout)
    assert all(
        (one["rows"], one["digest"]) == (one["target_rows"], one["target_digest"])
        for one in tables
    )
    return {one["name"]: one["rows"] for one in tables}


def test_there_and_back_and_each_time_the_archive_goes_on(postgres_cluster, tmp_path):
    url = new_database(postgres_cluster)
    data = tmp_path / "data"
    with running_archive(make_config(data, index={"url": "sqlite"})) as archive:
        for name in FILES[:-1]:
            store(archive, wheel_file(name))
    server = Served(data)
    rows = moved(server, "sqlite", url)
    assert rows["instance"] == rows["instance_detail"] == len(FILES) - 1
    with running_archive(make_config(data, index={"url": url})) as archive:
        store(archive, wheel_file(FILES[-1]))  # keys and change numbers go on
        assert archive.verifier.verify(grace_s=0).sound
        changes = archive.changes.since(OPERATOR, 0, limit=100)
        assert [one.sequence for one in changes] == list(range(1, len(FILES) + 1))
    (data / "index.db").rename(tmp_path / "before.db")
    for rest in data.glob("index.db*"):
        rest.unlink()
    assert moved(server, url, "sqlite")["instance"] == len(FILES)
    with running_archive(make_config(data, index={"url": "sqlite"})) as archive:
        again = store(archive, wheel_file(FILES[0]))
        assert again.disposition == "duplicate"
        assert archive.verifier.verify(grace_s=0).sound


def test_an_index_that_holds_something_is_not_written_to(postgres_cluster, tmp_path):
    url = new_database(postgres_cluster)
    with running_archive(make_config(tmp_path / "data", index={"url": "sqlite"})) as archive:
        store(archive, wheel_file(FILES[0]))
    server = Served(tmp_path / "data")
    moved(server, "sqlite", url)
    ended = server.command("migrate-index", "--from", "sqlite", "--to", url, check=False)
    assert ended.returncode == 1
    assert "is not empty" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
