"""What is made of files, made again when they change, without a restart."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from archive.config import ConfigError
from archive.log import get_logger

logger = get_logger(__name__)
Made = TypeVar("Made")

_Signature = tuple[tuple[int, int, int] | None, ...]


class Reloaded(Generic[Made]):
    """Something made of files.

    Parameters
    ----------
    what
        How it is called in the log.
    files
        What it is made of.
    make
        Makes it; raises `ConfigError` when the files are no good. The first failure is the
        caller's; later ones are logged, and what was made before stays in use.
    """

    def __init__(self, what: str, files: Sequence[Path], make: Callable[[], Made]) -> None:
        self._what = what
        self._files = tuple(files)
        self._make = make
        self._lock = threading.Lock()
        # Looked at before they are read: a change in between is seen the next time.
        self._seen = self._look()
        self._made = make()

    def get(self) -> Made:
        """Return it, as the files say now."""
        seen = self._look()
        if seen != self._seen:
            with self._lock:
                if seen != self._seen:
                    self._seen = seen
                    self._again()
        return self._made

    def _again(self) -> None:
        try:
            self._made = self._make()
        except ConfigError as error:
            logger.error(  # noqa: TRY400 - what is wrong with the file, not where in the code
                "files.not-reloaded", extra={"what": self._what, "reason": str(error)}
            )
        else:
            logger.info("files.reloaded", extra={"what": self._what})

    def _look(self) -> _Signature:
        return tuple(_signature(file) for file in self._files)


def _signature(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
