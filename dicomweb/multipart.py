"""multipart/related as it streams in (RFC 2046 §5.1, RFC 2387)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from archive.errors import InvalidRequestError

_MOST_HEADER_BYTES: Final = 16 * 1024
# RFC 2046 allows 70; senders that write more are understood.
_LONGEST_BOUNDARY: Final = 256
_MOST_PADDING: Final = 1024
_HEADERS_END: Final = re.compile(rb"\r?\n\r?\n")
_FOLD: Final = re.compile(r"\n[ \t]+")


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


class _Found(Enum):
    NOTHING = auto()
    UNDECIDED = auto()
    PART = auto()
    LAST = auto()


@dataclass(frozen=True, slots=True)
class _Delimiter:
    """A line break at ``at``, then perhaps a delimiter, whose line ends at ``after``."""

    kind: _Found
    at: int
    after: int = 0


class MultipartReader:
    """Divides a body into parts as it arrives, in whatever pieces.

    Lines end in CRLF, or in LF alone where the first delimiter's does: then binary content
    that holds the other kind is no delimiter by chance. A preamble and an epilogue are passed
    over, and blanks behind a delimiter (RFC 2046 §5.1.1). Characters that begin like a
    delimiter but are none are content.

    Parameters
    ----------
    boundary
        From the Content-Type.
    """

    def __init__(self, boundary: str) -> None:
        boundary = boundary.rstrip()
        if not 1 <= len(boundary) <= _LONGEST_BOUNDARY:
            raise InvalidRequestError(
                "the Content-Type has no usable boundary: expected "
                'multipart/related; type="application/dicom"; boundary=...'
            )
        self._line = b"--" + boundary.encode("latin-1", "replace")
        self._break = b"\n"
        self._buffer = bytearray(b"\n")  # the first delimiter may open the body
        self._state = _State.PREAMBLE
        self._skip = 0

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

    def close(self) -> list[Event]:
        """Say that the body has ended; return what that completes.

        Raises
        ------
        InvalidRequestError
            If it ended inside a part, or before the first.
        """
        events: list[Event] = []
        if self._state in (_State.PREAMBLE, _State.CONTENT):
            # The last delimiter was recognised but for what follows it: nothing does.
            events = [e for e in self.feed(b"\r\n") if not isinstance(e, PartData)]
        if self._state is not _State.EPILOGUE:
            where = (
                "before the first part" if self._state is _State.PREAMBLE else "inside a part"
            )
            raise InvalidRequestError(
                f"the multipart body ends {where}: it is truncated, or its boundary is not "
                "the one in the Content-Type"
            )
        return events

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

    def _find_delimiter(self) -> _Delimiter:
        needle = self._break + self._line
        at = self._buffer.find(needle)
        while at >= 0:
            kind, after = self._judge(at + len(needle))
            if kind is not _Found.NOTHING:
                return _Delimiter(kind, at, after)
            at = self._buffer.find(needle, at + 1)
        # The beginning of a needle may be the end of what has come.
        return _Delimiter(_Found.NOTHING, max(len(self._buffer) - len(needle) + 1, 0))

    def _judge(self, position: int) -> tuple[_Found, int]:
        """Tell what a boundary whose characters end at ``position`` is, and where it ends."""
        rest = bytes(self._buffer[position : position + _MOST_PADDING])
        if rest.startswith(b"--"):
            if len(rest) == 2:
                return _Found.UNDECIDED, 0
            is_last = rest[2:3] in (b"\r", b"\n", b" ", b"\t")
            return (_Found.LAST, position + 2) if is_last else (_Found.NOTHING, 0)
        padding = len(rest) - len(rest.lstrip(b" \t"))
        end = rest[padding : padding + 2]
        if end[:1] == b"\n":
            return _Found.PART, position + padding + 1
        if end == b"\r\n":
            return _Found.PART, position + padding + 2
        if len(rest) < _MOST_PADDING and (end in (b"", b"\r") or rest == b"-"):
            return _Found.UNDECIDED, 0
        return _Found.NOTHING, 0

    def _preamble(self) -> _State | None:
        found = self._find_delimiter()
        if found.kind not in (_Found.PART, _Found.LAST):
            del self._buffer[: found.at]
            return None
        if self._buffer[found.after - 2 : found.after] == b"\r\n":
            self._break = b"\r\n"
        del self._buffer[: found.after]
        self._state = _State.HEADERS if found.kind is _Found.PART else _State.EPILOGUE
        return self._state

    def _headers(self) -> PartBegin | None:
        if self._buffer.startswith((b"\r\n", b"\n")):
            del self._buffer[: 2 if self._buffer[0] == 0x0D else 1]
            return self._begin({})
        end = _HEADERS_END.search(self._buffer)
        if (end.start() if end else len(self._buffer)) > _MOST_HEADER_BYTES:
            raise InvalidRequestError(
                f"the headers of a part are too long: more than {_MOST_HEADER_BYTES} bytes"
            )
        if end is None:
            return None
        headers = _parse_headers(bytes(self._buffer[: end.start()]))
        del self._buffer[: end.end()]
        return self._begin(headers)

    def _begin(self, headers: dict[str, str]) -> PartBegin:
        # An empty part's delimiter follows its headers at once: give it a line break to end on.
        self._buffer[:0] = self._break
        self._skip = len(self._break)
        self._state = _State.CONTENT
        return PartBegin(headers)

    def _content(self) -> PartData | PartEnd | None:
        found = self._find_delimiter()
        if found.at > self._skip:
            data = bytes(self._buffer[self._skip : found.at])
            del self._buffer[: found.at]
            self._skip = 0
            return PartData(data)
        if found.kind not in (_Found.PART, _Found.LAST):
            return None
        del self._buffer[: found.after]
        self._state = _State.HEADERS if found.kind is _Found.PART else _State.EPILOGUE
        return PartEnd()


def _parse_headers(block: bytes) -> dict[str, str]:
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError:
        text = block.decode("latin-1")
    headers: dict[str, str] = {}
    for line in _FOLD.sub(" ", text.replace("\r\n", "\n")).split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    return headers
