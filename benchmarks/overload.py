"""`python -m benchmarks.overload [--seconds N] [--senders N]`: a crowd over DICOM.

So many senders at once, each calling, storing and calling again, that most must wait: first as
many as `[dimse] max_associations` lets in, then more. Told are the instances acknowledged, the
calls turned away, statuses that are no success, what the server took, how long a C-STORE of
one more sender takes meanwhile and afterwards; and whether everything acknowledged is there.
"""

import argparse
import multiprocessing
import socket
import struct
import threading
import time
from collections import Counter
from functools import partial
from typing import Any

from benchmarks.harness import (
    CT,
    EXPLICIT,
    Server,
    answered,
    ct_template,
    data_set,
    environment,
    instance,
    served,
)
from benchmarks.mixed import missing
from dimse import messages

_CREWS = 4
_EACH = 20
_BACKING_OFF_S = 0.5
_TURNED_AWAY = b"\x03"


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _request() -> bytes:
    syntaxes = _item(0x30, CT.encode()) + _item(0x40, EXPLICIT.encode())
    body = struct.pack(">HH16s16s32x", 1, 0, b"FILEROOM".ljust(16), b"CROWD".ljust(16))
    body += _item(0x10, b"1.2.840.10008.3.1.1.1")
    body += _item(0x20, bytes([1, 0, 0, 0]) + syntaxes)
    body += _item(0x50, _item(0x51, struct.pack(">I", 131072)) + _item(0x52, b"2.25.1"))
    return struct.pack(">BxI", 1, len(body)) + body


class Sender:
    """One of the crowd."""

    def __init__(self, port: int, template: bytes, number: int) -> None:
        self._port, self._template, self._number = port, template, number
        self.answers: Counter[str] = Counter()
        self.acknowledged: list[str] = []
        self.took_s: list[float] = []

    def push(self, end: float) -> None:
        """Send until ``end``; who is turned away calls again after a moment."""
        while time.perf_counter() < end:
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=60) as raw:
                    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    good = self._send(raw, end)
            except OSError as error:
                self.answers[type(error).__name__] += 1
                good = False
            if not good:
                time.sleep(_BACKING_OFF_S)

    def _send(self, raw: socket.socket, end: float) -> bool:
        raw.sendall(_request())
        kind = raw.recv(16384)[:1]
        if kind != b"\x02":
            self.answers["turned away" if kind == _TURNED_AWAY else f"PDU {kind.hex()}"] += 1
            return False
        for number in range(1, _EACH + 1):
            if time.perf_counter() > end:
                break
            uid, body = instance(self._template, self._number, sum(self.answers.values()))
            command = messages.store_request(
                sop_class_uid=CT, sop_instance_uid=uid, message_id=number
            )
            begun = time.perf_counter()
            pdus = messages.iter_pdus(1, [data_set(body)], maximum_pdu=131072)
            raw.sendall(messages.pdu(1, 3, command) + b"".join(pdus))
            status = messages.number(messages.parse_command(answered(raw)), messages.STATUS)
            self.answers[f"{status:04X}"] += 1
            if status:
                return False
            self.took_s.append(time.perf_counter() - begun)
            self.acknowledged.append(uid)
        raw.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
        raw.recv(10)
        return True


def _crew(senders: list[Sender], end: float, queue: Any) -> None:
    threads = [threading.Thread(target=one.push, args=(end,)) for one in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put([(one.answers, one.acknowledged, one.took_s) for one in senders])


def crowd(server: Server, template: bytes, *, count: int, seconds: float, first: int) -> None:
    """Let ``count`` senders push, and tell what they saw."""
    end = time.perf_counter() + seconds
    senders = [Sender(server.dicom_port, template, first + n) for n in range(count)]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    crews = [
        context.Process(target=partial(_crew, senders[n::_CREWS], end, queue))
        for n in range(_CREWS)
    ]
    for process in crews:
        process.start()
    peak = 0.0
    while time.perf_counter() < end:
        peak = max(peak, server.memory_mb())
        time.sleep(0.5)
    seen = [one for _ in crews for one in queue.get(timeout=300)]
    for process in crews:
        process.join()
    answers: Counter[str] = sum((one[0] for one in seen), Counter())
    acknowledged = [uid for one in seen for uid in one[1]]
    took = sorted(value for one in seen for value in one[2]) or [0.0]
    served_some = sum(1 for one in seen if one[1])
    print(f"\n### {count} senders for {seconds:g} s\n")
    stored = len(acknowledged)
    print(f"{stored} instances acknowledged, {stored / seconds:.0f} a second")
    print(f"answers: {dict(sorted(answers.items()))}; {served_some} senders stored something")
    quantiles = [took[int(share * (len(took) - 1))] for share in (0.5, 0.95, 0.99)]
    print(
        "C-STORE p50 / p95 / p99: " + " / ".join(f"{1000 * q:,.0f}" for q in quantiles) + " ms"
    )
    print(f"memory at most {peak:.0f} MB, afterwards {server.memory_mb():.0f} MB (shared once)")
    print(f"acknowledged but absent: {missing(server, acknowledged)}")
    after = Sender(server.dicom_port, template, first + count)
    after.push(time.perf_counter() + 0.5)
    print(f"just afterwards, one sender: {1000 * after.took_s[0]:.0f} ms for its first C-STORE")


def main() -> None:
    """Run two crowds: one that is let in, and one that is not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--senders", type=int, default=600, help="of the second crowd")
    arguments = parser.parse_args()
    template = ct_template()
    print(environment())
    with served() as server:
        print(f"idle: {server.memory_mb():.0f} MB (shared once)")
        for count, first in (
            (40, 0),
            (arguments.senders // 2, 1000),
            (arguments.senders, 2000),
        ):
            crowd(server, template, count=count, seconds=arguments.seconds, first=first)


if __name__ == "__main__":
    main()
