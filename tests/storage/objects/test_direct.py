"""Files written past the page cache hold what was written, to the byte."""

import errno
import mmap
import os

import pytest

from storage.objects.direct import BLOCK, NewFiles

MIB = 1 << 20


def written(path, body, files: NewFiles) -> bytes:
    os.close(files.write(str(path), body))
    return path.read_bytes()


@pytest.mark.parametrize(
    "size", [0, 1, 65535, 65536, 65537, MIB - 1, MIB, MIB + 1, 3 * MIB + 4096, 5 * MIB + 17]
)
def test_every_length_is_kept(tmp_path, size):
    body = os.urandom(size)
    files = NewFiles()
    assert written(tmp_path / "first", body, files) == body
    # Memory that is used again leaves nothing behind.
    assert written(tmp_path / "second", memoryview(bytes(size)), files) == bytes(size)


@pytest.mark.parametrize("size", [65536, 65537, MIB, MIB + 1, 3 * MIB + 4095, 5 * MIB])
@pytest.mark.parametrize("start", [0, 1, BLOCK, BLOCK + 512])
def test_memory_that_is_aligned_and_memory_that_is_not_give_the_same_file(
    tmp_path, size, start
):
    memory = mmap.mmap(-1, start + size)
    memory[start:] = body = os.urandom(size)
    with memoryview(memory) as whole, whole[start:] as view:
        assert written(tmp_path / "object", view, NewFiles()) == body
        assert view == body


def test_what_is_there_already_is_not_overwritten(tmp_path):
    path = tmp_path / "object"
    path.write_bytes(b"first")
    with pytest.raises(FileExistsError):
        NewFiles().write(str(path), bytes(MIB))
    assert path.read_bytes() == b"first"


def test_a_file_system_that_refuses_direct_writes_gets_the_bytes(tmp_path, monkeypatch):
    really_open = os.open

    def refusing(path, flags, mode=0o777):
        descriptor = really_open(path, flags & ~os.O_DIRECT, mode)
        if flags & os.O_DIRECT:  # as Linux does: the file is made, and then refused
            os.close(descriptor)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return descriptor

    monkeypatch.setattr(os, "open", refusing)
    body = os.urandom(MIB)
    files = NewFiles()
    assert written(tmp_path / "first", body, files) == body
    assert written(tmp_path / "second", body, files) == body


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda _descriptor, data: min(len(data), 100))
    with pytest.raises(OSError, match="No space left"):
        NewFiles().write(str(tmp_path / "object"), bytes(MIB))
    assert list(tmp_path.iterdir()) == []
