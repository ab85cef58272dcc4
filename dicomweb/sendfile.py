"""Long bodies from files, which the kernel sends without this program touching a byte.

ASGI has no such message that uvicorn knows of, so the protocol puts a `Wire` into the scope of
each request. A thread sends as long as the peer keeps up; while it does not, the event loop
waits for it, so that slow downloads hold no thread.
"""

import asyncio
import os
import select
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio.to_thread
from starlette.types import Scope

from archive.dicom.part10 import Buffer

_WIRE_KEY: Final = "fileroom.wire"
# How much the last message of a body says was sent beside the messages.
SENT_KEY: Final = "fileroom.sent"
# How long a thread waits for a peer that has stopped reading.
_PATIENCE_MS: Final = 50
_MOST_AT_ONCE: Final = 1 << 30
# How long the loop lets what is written before a body wait, before it looks again.
_LONGEST_PAUSE_S: Final = 0.05


class FileSpan(NamedTuple):
    """Bytes of a file.

    Parameters
    ----------
    offset, length
        Where they begin, and how many they are.
    """

    path: str
    offset: int
    length: int

    @property
    def name(self) -> str:
        """The file's name, without the folders above it."""
        return self.path.rpartition("/")[2]

    def cut(self, start: int, length: int) -> "FileSpan":
        """Return ``length`` bytes of it, from byte ``start`` of it."""
        return FileSpan(self.path, self.offset + start, length)


Piece = Buffer | FileSpan


def file_span(path: str | None, offset: int, length: int) -> FileSpan | None:
    """Return a stretch of a file; None of what is no file."""
    return None if path is None else FileSpan(path, offset, length)


def length_of(pieces: Sequence[Piece]) -> int:
    """Return how many bytes ``pieces`` are."""
    # A list: what is short is counted in half the time of a generator.
    lengths = [piece.length if isinstance(piece, FileSpan) else len(piece) for piece in pieces]
    return sum(lengths)


def in_memory(pieces: Sequence[Piece]) -> list[Buffer] | None:
    """Return ``pieces`` where none of them is of a file; else None."""
    held = [piece for piece in pieces if not isinstance(piece, FileSpan)]
    return held if len(held) == len(pieces) else None


def is_there(pieces: Sequence[Piece]) -> bool:
    """Tell whether the first file of ``pieces`` holds what is to be sent of it.

    What is missing at once has to decide the status, so it is asked before the headers go out.
    """
    span = next((piece for piece in pieces if isinstance(piece, FileSpan)), None)
    if span is None:
        return True
    try:
        return Path(span.path).stat().st_size >= span.offset + span.length
    except OSError:
        return False


class Wire:
    """The connection that a request came on.

    Parameters
    ----------
    cycle
        uvicorn's request and response.
    """

    def __init__(self, cycle: Any) -> None:  # noqa: ANN401 - uvicorn's
        self._cycle = cycle

    @staticmethod
    def of(scope: Scope) -> "Wire | None":
        """Return the wire of a request; None where bytes have to be handed over instead."""
        wire: Wire | None = scope.get(_WIRE_KEY)
        return wire

    def offer(self, scope: Scope) -> None:
        """Let the handler of a request use it, unless what is sent has to be enciphered."""
        if self._cycle.transport.get_extra_info("sslcontext") is None:
            scope[_WIRE_KEY] = self

    async def send(self, pieces: Sequence[Piece]) -> int:
        """Send ``pieces`` behind the headers; return how many bytes they were.

        Raises
        ------
        OSError
            If the connection is gone, or a file.
        """
        transport = self._cycle.transport
        await self._written()
        if self._cycle.disconnected:
            return 0
        connected: socket.socket = transport.get_extra_info("socket")
        # A handle of our own: the loop may close its own one meanwhile.
        with socket.socket(fileno=os.dup(connected.fileno())) as own:
            sending = _Sending(own, pieces)
            try:
                while not await anyio.to_thread.run_sync(sending.go_on):
                    await _writable(own)
            except ConnectionError:
                await self._hung_up()
        total = length_of(pieces)
        self._cycle.expected_content_length -= total
        return total

    async def _written(self) -> None:
        """Wait until what is before the body is out: at once, unless the peer reads nothing."""
        pause_s = 0.0
        while not self._cycle.disconnected and self._cycle.transport.get_write_buffer_size():
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2 or 0.001, _LONGEST_PAUSE_S)

    async def _hung_up(self) -> None:
        """Let uvicorn know first that the peer is gone: that is no failure of ours."""
        self._cycle.transport.abort()
        while not self._cycle.disconnected:  # noqa: ASYNC110 - the next turn of the loop
            await asyncio.sleep(0)


class _Sending:
    """What is still to be sent."""

    def __init__(self, connection: socket.socket, pieces: Sequence[Piece]) -> None:
        self._connection = connection
        self._descriptor = connection.fileno()
        self._pieces = list(reversed(pieces))
        self._done = 0
        self._room = select.poll()
        self._room.register(connection, select.POLLOUT)

    def go_on(self) -> bool:
        """Send until all is sent, or the peer has stopped reading; tell which."""
        while self._pieces:
            piece = self._pieces[-1]
            finished = self._file(piece) if isinstance(piece, FileSpan) else self._bytes(piece)
            if not finished:
                return False
            self._pieces.pop()
            self._done = 0
        return True

    def _bytes(self, piece: Buffer) -> bool:
        # What stands between two files goes out with the second one.
        more = socket.MSG_MORE if len(self._pieces) > 1 else 0
        while self._done < len(piece):
            try:
                self._done += self._connection.send(memoryview(piece)[self._done :], more)
            except BlockingIOError:
                if not self._room.poll(_PATIENCE_MS):
                    return False
        return True

    def _file(self, span: FileSpan) -> bool:
        file = os.open(span.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while self._done < span.length:
                at, left = span.offset + self._done, span.length - self._done
                try:
                    count = os.sendfile(self._descriptor, file, at, min(left, _MOST_AT_ONCE))
                except BlockingIOError:
                    if not self._room.poll(_PATIENCE_MS):
                        return False
                    continue
                if not count:
                    raise OSError(f"{span.name} ends {left} bytes early")
                self._done += count
        finally:
            os.close(file)
        return True


async def _writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    room = asyncio.Event()
    loop.add_writer(connection, room.set)
    try:
        await room.wait()
    finally:
        loop.remove_writer(connection)
