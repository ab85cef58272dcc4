"""How many associations a node serves, over all its workers (PS3.8 §9.3.4: local limit).

Workers share a small file: a slot for each association, with the worker's process ID and the
peer's AE title. What a worker that was killed left there is cleared when slots run out.
"""

import contextlib
import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SLOT: Final = struct.Struct("<I16s")
_FREE: Final = 0


class Presence:
    """The associations of a node.

    Parameters
    ----------
    file
        Shared by the workers; made when it is not there.
    limit
        Associations at once.
    """

    def __init__(self, file: Path, limit: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = limit * _SLOT.size
        if os.fstat(self._file).st_size != size:
            os.ftruncate(self._file, size)
        self._slots = mmap.mmap(self._file, size)
        self._limit = limit
        self._threads = threading.Lock()

    def enter(self, ae_title: str, *, limit: int = 0) -> int | None:
        """Take a slot for an association; None when all are taken.

        Parameters
        ----------
        ae_title
            Who calls.
        limit
            Associations this peer may have at once; 0: as many as there are slots.
        """
        title = ae_title.encode("ascii", "replace")[:16].ljust(16)
        with self._locked():
            free = self._free_slot(title, limit)
            if free is None:
                self._clear_dead()
                free = self._free_slot(title, limit)
            if free is not None:
                _SLOT.pack_into(self._slots, free * _SLOT.size, os.getpid(), title)
        return free

    def leave(self, slot: int) -> None:
        """Give a slot back; nothing when the server has closed already."""
        if self._slots.closed:
            return
        with self._locked():
            _SLOT.pack_into(self._slots, slot * _SLOT.size, _FREE, b"")

    def count(self) -> int:
        """Return how many associations there are."""
        return sum(process != _FREE for process, _ in _SLOT.iter_unpack(self._slots))

    def close(self) -> None:
        """Let go of the file."""
        self._slots.close()
        os.close(self._file)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # A lock of the file is the process's, not the thread's.
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _free_slot(self, title: bytes, limit: int) -> int | None:
        free, own = None, 0
        for number, (process, holder) in enumerate(_SLOT.iter_unpack(self._slots)):
            if process == _FREE:
                free = number if free is None else free
                if not limit:
                    break
            elif holder == title:
                own += 1
        return None if limit and own >= limit else free

    def _clear_dead(self) -> None:
        for number, (process, _) in enumerate(_SLOT.iter_unpack(self._slots)):
            if process != _FREE and not _lives(process):
                _SLOT.pack_into(self._slots, number * _SLOT.size, _FREE, b"")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
