"""One render worker: takes jobs from a Unix socket, one at a time, and may die of any of them.

A decoder that crashes takes this process with it; one that hangs is ended by the alarm, whose
default action is death. Whoever started the worker starts another.
"""

import argparse
import contextlib
import ctypes
import importlib
import os
import pickle
import resource
import select
import signal
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from archive.errors import ArchiveError, InvalidInstanceError
from archive.processes import die_with_parent
from archive.render.jobs import Job

LENGTH: Final = struct.Struct("<Q")
_CHUNK_BYTES: Final = 1 << 20
# Of malloc (mallopt(3)): the greatest block it takes from its heap, and what it keeps at most.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BLOCK_BYTES: Final = 32 << 20
_KEPT_BYTES: Final = 64 << 20


def receive(connection: socket.socket) -> bytes | None:
    """Return one message; None when the other side has closed."""
    header = _read(connection, LENGTH.size)
    if header is None:
        return None
    return _read(connection, LENGTH.unpack(header)[0])


def send(connection: socket.socket, message: bytes) -> None:
    """Send one message."""
    connection.sendall(LENGTH.pack(len(message)))
    connection.sendall(message)


def _read(connection: socket.socket, length: int) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        chunk = connection.recv(min(length - len(data), _CHUNK_BYTES))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


def serve_jobs(
    listening: socket.socket,
    *,
    timeout_s: float,
    memory_limit_bytes: int,
    decoded_bytes: int = 0,
    idle_s: float | None = None,
) -> None:
    """Serve connections until the process is ended, or has had nothing to do for long.

    Parameters
    ----------
    timeout_s
        A job that takes longer ends this process.
    memory_limit_bytes
        How large the address space may grow, beside what is kept.
    decoded_bytes
        How much of decoded frames is kept.
    idle_s
        Return when no job has come for so long since the last: what decoders, once loaded,
        hold is given back by ending. None: never.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run: Callable[[Job], bytes] | None = None
    while run is None or _has_work(listening, idle_s):
        connection, _ = listening.accept()
        with connection, contextlib.suppress(ConnectionError):
            # One job a connection: who asked may take his time to close it.
            if (message := receive(connection)) is not None:
                if run is None:  # the decoders are heavy: an idle worker does without
                    run = _load(decoded_bytes)
                    _limit_memory(memory_limit_bytes + decoded_bytes)
                signal.setitimer(signal.ITIMER_REAL, timeout_s)
                answer = _answer(run, message)
                signal.setitimer(signal.ITIMER_REAL, 0)
                send(connection, answer)


def _load(decoded_bytes: int) -> Callable[[Job], bytes]:
    _keep_memory()
    decoded = importlib.import_module("archive.render.decoded").DecodedFrames(decoded_bytes)
    return partial(importlib.import_module("archive.render.run").run_job, decoded=decoded)


def _has_work(listening: socket.socket, idle_s: float | None) -> bool:
    # Other processes accept from the same socket: a timeout of its own would be theirs, too.
    return bool(select.select([listening], [], [], idle_s)[0])


def _answer(run: Callable[[Job], bytes], message: bytes) -> bytes:
    # Jobs come over a socket in a folder that only this user can enter.
    job: Job = pickle.loads(message)  # noqa: S301
    try:
        return b"\1" + run(job)
    except ArchiveError as error:
        return b"\0" + pickle.dumps((type(error), str(error)))
    except MemoryError:
        refusal = "decoding this frame takes more memory than a worker may have"
        return b"\0" + pickle.dumps((InvalidInstanceError, refusal))
    except Exception as error:  # noqa: BLE001 - the edge of a process that runs foreign decoders
        refusal = f"this frame cannot be decoded: {type(error).__name__}: {error}"
        return b"\0" + pickle.dumps((InvalidInstanceError, refusal))


def _keep_memory() -> None:
    # What one image took is there for the next: the kernel clears each page it gives anew,
    # which for a radiograph takes as long as to work out its grey levels.
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _limit_memory(limit_bytes: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - no path of ours
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + limit_bytes, hard))


def main() -> None:
    """Run one worker on an inherited listening socket."""
    parser = argparse.ArgumentParser(description="One render worker.")
    parser.add_argument("--fd", type=int, required=True, help="the listening Unix socket")
    parser.add_argument("--timeout-s", type=float, required=True)
    parser.add_argument("--memory-limit-bytes", type=int, required=True)
    parser.add_argument("--decoded-bytes", type=int, default=0)
    parser.add_argument("--idle-s", type=float, help="end after so long without a job")
    arguments = parser.parse_args()
    die_with_parent()
    with socket.socket(fileno=arguments.fd) as listening:
        serve_jobs(
            listening,
            timeout_s=arguments.timeout_s,
            memory_limit_bytes=arguments.memory_limit_bytes,
            decoded_bytes=arguments.decoded_bytes,
            idle_s=arguments.idle_s,
        )


if __name__ == "__main__":
    main()
