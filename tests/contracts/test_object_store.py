"""What every object store promises, run over each that exists."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from storage.errors import NoSpaceError, ObjectMissingError, ObjectUnreadableError
from storage.objects.base import ObjectStore
from storage.objects.disk import DiskStore

KEY = "objects/ab/1.2/1.2.3/1.2.3.4~mhx3k2p9a7zabcd~0123456789ab.dcm"


@pytest.fixture(params=["disk"])
def store(request, tmp_path) -> ObjectStore:
    return DiskStore(tmp_path / "store")


def test_what_is_put_is_read_back_whole_and_in_ranges(store):
    body = os.urandom(300_000)
    store.put(KEY, body)
    store.settle([KEY])
    assert store.size(KEY) == len(body)
    assert store.read(KEY, 0, len(body)) == body
    assert store.read(KEY, 1000, 10) == body[1000:1010]
    assert b"".join(store.iter_chunks(KEY, 5, 200_000, 4096)) == body[5:200_005]


def test_a_spool_is_kept_under_a_key_without_being_copied(store, tmp_path):
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


def test_two_processes_may_put_the_same_object_at_once(store, tmp_path):
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from storage.objects.disk import DiskStore
        store = DiskStore(Path(sys.argv[1]))
        sys.stdin.readline()
        for number in range(300):
            store.put(f"sources/{number}.json", b"the same")
    """)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "store")],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, said = writer.communicate(timeout=60)
        assert writer.returncode == 0, said
    assert store.read("sources/299.json", 0, 100) == b"the same"
    assert not list((tmp_path / "store" / "sources").glob("*.part"))


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


def test_a_full_volume_refuses_writes_and_goes_on_reading(tmp_path):
    DiskStore(tmp_path).put(KEY, b"kept")
    full = DiskStore(tmp_path, keep_free_bytes=shutil.disk_usage(tmp_path).free * 2)
    assert not full.has_room()
    with pytest.raises(NoSpaceError):
        full.put(KEY.replace("1.2.3.4~", "1.2.3.5~"), b"refused")
    with pytest.raises(NoSpaceError):
        full.new_spool()
    assert full.read(KEY, 0, 10) == b"kept"
    assert len(list(full.walk("objects"))) == 1


_WRITER = """
    import os, signal, sys
    from pathlib import Path
    from storage.objects.disk import DiskStore
    store = DiskStore(Path(sys.argv[1]))
    store.put(sys.argv[2], b"indexed")
    store.forget([sys.argv[2]])
    store.put(sys.argv[3], b"stray")
    store.new_spool().write(b"half")
    print("written", flush=True)
    if sys.argv[4] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def _writer(folder: Path, *args: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_WRITER), str(folder), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    return process


def test_a_sweep_finds_what_a_killed_writer_left_and_nothing_of_a_living_one(tmp_path):
    stray = KEY.replace("1.2.3.4~", "1.2.3.5~")
    dead = _writer(tmp_path, KEY, stray, "die")
    dead.communicate()
    living = _writer(
        tmp_path, KEY.replace("/1.2/", "/1.9/"), stray.replace("/1.2/", "/1.9/"), "live"
    )
    try:
        store = DiskStore(tmp_path)
        found = list(store.strays())
        assert found == [[KEY, stray]]
        assert store.discard_stray(stray)
        assert not store.discard_stray(stray)
        assert [entry.key for entry in store.walk("objects")].count(KEY) == 1
        # The living writer's half-received object is untouched.
        assert len(list((tmp_path / "incoming").iterdir())) == 1
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
