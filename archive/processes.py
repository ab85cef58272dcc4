"""What the processes of an archive have in common: how they hold together."""

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import time
from pathlib import Path
from typing import IO, Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_POLL_S: Final = 0.001
_MOST_FILES: Final = 16384
_PID_FILE: Final = "run/supervisor.pid"


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that started it is gone (Linux).

    Should a parent be killed, nobody drains: what was acknowledged is safe, and whoever
    starts next must find ports and sockets free.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent ends; return whether one can."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def become_child_of(pid: int) -> None:
    """Wait for the process that made this one to end, so that ``pid`` is the parent.

    Returns only if it then is: otherwise nobody would know of this process.
    """
    made_by = os.getppid()
    while made_by != pid and os.getppid() == made_by:
        time.sleep(_POLL_S)
    die_with_parent()
    if os.getppid() != pid:
        os._exit(1)


def _prctl(option: int, value: int) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(option, value) == 0)
    return False


class RunningError(Exception):
    """Another process holds the archive; the text is its id, as far as it is known."""


def hold(data_dir: Path) -> IO[str]:
    """Return the file that says that an archive runs here, locked; keep it open.

    Raises
    ------
    RunningError
        If another process holds it.
    """
    path = data_dir / _PID_FILE
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        with file:
            file.seek(0)
            raise RunningError(file.read().strip() or "unknown") from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def running_pid(data_dir: Path) -> int | None:
    """Return the supervisor's process id, if an archive runs on ``data_dir``."""
    try:
        with (data_dir / _PID_FILE).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0) or None
    except FileNotFoundError:
        pass
    return None


def open_more_files() -> int:
    """Let this process open as many files as the system allows it; return how many.

    A connection that waits costs one, and whoever serves connections must not be without.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return _MOST_FILES if soft == resource.RLIM_INFINITY else soft
