"""What every object store promises, run over each that exists."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path

import pytest

from storage.errors import NoSpaceError, ObjectMissingError, ObjectUnreadableError
from storage.objects.cache import BLOCK_BYTES
from tests.conftest import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = "objects/ab/1.2/1.2.3/1.2.3.4~mhx3k2p9a7zabcd~0123456789ab.dcm"
STORES = ["disk", "swift", "swift-cached", "rados_gateway-cached", "azurite-cached"]

pytestmark = [
    pytest.mark.parametrize("place", STORES, indirect=True),
    pytest.mark.xdist_group("buckets"),
]


def test_what_is_put_is_read_back_whole_and_in_ranges(store):
    body = os.urandom(300_000)
    store.put(KEY, body)
    store.settle([KEY])
    assert store.size(KEY) == len(body)
    assert store.read(KEY, 0, len(body)) == body
    assert store.read(KEY, 1000, 10) == body[1000:1010]
    assert b"".join(store.iter_chunks(KEY, 5, 200_000, 4096)) == body[5:200_005]


def test_a_spool_is_kept_under_a_key(store, tmp_path):
    spool = store.new_spool()
    for _ in range(3):
        spool.write(b"x" * 1000)
    assert spool.size_bytes == 3000
    assert spool.read(2990, 100) == b"x" * 10
    view = spool.view()
    assert bytes(view[:2]) == b"xx"
    view.release()
    store.put(KEY, spool)
    store.settle([KEY])
    spool.discard()  # nothing happens: it is kept
    assert store.read(KEY, 0, 4000) == b"x" * 3000
    assert not list((tmp_path / "store" / "incoming").iterdir())


def test_a_discarded_spool_leaves_nothing(store, tmp_path):
    spool = store.new_spool()
    spool.write(b"something")
    spool.discard()
    spool.discard()
    assert not list((tmp_path / "store" / "incoming").iterdir())


_OPEN = """
    import json, os, signal, sys
    from pathlib import Path
    from storage.objects.opening import open_store
    from storage.objects.settings import BucketSettings
    store = open_store(BucketSettings(**json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


def program(place, text: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that has opened the store, as ``store``."""
    code = textwrap.dedent(_OPEN) + textwrap.dedent(text)
    settings = json.dumps(asdict(place.settings))
    return subprocess.Popen(
        [sys.executable, "-c", code, settings, str(place.local), *arguments],
        env=os.environ | place.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def test_two_processes_may_put_the_same_object_at_once(store, place):
    text = """
        sys.stdin.readline()
        for number in range(30):
            store.put(f"sources/{number}.json", b"the same")
    """
    writers = [program(place, text) for _ in range(3)]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, said = writer.communicate(timeout=60)
        assert writer.returncode == 0, said
    assert store.read("sources/29.json", 0, 100) == b"the same"
    assert len(list(store.walk("sources"))) == 30  # and nothing half written


def test_an_object_that_is_not_there_is_missing(store):
    for act in (
        lambda: store.read(KEY, 0, 1),
        lambda: store.size(KEY),
        lambda: list(store.iter_chunks(KEY, 0, 1, 1)),
        lambda: store.open(KEY),
    ):
        with pytest.raises(ObjectMissingError):
            act()
    store.delete(KEY)  # and to delete it is no error


def test_an_object_that_ends_early_is_an_error_not_a_short_answer(store):
    store.put(KEY, b"0123456789")
    with pytest.raises(ObjectUnreadableError, match="early"):
        list(store.iter_chunks(KEY, 5, 100, 4))


def test_an_object_is_never_overwritten_half(store):
    store.put(KEY, b"first")
    store.delete(KEY)
    store.put(KEY, b"second")
    assert store.read(KEY, 0, 100) == b"second"


def test_a_walk_yields_every_object_in_order(store):
    keys = [KEY.replace("1.2.3.4~", f"1.2.3.{n}~") for n in range(12)]
    for key in keys:
        store.put(key, b"12345")
    walked = list(store.walk("objects"))
    assert [entry.key for entry in walked] == sorted(keys)
    assert {entry.size_bytes for entry in walked} == {5}
    assert list(store.walk("nothing")) == []


def test_a_full_volume_refuses_writes_and_goes_on_reading(store, place):
    store.put(KEY, b"kept")
    full = place.open(keep_free_bytes=shutil.disk_usage(place.local).free * 2)
    assert not full.has_room()
    with pytest.raises(NoSpaceError):
        full.put(KEY.replace("1.2.3.4~", "1.2.3.5~"), b"refused")
    with pytest.raises(NoSpaceError):
        full.new_spool()
    assert full.read(KEY, 0, 10) == b"kept"
    assert len(list(full.walk("objects"))) == 1


_WRITER = """
    store.put(sys.argv[3], b"indexed")
    store.forget([sys.argv[3]])
    store.put(sys.argv[4], b"stray")
    store.new_spool().write(b"half")
    print("written", flush=True)
    if sys.argv[5] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def _writer(place, *args: str) -> subprocess.Popen[str]:
    process = program(place, _WRITER, *args)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n", process.communicate()
    return process


def test_a_sweep_finds_what_a_killed_writer_left_and_nothing_of_a_living_one(place):
    stray = KEY.replace("1.2.3.4~", "1.2.3.5~")
    dead = _writer(place, KEY, stray, "die")
    dead.communicate()
    other = [key.replace("/1.2/", "/1.9/") for key in (KEY, stray)]
    living = _writer(place, *other, "live")
    try:
        store = place.open()
        found = list(store.strays())
        assert found == [[KEY, stray]]
        assert store.discard_stray(stray)
        assert not store.discard_stray(stray)
        assert [entry.key for entry in store.walk("objects")].count(KEY) == 1
        # The living writer's half-received object is untouched.
        assert len(list((place.local / "incoming").iterdir())) == 1
        assert list(store.strays()) == []
    finally:
        living.communicate("")


def test_an_open_object_fills_pieces_of_memory(store):
    body = bytes(range(256)) * 1000
    store.put(KEY, body)
    memory = memoryview(bytearray(100_000))
    opened = store.open(KEY)
    try:
        opened.fill([memory[10:20], memory[30:99_000]], 7)
        assert memory[10:20] == body[7:17]
        assert memory[30:99_000] == body[17:98_987]
        with pytest.raises(ObjectUnreadableError, match="early"):
            opened.fill([memory[:4], memory[4:8], memory[8:]], len(body) - 6)
    finally:
        opened.close()


def test_a_large_object_is_put_and_read_across_the_borders_of_its_blocks(store):
    body = os.urandom(2 * BLOCK_BYTES + 1_000_000)
    spool = store.new_spool()
    for start in range(0, len(body), 1 << 20):
        spool.write(body[start : start + (1 << 20)])
    store.put(KEY, spool)
    store.settle([KEY])
    assert store.size(KEY) == len(body)
    assert b"".join(store.iter_chunks(KEY, 0, len(body), 300_000)) == body
    around = slice(BLOCK_BYTES - 5, 2 * BLOCK_BYTES + 5)
    assert store.read(KEY, around.start, around.stop - around.start) == body[around]
    assert store.read(KEY, len(body) - 3, 100) == body[-3:]
    assert store.read(KEY, len(body), 10) == b""
    memory = memoryview(bytearray(50))
    opened = store.open(KEY)
    opened.fill([memory[:30], memory[30:]], BLOCK_BYTES - 20)
    opened.close()
    assert memory == body[BLOCK_BYTES - 20 : BLOCK_BYTES + 30]


def test_one_put_from_memory_may_be_large(store):
    body = os.urandom(20_000_000)
    store.put(KEY, memoryview(bytearray(body)))
    assert store.uncached().read(KEY, 0, len(body)) == body


def test_an_empty_object_is_there_and_empty(store):
    store.put(KEY, b"")
    assert store.size(KEY) == 0
    assert store.read(KEY, 0, 10) == b""
    assert list(store.iter_chunks(KEY, 0, 0, 10)) == []


def test_another_node_reads_what_this_one_has_put(store, place, tmp_path):
    if place.settings.url == "disk":
        pytest.skip("a disk is of one node")
    store.put(KEY, b"seen by all")
    other = place.open(local=tmp_path / "other", cache_bytes=1_000_000)
    assert other.read(KEY, 0, 100) == b"seen by all"
    # What a node removes is gone, whatever another one remembers of it.
    other.delete(KEY)
    with pytest.raises(ObjectMissingError):
        store.size(KEY)
    with pytest.raises(ObjectMissingError):
        other.read(KEY, 0, 100)


def test_what_can_be_read_now_or_from_a_file_is_the_object(store):
    body = os.urandom(100_000)
    store.put(KEY, body)
    assert store.read(KEY, 0, 10) == body[:10]
    path = store.local_path(KEY)
    assert path is None or Path(path).read_bytes() == body
    assert store.read_now(KEY, 5, 50_000) in (None, body[5:50_005])


def test_a_store_that_is_there_says_so(store):
    store.put(KEY, b"x")
    store.require_ready()
    assert store.answers()


def test_what_is_discarded_goes_and_nothing_waits_for_it(store, place):
    keys = [KEY.replace("1.2.3.4~", f"1.2.3.{n}~") for n in range(5)]
    for key in keys:
        store.put(key, b"not to be indexed")
    assert store.discard(keys[:4]) == []
    store.forget(keys)  # as who commits does
    wait_until(lambda: len(list(store.walk("objects"))) == 1, what="their removal")
    assert store.read(keys[4], 0, 100) == b"not to be indexed"
