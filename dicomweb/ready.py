"""Answers that can be sent at once: what they are made of is in memory, or in the page cache.

What is short is copied: the kernel takes longer to send a page cache page by page. Of 130 KB
sendfile takes 40 us, to read and to send 20; from 400 KB on it is the other way round.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from typing import Final

from archive.dicom.part10 import Buffer
from dicomweb.sendfile import FileSpan, Piece

# Up to here bytes of files are copied.
COPIED_BYTES: Final = 256 * 1024
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", 0)
# The kernel takes 1024 pieces of memory in one call.
_MOST_PIECES: Final = 512


class Ready:
    """An answer in memory.

    Parameters
    ----------
    pieces
        Its bytes; those that are a view are only good until the next answer.
    """

    def __init__(self, pieces: Sequence[Buffer]) -> None:
        self._pieces = pieces if len(pieces) <= _MOST_PIECES else [b"".join(pieces)]

    def send(self, connection: socket.socket) -> list[Buffer]:
        """Send what the connection takes now; return the rest, to be kept as long as it takes.

        Raises
        ------
        OSError
            If the connection is gone, or a file ends early.
        """
        try:
            sent = connection.sendmsg(self._pieces, (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        return _behind(self._pieces, sent)

    def close(self) -> None:
        """Let go of what is open."""


class ReadyFiles(Ready):
    """An answer with stretches of files, which are open and in the page cache.

    Parameters
    ----------
    pieces
        What is to be sent.

    Raises
    ------
    OSError
        If a file is not there, or not in memory.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._all = pieces
        self._files: list[int] = []
        try:
            for piece in pieces:
                if isinstance(piece, FileSpan):
                    self._open(piece)
        except OSError:
            self.close()
            raise

    def _open(self, span: FileSpan) -> None:
        file = os.open(span.path, os.O_RDONLY | os.O_CLOEXEC)
        self._files.append(file)
        # A file is read from its beginning: where both ends are in memory, the rest is. The end
        # alone is not enough: of what was just stored that is all there is (`direct.py`).
        last = max(span.offset + span.length - 1, 0)
        for place in (min(span.offset, last), last):
            if os.preadv(file, [bytearray(1)], place, _NO_WAIT) != 1:
                raise FileNotFoundError(f"{span.name} ends early")

    def send(self, connection: socket.socket) -> list[Buffer]:
        """Send what the connection takes now; return the rest, read into memory."""
        files = iter(self._files)
        for number, piece in enumerate(self._all):
            if isinstance(piece, FileSpan):
                file = next(files)
                sent = _send_file(connection.fileno(), file, piece)
                if sent < piece.length:
                    return [_read(file, piece, sent), *self._rest(number + 1, files)]
            else:
                more = socket.MSG_MORE if number + 1 < len(self._all) else 0
                sent = _send_bytes(connection, piece, more)
                if sent < len(piece):
                    return [memoryview(piece)[sent:], *self._rest(number + 1, files)]
        return []

    def _rest(self, start: int, files: Iterator[int]) -> Iterator[Buffer]:
        for piece in self._all[start:]:
            yield _read(next(files), piece, 0) if isinstance(piece, FileSpan) else piece

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            os.close(file)


class Counter:
    """Where answers are put together; one after the other, for it has one room for all.

    To make room for a frame and to give it back costs the kernel more than to copy the frame.
    """

    def __init__(self) -> None:
        self._room = memoryview(bytearray(COPIED_BYTES))

    def ready(self, pieces: Sequence[Piece]) -> Ready:
        """Return an answer that can be sent at once, before the next one is asked for.

        Raises
        ------
        OSError
            If a file is not there, or not in memory.
        """
        lengths = [piece.length for piece in pieces if isinstance(piece, FileSpan)]
        if sum(lengths) > COPIED_BYTES:
            return ReadyFiles(pieces)
        held: list[Buffer] = []
        taken = 0
        for piece in pieces:
            if isinstance(piece, FileSpan):
                room = self._room[taken : taken + piece.length]
                _fill(room, piece)
                held.append(room)
                taken += piece.length
            else:
                held.append(piece)
        return Ready(held)


def _fill(room: memoryview, span: FileSpan) -> None:
    file = os.open(span.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.preadv(file, [room], span.offset, _NO_WAIT) != span.length:
            raise FileNotFoundError(f"{span.name} ends early, or is not all in memory")
    finally:
        os.close(file)


def _behind(pieces: Sequence[Buffer], sent: int) -> list[Buffer]:
    """Return what is behind the first ``sent`` bytes; what is only lent is copied."""
    left: list[Buffer] = []
    for piece in pieces:
        if sent < len(piece):
            rest = memoryview(piece)[sent:] if sent else piece
            left.append(bytes(rest) if isinstance(piece, memoryview) else rest)
        sent = max(sent - len(piece), 0)
    return left


def _send_bytes(connection: socket.socket, piece: Buffer, flags: int) -> int:
    try:
        return connection.send(piece, flags | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0


def _send_file(descriptor: int, file: int, span: FileSpan) -> int:
    sent = 0
    while sent < span.length:
        try:
            count = os.sendfile(descriptor, file, span.offset + sent, span.length - sent)
        except BlockingIOError:
            break
        if not count:
            raise OSError(f"{span.name} ends {span.length - sent} bytes early")
        sent += count
    return sent


def _read(file: int, span: FileSpan, start: int) -> bytes:
    data = os.pread(file, span.length - start, span.offset + start)
    if len(data) < span.length - start:
        raise OSError(f"{span.name} ends early")
    return data
