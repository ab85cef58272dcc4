"""Keys that were put and are not seen indexed yet, in files that outlive their writers.

Each process keeps one file, locked for as long as it lives, so that another one can tell an
abandoned journal. It is not synced: after a crash of the process it is whole, and after a power
cut `fileroom verify` finds what it no longer names.
"""

import contextlib
import fcntl
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# A journal is cut back to what is outstanding when it is larger than this.
_JOURNAL_BYTES: Final = 256 * 1024


class Journal:
    """The journal of this process.

    Parameters
    ----------
    folder
        Where journals lie; made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(
            folder / self.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        )
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._outstanding: set[str] = set()
        self._lock = threading.Lock()
        self._written = 0
        self._cut_at = _JOURNAL_BYTES

    def add(self, key: str) -> None:
        """Note that ``key`` is about to be put."""
        line = f"{key}\n".encode()
        with self._lock:
            self._outstanding.add(key)
            self._written += os.write(self._descriptor, line)

    def remove(self, keys: list[str]) -> None:
        """Note that ``keys`` are indexed, or removed."""
        with self._lock:
            self._outstanding.difference_update(keys)
            if self._written > self._cut_at:
                self._cut_back()

    def _cut_back(self) -> None:
        # Whoever is killed between the two leaves strays that only `fileroom verify` finds.
        left = "".join(f"{key}\n" for key in self._outstanding).encode()
        os.ftruncate(self._descriptor, 0)
        self._written = os.write(self._descriptor, left) if left else 0
        # What could not be put may stay outstanding for long.
        self._cut_at = max(_JOURNAL_BYTES, 4 * self._written)


class OwnJournal:
    """The journal of whatever process asks, made when it first does.

    A worker is forked from a process that writes nothing: what that one would hold, every
    worker would.

    Parameters
    ----------
    folder
        Where journals lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._made: Journal | None = None

    def __call__(self) -> Journal:
        """Return it."""
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = Journal(self._folder)
        return self._made


def abandoned(folder: Path, incoming: Path) -> Iterator[list[str]]:
    """Yield the keys of each journal whose writer died, and remove what it was receiving.

    When the caller asks for the next list, the last one counts as dealt with.

    Parameters
    ----------
    folder
        Where journals lie.
    incoming
        Where objects are received, in files that begin with their journal's name.
    """
    for journal in sorted(folder.glob("*")):
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(journal.open("rb"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (FileNotFoundError, BlockingIOError):
                continue  # its writer lives, or another sweep was faster
            for part in incoming.glob(f"{journal.name}-*"):
                part.unlink(missing_ok=True)
            keys = file.read().decode(errors="replace").split("\n")
            yield [key for key in keys if key]
            journal.unlink(missing_ok=True)
