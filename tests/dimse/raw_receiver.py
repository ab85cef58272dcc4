"""A Storage SCP on a raw socket: it throws away what it gets, and answers as it is told."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator

from archive.config import Peer
from dimse import messages
from tests.dimse.wire import (
    AC,
    COMMAND,
    DATA,
    LAST,
    RELEASE_RP,
    RELEASE_RQ,
    data,
    item,
    pdu,
    value,
)

IMPLICIT = "1.2.840.10008.1.2"


def store_response(message_id: int, status: int = 0) -> bytes:
    """The command set of a C-STORE-RSP."""
    return messages.encode_command(
        [
            (messages.COMMAND_FIELD, messages.C_STORE_RSP),
            (messages.MESSAGE_ID_RESPONDED_TO, message_id),
            (messages.DATA_SET_TYPE, messages.NO_DATA_SET),
            (messages.STATUS, status),
        ]
    )


def success(message_id: int) -> list[bytes]:
    return [store_response(message_id)]


class RawReceiver:
    """Accepts one transfer syntax for every class; any number of connections at once.

    Parameters
    ----------
    syntax
        What it accepts.
    answer
        Returns the commands it says to a C-STORE, by message ID; None hangs up.
    reads
        Whether it reads what follows the negotiation.
    """

    def __init__(
        self,
        syntax: str = IMPLICIT,
        answer: Callable[[int], list[bytes] | None] = success,
        *,
        maximum: int = 131072,
        reads: bool = True,
    ) -> None:
        self.received, self.longest, self.associations = 0, 0, 0
        self._syntax, self._answer, self._maximum, self._reads = syntax, answer, maximum, reads
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def peer(self) -> Peer:
        return Peer(ae_title="SINK", host="127.0.0.1", port=self._listening.getsockname()[1])

    def __enter__(self) -> "RawReceiver":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        with connection:
            try:
                self._negotiate(connection)
                if not self._reads:
                    self.ended.wait(30)
                    return
                self._receive(connection)
            except OSError:
                return

    def _negotiate(self, connection: socket.socket) -> None:
        _, body = self._pdu(connection)
        self.associations += 1
        results = b""
        for number, syntaxes in _proposed(body):
            taken = self._syntax in syntaxes
            accepted = item(0x40, (self._syntax if taken else syntaxes[0]).encode())
            results += item(0x21, bytes([number, 0, 0 if taken else 4, 0]) + accepted)
        user = item(0x51, struct.pack(">I", self._maximum)) + item(0x52, b"1.2.3.4")
        application = item(0x10, b"1.2.840.10008.3.1.1.1")
        connection.sendall(pdu(AC, body[:68] + application + results + item(0x50, user)))

    def _receive(self, connection: socket.socket) -> None:
        command, message_id = b"", 0
        while True:
            kind, body = self._pdu(connection)
            if kind == RELEASE_RQ:
                connection.sendall(pdu(RELEASE_RP))
                return
            if kind != DATA:
                return
            self.longest = max(self.longest, len(body))
            while body:
                size, context_id, control = struct.unpack_from(">IBB", body)
                if control & COMMAND:
                    command += body[6 : 4 + size]
                else:
                    self.received += size - 2
                if control == COMMAND | LAST:
                    parsed = messages.parse_command(command)
                    message_id, command = messages.number(parsed, messages.MESSAGE_ID), b""
                elif control == LAST:
                    said = self._answer(message_id)
                    if said is None:
                        return
                    for one in said:
                        connection.sendall(data(value(context_id, COMMAND | LAST, one)))
                body = body[4 + size :]

    def _pdu(self, connection: socket.socket) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", _exactly(connection, 6))
        return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    raw = bytearray()
    while len(raw) < count:
        part = connection.recv(count - len(raw))
        if not part:
            raise ConnectionResetError
        raw += part
    return bytes(raw)


def _proposed(body: bytes) -> Iterator[tuple[int, list[str]]]:
    """Context ID and transfer syntaxes of each context of an A-ASSOCIATE-RQ."""
    for kind, content in _items(body[68:]):
        if kind == 0x20:
            inner = _items(content[4:])
            yield content[0], [text.decode() for kind, text in inner if kind == 0x40]


def _items(raw: bytes) -> Iterator[tuple[int, bytes]]:
    while raw:
        kind, length = struct.unpack_from(">BxH", raw)
        yield kind, raw[4 : 4 + length]
        raw = raw[4 + length :]
