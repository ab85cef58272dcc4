"""`python -m benchmarks.association_churn`: does anything stay behind of an association?

Associations are opened and ended in every way a peer ends them, as fast as they come: by
default ten thousand, about what a busy archive sees in a day. Every now and then one line says
what the server's processes hold: memory, file handles, threads.
"""

import argparse
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.harness import (
    CT,
    EXPLICIT,
    Server,
    ct_template,
    data_set,
    environment,
    in_processes,
    instance,
    served,
)
from dimse import messages

VERIFICATION: Final = "1.2.840.10008.1.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
_RELEASE: Final = bytes.fromhex("05000000000400000000")
_ABORT: Final = bytes.fromhex("07000000000400000000")
_LAST_COMMAND: Final = messages.COMMAND_FRAGMENT | messages.LAST_FRAGMENT


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def associate_request(calling: str = "CHURN", called: str = "FILEROOM") -> bytes:
    """An A-ASSOCIATE-RQ for Verification (context 1) and CT (context 3)."""
    contexts = b"".join(
        _item(
            0x20,
            bytes([number, 0, 0, 0])
            + _item(0x30, abstract.encode())
            + _item(0x40, syntax.encode()),
        )
        for number, abstract, syntax in ((1, VERIFICATION, IMPLICIT), (3, CT, EXPLICIT))
    )
    user = _item(0x51, struct.pack(">I", 131072)) + _item(0x52, b"2.25.1")
    body = (
        struct.pack(">HH16s16s32x", 1, 0, called.encode().ljust(16), calling.encode().ljust(16))
        + _item(0x10, b"1.2.840.10008.3.1.1.1")
        + contexts
        + _item(0x50, user)
    )
    return struct.pack(">BxI", 1, len(body)) + body


def _echo(message_id: int) -> bytes:
    command = messages.encode_command(
        [
            (messages.AFFECTED_SOP_CLASS_UID, VERIFICATION),
            (messages.COMMAND_FIELD, 0x0030),
            (messages.MESSAGE_ID, message_id),
            (messages.DATA_SET_TYPE, messages.NO_DATA_SET),
        ]
    )
    return messages.pdu(1, _LAST_COMMAND, command)


def _pdu(connection: socket.socket) -> bytes:
    head = _exactly(connection, 6)
    return head + _exactly(connection, struct.unpack(">BxI", head)[1])


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        if not chunk:
            raise ConnectionError("the archive closed the connection")
        data += chunk
    return data


def _expect(connection: socket.socket, kind: int) -> bytes:
    answer = _pdu(connection)
    if answer[0] != kind:
        raise RuntimeError(f"PDU {answer[:10].hex()} instead of type {kind}")
    return answer


def one_association(port: int, number: int, body: bytes) -> None:
    """Open, echo, and end it: in one of six ways, by its number."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(associate_request())
        _expect(connection, 2)
        connection.sendall(_echo(1))
        _expect(connection, 4)
        match number % 20:
            case 1:
                connection.sendall(_ABORT)
            case 2:
                return  # closes without a word
            case 3:
                connection.sendall(messages.pdu(1, _LAST_COMMAND, b"rubbish"))
                _expect(connection, 7)
            case 4:
                connection.sendall(_store(number, body)[:-70_000])  # breaks off half way
                return
            case 5:
                connection.sendall(_store(number % 200, body))
                _expect(connection, 4)
                _released(connection)
            case _:
                _released(connection)


def _released(connection: socket.socket) -> None:
    connection.sendall(_RELEASE)
    _expect(connection, 6)


def _store(number: int, template: bytes) -> bytes:
    uid, body = instance(template, 1, number)
    command = messages.store_request(sop_class_uid=CT, sop_instance_uid=uid, message_id=2)
    pdus = messages.iter_pdus(3, [data_set(body)], maximum_pdu=131072)
    return messages.pdu(3, _LAST_COMMAND, command) + b"".join(pdus)


def _some(port: int, first: int, count: int, body: bytes) -> None:
    for number in range(first, first + count):
        one_association(port, number, body)


@dataclass(frozen=True)
class Held:
    """What processes hold at one moment."""

    rss_mb: float
    pss_mb: float
    handles: int
    threads: int

    @classmethod
    def by(cls, pids: list[int]) -> "Held":
        rss = pss = 0.0
        handles = threads = 0
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    rss += int(line.split()[1]) / 1024 if line.startswith("Rss:") else 0
                    pss += int(line.split()[1]) / 1024 if line.startswith("Pss:") else 0
                handles += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
                threads += sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
        return cls(rss, pss, handles, threads)


def _row(done: int, held: Held, wall_s: float, cpu_ms: float) -> str:
    return (
        f"| {done} | {held.rss_mb:.1f} | {held.pss_mb:.1f} | {held.handles} | {held.threads} "
        f"| {wall_s:.0f} | {cpu_ms:.2f} |"
    )


def churn(server: Server, *, total: int, every: int, senders: int) -> None:
    """Run them; print a row after each ``every``."""
    body = ct_template(256)
    port = server.dicom_port
    _some(port, 0, 40, body)  # every path is warm
    pids = server.processes()
    print(
        "| associations | RSS MB | PSS MB | file handles | threads | s | server CPU ms each |"
    )
    print("|---|---|---|---|---|---|---|")
    started = time.monotonic()
    print(_row(0, Held.by(pids), 0, 0), flush=True)
    for done in range(0, total, every):
        before = server.cpu_s()
        each = every // senders
        jobs: list[Callable[[], None]] = [
            partial(_some, port, done + sender * each, each, body) for sender in range(senders)
        ]
        in_processes(jobs)
        cpu = 1000 * (server.cpu_s() - before) / (each * senders)
        time.sleep(0.5)
        wall = time.monotonic() - started
        print(_row(done + each * senders, Held.by(pids), wall, cpu), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.association_churn")
    parser.add_argument("--associations", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=1000, help="associations between two rows")
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--engine", choices=["direct", "stock"], default="direct")
    arguments = parser.parse_args()
    print(f"# {environment()}, engine {arguments.engine}")
    with served(FILEROOM_DIMSE__ENGINE=arguments.engine) as server:
        churn(
            server,
            total=arguments.associations,
            every=arguments.every,
            senders=arguments.senders,
        )


if __name__ == "__main__":
    main()
