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
    """Something made of files, for the first time when it is needed.

    Parameters
    ----------
    what
        How it is called in the log.
    files
        What it is made of.
    make
        Makes it; raises `ConfigError` when the files are no good.
    """

    def __init__(self, what: str, files: Sequence[Path], make: Callable[[], Made]) -> None:
        self._what = what
        self._files = tuple(files)
        self._make = make
        self._lock = threading.Lock()
        self._seen: _Signature | None = None
        self._made: Made | None = None
        self._fault = ConfigError(f"no {what} yet")

    def get(self) -> Made:
        """Return it, as the files say now, or as they said when they were last any good.

        Raises
        ------
        ConfigError
            If they never were.
        """
        # Looked at before they are read: a change in between is seen the next time.
        seen = self._look()
        with self._lock:
            if seen != self._seen:
                self._seen = seen
                self._again()
            if self._made is None:
                raise self._fault
            return self._made

    def _again(self) -> None:
        first = self._made is None
        try:
            self._made = self._make()
        except ConfigError as error:
            self._fault = error
            logger.error(  # noqa: TRY400 - what is wrong with the file, not where in the code
                "files.not-reloaded", extra={"what": self._what, "reason": str(error)}
            )
        else:
            if not first:
                logger.info("files.reloaded", extra={"what": self._what})

    def _look(self) -> _Signature:
        return tuple(_signature(file) for file in self._files)


def _signature(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
