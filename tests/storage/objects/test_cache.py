"""The read cache: bounded, shared by processes, never a truncated or a wrong object."""

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from storage.objects.cache import BLOCK_BYTES, ReadCache

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def cache(tmp_path):
    return ReadCache(tmp_path / "cache", 1_000_000)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def age(folder: Path, seconds: float = 3600) -> None:
    """Let all of it have been used a while ago."""
    for path in folder.glob("*/*"):
        found = path.stat()
        os.utime(path, (found.st_atime - seconds, found.st_mtime))


def read(cache, key, index=0) -> bytes | None:
    block = cache.open(key, index)
    if block is None:
        return None
    try:
        return bytes(block.read(0, BLOCK_BYTES))
    finally:
        block.close()


def test_what_was_added_is_read_by_block_and_as_a_file(cache):
    cache.add("a", 0, b"first")
    cache.add("a", 1, b"second")
    assert (read(cache, "a"), read(cache, "a", 1), read(cache, "b")) == (
        b"first",
        b"second",
        None,
    )
    assert cache.whole("a").read_bytes() == b"first"
    assert cache.whole("b") is None
    assert bytes(cache.read_now("a", 0, 1, 3)) == b"irs"
    assert cache.read_now("a", 0, 3, 10) is None  # it has not so many


def test_a_block_of_a_larger_object_is_not_taken_for_the_whole(tmp_path):
    cache = ReadCache(tmp_path / "cache", 2 * BLOCK_BYTES)
    cache.add("large", 0, bytes(BLOCK_BYTES))
    assert cache.open("large", 0) is not None
    assert cache.whole("large") is None


@pytest.mark.parametrize(
    "spoil", [lambda path: os.truncate(path, 3), lambda path: os.truncate(path, 0)]
)
def test_a_file_that_was_cut_short_counts_as_absent(cache, tmp_path, spoil):
    cache.add("a", 0, b"a whole object")
    (path,) = (tmp_path / "cache").glob("*/*")
    said = path.stat().st_mtime
    spoil(path)
    os.utime(path, (time.time(), said))  # as a power cut leaves it: times written, bytes not
    assert read(cache, "a") is None
    assert cache.whole("a") is None
    assert cache.read_now("a", 0, 0, 3) is None
    cache.add("a", 0, b"a whole object")
    assert read(cache, "a") == b"a whole object"


def test_it_survives_its_process_and_stays_within_its_bound(tmp_path):
    folder = tmp_path / "cache"
    for number in range(40):
        ReadCache(folder, 1_000_000).add(f"{number}", 0, bytes(100_000))
        age(folder, 120)
        assert size_of(folder) <= 1_000_000
    assert read(ReadCache(folder, 1_000_000), "39") == bytes(100_000)


def test_what_was_used_longest_ago_goes_first(cache, tmp_path):
    for number in range(10):
        cache.add(f"{number}", 0, bytes(100_000))
    age(tmp_path / "cache")
    assert read(cache, "3") is not None  # now it is the last that was used
    cache.add("new", 0, bytes(100_000))
    assert read(cache, "3") is not None
    assert read(cache, "new") is not None
    assert size_of(tmp_path / "cache") <= 1_000_000


def test_what_is_in_use_is_not_removed_for_something_new(cache, tmp_path):
    for number in range(10):
        cache.add(f"{number}", 0, bytes(100_000))
    paths = [cache.whole(f"{number}") for number in range(10)]
    cache.add("new", 0, bytes(100_000))  # is not kept
    assert read(cache, "new") is None
    assert all(path.exists() for path in paths)


def test_a_block_that_is_larger_than_all_is_not_kept(cache):
    cache.add("a", 0, bytes(1_000_001))
    assert read(cache, "a") is None


def test_nothing_is_added_to_a_volume_that_is_nearly_full(tmp_path):
    cache = ReadCache(tmp_path / "cache", 1_000_000, keep_free_bytes=1 << 62)
    cache.add("a", 0, b"something")
    assert read(cache, "a") is None


def test_what_is_dropped_is_gone_with_all_its_blocks(cache, tmp_path):
    for index in range(3):
        cache.add("a", index, bytes(1000))
    cache.add("b", 0, bytes(1000))
    cache.drop("a")
    assert size_of(tmp_path / "cache") == 1000
    cache.add("c", 0, bytes(999_000))  # and counted as gone
    assert read(cache, "c") is not None


def test_a_writer_that_died_leaves_nothing_that_is_read_or_counted_for_long(cache, tmp_path):
    cache.add("a", 0, bytes(500_000))
    (path,) = (tmp_path / "cache").glob("*/*")
    half = path.with_name(path.name + ".0123.part")
    half.write_bytes(bytes(400_000))
    age(tmp_path / "cache")
    cache._count(400_000)  # what it had reserved
    cache.add("b", 0, bytes(500_000))
    cache.add("c", 0, bytes(400_000))
    assert read(cache, "b") is not None
    assert size_of(tmp_path / "cache") <= 1_000_000 + 400_000


def test_many_processes_share_it_and_nobody_reads_what_is_not_whole(tmp_path):
    folder, limit = tmp_path / "cache", 3_000_000
    program = textwrap.dedent("""
        import os, random, sys
        from pathlib import Path
        from storage.objects.cache import ReadCache
        cache = ReadCache(Path(sys.argv[1]), int(sys.argv[2]))
        random.seed(sys.argv[3])
        hits = 0
        for _ in range(600):
            number = random.randrange(60)
            expected = bytes([number]) * (100_000 - number)
            block = cache.open(f"{number}", 0)
            if block is None:
                cache.add(f"{number}", 0, expected)
                continue
            hits += 1
            assert bytes(block.read(0, 200_000)) == expected, number
            block.close()
        print(hits)
    """)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(folder), str(limit), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for number in range(3)
    ]
    stopping = threading.Event()

    def grow_old() -> None:
        while not stopping.wait(0.05):
            for path in folder.glob("*/*"):
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path, (path.stat().st_atime - 120, path.stat().st_mtime))

    ageing = threading.Thread(target=grow_old)
    ageing.start()
    try:
        for worker in workers:
            out, said = worker.communicate(timeout=120)
            assert worker.returncode == 0, said
            assert int(out) > 0
    finally:
        stopping.set()
        ageing.join()
    # A block that is being written while another process counts may be missed once.
    assert size_of(folder) <= limit + 3 * 100_000
