"""Objects being received, as local files; and what the errors of local files mean."""

import contextlib
import errno
import mmap
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from storage.errors import (
    NoSpaceError,
    ObjectMissingError,
    ObjectUnreadableError,
    StoreUnavailableError,
)
from storage.objects.base import Buffer
from storage.objects.direct import write_all

_ROOM_CHECK_S: Final = 0.5
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What passes: too many files open, memory short, a network volume that does not answer.
_NOT_NOW: Final = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.ENOTCONN,
    }
)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the errors of local files inside the block into storage errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissingError(f"no object {what}") from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise NoSpaceError("the volume that holds the objects is full") from error
        kind = StoreUnavailableError if error.errno in _NOT_NOW else ObjectUnreadableError
        raise kind(f"{what}: {error.strerror}") from error


class DiskSpool:
    """An object being received, as a file under ``incoming/``.

    Parameters
    ----------
    path
        The file, which is made.
    """

    def __init__(self, path: Path) -> None:
        self._path: Path | None = path
        self._descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640
        )
        self._size = 0

    @property
    def size_bytes(self) -> int:
        """How much has been written."""
        return self._size

    @property
    def path(self) -> Path:
        """Its file."""
        if self._path is None:
            raise ValueError("this spool was kept or discarded before")
        return self._path

    def write(self, chunk: Buffer) -> None:
        """Append ``chunk``; raise NoSpaceError when the volume is full."""
        with translated("being received"):
            write_all(self._descriptor, chunk)
        self._size += len(chunk)

    def view(self) -> memoryview:
        """Map what has been written for reading."""
        if self._size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(self._descriptor, self._size, access=mmap.ACCESS_READ))

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``offset``."""
        return os.pread(self._descriptor, length, offset)

    def discard(self) -> None:
        """Remove it; nothing happens when it was already kept or discarded."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._close()

    def keep_as(self, path: str) -> None:
        """Make it the file ``path``, durable but for the folder's entry."""
        kept = self.path
        os.fsync(self._descriptor)
        kept.rename(path)
        self._close()

    def _close(self) -> None:
        os.close(self._descriptor)
        self._path = None


class Room:
    """Whether a volume has enough free; asks the file system at most twice a second.

    Parameters
    ----------
    folder
        A folder of the volume.
    keep_free_bytes
        Less than this free is no room.
    """

    def __init__(self, folder: Path, keep_free_bytes: int) -> None:
        self._folder = folder
        self._keep_free_bytes = keep_free_bytes
        self._checked_at = float("-inf")
        self._room = True

    def __bool__(self) -> bool:
        """Tell whether there is room."""
        now = time.monotonic()
        if now - self._checked_at > _ROOM_CHECK_S:
            self._room = shutil.disk_usage(self._folder).free > self._keep_free_bytes
            self._checked_at = now
        return self._room

    def require(self) -> None:
        """Raise NoSpaceError where there is none."""
        if not self:
            raise NoSpaceError(
                f"less than {self._keep_free_bytes} bytes are free on the objects' volume"
            )
