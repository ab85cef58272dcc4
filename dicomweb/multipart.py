"""multipart/related as it streams in (RFC 2046 §5.1, RFC 2387), and as it goes out."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from archive.errors import InvalidRequestError

_MOST_HEADER_BYTES: Final = 16 * 1024
_LONGEST_BOUNDARY: Final = 200


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part's headers, names in lower case."""

    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Some of a part's content."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """A part is complete."""


Event = PartBegin | PartData | PartEnd


class _State(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    CONTENT = auto()
    EPILOGUE = auto()


class MultipartReader:
    """Divides a body into parts as it arrives, in whatever pieces.

    Line ends may be CRLF or LF; a preamble and an epilogue are passed over.

    Parameters
    ----------
    boundary
        From the Content-Type.
    """

    def __init__(self, boundary: str) -> None:
        if not 1 <= len(boundary) <= _LONGEST_BOUNDARY:
            raise InvalidRequestError(
                "the Content-Type has no usable boundary: expected "
                'multipart/related; type="application/dicom"; boundary=...'
            )
        self._delimiter = b"--" + boundary.encode("latin-1", "replace")
        # A line break, the delimiter, two dashes or a line break: what must be seen at once.
        self._reach = len(self._delimiter) + 6
        self._buffer = bytearray(b"\n")  # the first delimiter may open the body
        self._state = _State.PREAMBLE
        self._first = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take some of the body; yield what it completes.

        Raises
        ------
        InvalidRequestError
            If a part's headers are too long.
        """
        self._buffer += data
        while (event := self._step()) is not None:
            if not isinstance(event, _State):
                yield event

    def close(self) -> None:
        """Say that the body has ended.

        Raises
        ------
        InvalidRequestError
            If it ended inside a part, or no part was there.
        """
        if self._state is _State.CONTENT and self._ends_with_delimiter():
            self._state = _State.EPILOGUE
        if self._state is not _State.EPILOGUE:
            where = (
                "before the first part" if self._state is _State.PREAMBLE else "inside a part"
            )
            raise InvalidRequestError(f"the multipart body ends {where}: it is truncated")

    def _ends_with_delimiter(self) -> bool:
        return bytes(self._buffer).rstrip(b"\r\n").endswith(self._delimiter + b"--")

    def _step(self) -> Event | _State | None:
        match self._state:
            case _State.PREAMBLE:
                return self._preamble()
            case _State.HEADERS:
                return self._headers()
            case _State.CONTENT:
                return self._content()
            case _State.EPILOGUE:
                self._buffer.clear()
                return None

    def _find_delimiter(self, start: int = 0) -> tuple[int, int, bool] | None:
        """Return where content ends, where the delimiter's line ends, and if it is the last.

        None when there is none yet, or the buffer ends before its line does.
        """
        position = start
        while (position := self._buffer.find(b"\n" + self._delimiter, position)) >= 0:
            after = position + 1 + len(self._delimiter)
            if self._buffer[after : after + 2] == b"--":
                return self._content_end(position), after + 2, True
            line_end = self._buffer.find(b"\n", after)
            if line_end < 0:
                return None
            if not bytes(self._buffer[after:line_end]).strip():
                return self._content_end(position), line_end + 1, False
            position += 1  # the delimiter's characters, but no delimiter
        return None

    def _content_end(self, newline: int) -> int:
        return newline - 1 if newline and self._buffer[newline - 1] == 0x0D else newline

    def _preamble(self) -> _State | None:
        found = self._find_delimiter()
        if found is None:
            del self._buffer[: max(len(self._buffer) - self._reach - 256, 0)]
            return None
        _, after, last = found
        del self._buffer[:after]
        self._state = _State.EPILOGUE if last else _State.HEADERS
        return self._state

    def _headers(self) -> PartBegin | None:
        if self._buffer.startswith((b"\r\n", b"\n")):
            del self._buffer[: 2 if self._buffer[0] == 0x0D else 1]
            return self._begin({})
        ends = [
            (at, at + len(mark))
            for mark in (b"\r\n\r\n", b"\n\n")
            if (at := self._buffer.find(mark)) >= 0
        ]
        if not ends:
            if len(self._buffer) > _MOST_HEADER_BYTES:
                raise InvalidRequestError("the headers of a part are too long")
            return None
        end, after = min(ends)
        lines = bytes(self._buffer[:end]).decode("latin-1").splitlines()
        del self._buffer[:after]
        pairs = (line.partition(":") for line in lines if ":" in line)
        return self._begin({name.strip().lower(): value.strip() for name, _, value in pairs})

    def _begin(self, headers: dict[str, str]) -> PartBegin:
        # An empty part's delimiter follows its headers at once: give it a line break to end on.
        self._buffer[:0] = b"\n"
        self._first = True
        self._state = _State.CONTENT
        return PartBegin(headers)

    def _content(self) -> PartData | PartEnd | None:
        skip = 1 if self._first else 0
        found = self._find_delimiter()
        if found is not None:
            end, after, last = found
            if end > skip:
                data = bytes(self._buffer[skip:end])
                del self._buffer[:end]
                self._first = False
                return PartData(data)
            del self._buffer[:after]
            self._state = _State.EPILOGUE if last else _State.HEADERS
            return PartEnd()
        safe = self._safe()
        if safe <= skip:
            return None
        data = bytes(self._buffer[skip:safe])
        del self._buffer[:safe]
        self._first = False
        return PartData(data)

    def _safe(self) -> int:
        """Return how much of the buffer cannot belong to a delimiter."""
        position = self._buffer.find(b"\n" + self._delimiter)
        if position >= 0:
            return (
                self._content_end(position)
                if len(self._buffer) - position < 512
                else position + 1
            )
        return max(len(self._buffer) - self._reach, 0)


def new_boundary() -> str:
    """Return a boundary that no content holds: 128 random bits."""
    return secrets.token_hex(16)


def part_header(
    boundary: str, content_type: str, location: str, *, length: int | None
) -> bytes:
    """Return what stands before a part's content; viewers read these names to the letter."""
    lines = [f"--{boundary}", f"Content-Type: {content_type}"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines.append(f"Content-Location: {location}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def closing(boundary: str) -> bytes:
    """Return what stands behind the last part."""
    return f"--{boundary}--\r\n".encode("ascii")
