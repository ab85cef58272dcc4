"""``fileroom migrate-objects``: every object of an archive, to a bucket and back."""

import csv
import hashlib
import json

import pytest

from archive.assembly import migration, open_objects
from archive.auth.principal import OPERATOR
from archive.errors import UnavailableError
from archive.identity import StudyRef
from archive.lifecycle.migration import Outcome
from tests.builders import dataset, part10
from tests.conftest import Served, make_config, on_disk, running_archive, store, wheel_file

pytestmark = [pytest.mark.xdist_group("buckets"), on_disk]
COUNT = 5


@pytest.fixture
def bucket(swift, monkeypatch):
    """The address of an empty bucket, and its credentials in the environment."""
    for name, value in swift.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{swift.make_bucket()}/moved"


@pytest.fixture
def filled(bucket, tmp_path):
    """An archive on disk with visible, held, deleted and large instances."""
    with running_archive(make_config(tmp_path / "data")) as archive:
        for number in range(COUNT - 2):
            store(archive, part10(dataset("1.2", "1.2.3", f"1.2.3.{number}")))
        deleted = store(archive, part10(dataset("1.3", "1.3.3", "1.3.3.1"))).ref
        archive.lifecycle.delete(
            OPERATOR, StudyRef(deleted.study_instance_uid), reason="a test"
        )
        big = dataset("1.4", "1.4.3", "1.4.3.1", Rows=1, Columns=1, BitsAllocated=8)
        big.add_new(0x7FE00010, "OB", bytes(9 << 20))
        store(archive, part10(big))
        yield archive


def contents(objects) -> dict[str, bytes]:
    """Every object of a store."""
    return {
        one.key: hashlib.sha256(objects.read(one.key, 0, one.size_bytes)).digest()
        for prefix in ("objects", "sources", "ledger")
        for one in objects.walk(prefix)
    }


def test_every_object_is_moved_to_a_bucket_and_back_byte_by_byte(filled, bucket, tmp_path):
    report = migration(filled, "disk", bucket, check=False).run()
    before = contents(filled.objects)
    in_bucket = open_objects(filled.config, bucket)
    assert contents(in_bucket) == before
    assert (report.copied, report.there, report.failed) == (len(before), 0, [])
    # Read by an archive whose index is the same and whose objects are in the bucket.
    moved = make_config(tmp_path / "data", storage={"url": bucket})
    with running_archive(moved) as archive:
        assert archive.verifier.verify(grace_s=0).sound
        for folder in ("objects", "sources", "ledger"):
            (tmp_path / "data" / folder).rename(tmp_path / folder)
        report = migration(archive, bucket, "disk", check=False).run()
        assert not report.failed
    assert contents(open_objects(filled.config)) == before


def test_a_second_run_copies_only_what_is_new(filled, bucket):
    first = migration(filled, "disk", bucket, check=False).run()
    store(filled, wheel_file("CT_small.dcm"))
    second = migration(filled, "disk", bucket, check=False).run()
    assert (second.copied, second.there) == (1, first.copied)


def test_what_is_there_and_other_is_found_when_asked_for_and_copied_again(filled, bucket):
    migration(filled, "disk", bucket, check=False).run()
    there = open_objects(filled.config, bucket)
    key = next(one for one in there.walk("objects") if one.size_bytes < 1 << 20)
    there.put(key.key, bytes(key.size_bytes))
    assert migration(filled, "disk", bucket, check=False).run().copied == 0
    assert migration(filled, "disk", bucket, check=True).run().copied == 1
    assert contents(there) == contents(filled.objects)


def test_what_is_broken_or_lost_is_not_carried_on_and_the_rest_is(filled, bucket):
    keys = sorted(one.key for one in filled.objects.walk("objects"))
    body = filled.objects.read(keys[0], 0, 1 << 20)
    filled.objects.delete(keys[0])
    filled.objects.put(keys[0], body[:-1] + b"!")
    filled.objects.delete(keys[1])
    rows = []
    report = migration(filled, "disk", bucket, check=False).run(note=rows.extend)
    assert sorted(row.key for row in report.failed) == keys[:2]
    there = {one.key for one in open_objects(filled.config, bucket).walk("objects")}
    assert there == set(keys[2:])
    assert {row.key for row in rows if row.outcome is Outcome.FAILED} == set(keys[:2])


def test_a_store_that_cannot_be_used_is_said_before_anything_is_copied(filled, bucket):
    with pytest.raises(UnavailableError, match="NoSuchBucket"):
        migration(filled, "disk", "s3://no-such-bucket/x", check=False)


def test_the_command_reports_each_object_and_empties_only_what_is_not_in_use(
    filled, bucket, swift, tmp_path
):
    before = contents(filled.objects)
    lines = tmp_path / "moved.csv"
    command = ("migrate-objects", "--from", "disk", "--to", bucket, "--json")
    server = Served(tmp_path / "data")
    ended = server.command(*command, "--report", str(lines))
    assert json.loads(ended.stdout)["copied"] == len(before)
    with lines.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["key"]: bytes.fromhex(row["sha256"]) for row in rows} == before
    refused = server.command(*command, "--remove-source", check=False)
    assert refused.returncode == 2
    assert "[storage] url is still" in refused.stderr
    assert contents(filled.objects) == before
    server.environment["FILEROOM_STORAGE__URL"] = bucket
    ended = server.command(*command, "--remove-source")
    assert json.loads(ended.stdout)["removed"] == len(before)
    assert contents(filled.objects) == {}
    assert server.command("verify", "--json").returncode == 0
