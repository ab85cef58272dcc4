"""What child processes of the archive have in common."""

import contextlib
import ctypes
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that started it is gone (Linux).

    Should a parent be killed, nobody drains: what was acknowledged is safe, and whoever
    starts next must find ports and sockets free.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
