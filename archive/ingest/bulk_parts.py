"""Bulk data as it was sent with metadata: where each part lies, and what points to it."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urljoin

from archive.dicom.part10 import Buffer
from archive.ingest.growing import Growing
from storage.objects.base import Spool

_CHUNK_BYTES: Final = 1 << 20
_FRAME: Final = re.compile(r"/frames/(\d{1,9})$")
_OF_INSTANCE: Final = re.compile(r"/(?:bulkdata/7FE000(?:08|09|10)|pixeldata)$")


@dataclass(frozen=True, slots=True)
class BulkPart:
    """One part.

    Parameters
    ----------
    media_type
        Its Content-Type without parameters, lower case.
    transfer_syntax_uid
        The parameter of the same name; "" where there is none.
    offset, length
        Where it lies among all parts, in bytes.
    number
        Its place in the body, 1-based.
    location
        As it was sent, for messages.
    """

    media_type: str
    transfer_syntax_uid: str
    offset: int
    length: int
    number: int
    location: str


class BulkParts:
    """All bulk data of a request, one behind the other: in memory, or in one spool.

    Parameters
    ----------
    new_spool
        Makes that spool.
    base_url
        What relative locations are relative to: the URL of the request.
    """

    def __init__(self, new_spool: Callable[[], Spool], base_url: str) -> None:
        self.growing = Growing(new_spool)
        self._bases = (base_url, base_url.rstrip("/") + "/")
        self._by_location: dict[str, list[BulkPart]] = {}
        self._frames: dict[str, list[tuple[int, BulkPart]]] = {}
        self._parts: list[BulkPart] = []
        self._used: set[int] = set()
        self._body: memoryview | Spool = memoryview(b"")

    def add(self, part: BulkPart, content_id: str) -> None:
        """Note a part that has been received whole."""
        self._parts.append(part)
        locations = {*self._spellings(part.location)}
        if content_id:
            locations.add(f"cid:{unquote(content_id.strip().strip('<>'))}")
        for spelling in locations:
            self._by_location.setdefault(spelling, []).append(part)
            if match := _FRAME.search(spelling):
                known = self._frames.setdefault(spelling[: match.start()], [])
                known.append((int(match[1]), part))

    def seal(self) -> None:
        """Say that all have been received."""
        self._body = self.growing.finish()

    def find(self, uri: str) -> list[BulkPart]:
        """Return the parts that ``uri`` points to, frames in their order; [] where none does.

        A BulkDataURI and a Content-Location are the same resource whether they are absolute or
        relative, percent-encoded or not, in angle brackets or not (RFC 3986 §5, §6.2.2).
        """
        for spelling in self._spellings(uri):
            found = self._by_location.get(spelling) or self._frames_of(spelling)
            if found:
                self._used.update(part.number for part in found)
                return found
        return []

    def _frames_of(self, spelling: str) -> list[BulkPart]:
        """Return parts at ``/frames/1`` and so on, of the pixel data or of its instance."""
        instance = _OF_INSTANCE.sub("", spelling)
        numbered = self._frames.get(spelling) or self._frames.get(instance) or []
        return [part for _, part in sorted(numbered, key=lambda pair: pair[0])]

    def unused(self) -> list[BulkPart]:
        """Return the parts that nothing pointed to."""
        return [part for part in self._parts if part.number not in self._used]

    def copy(
        self, part: BulkPart, sink: Callable[[Buffer], None], start: int, end: int
    ) -> None:
        """Write bytes ``start`` to ``end`` of a part; never much of it is in memory."""
        body = self._body
        for at in range(part.offset + start, part.offset + end, _CHUNK_BYTES):
            length = min(_CHUNK_BYTES, part.offset + end - at)
            if isinstance(body, memoryview):
                sink(bytes(body[at : at + length]))
            else:
                sink(body.read(at, length))

    def view(self, part: BulkPart) -> memoryview:
        """Map a part for reading its headers; the caller releases it."""
        body = self._body
        whole = body if isinstance(body, memoryview) else body.view()
        return whole[part.offset : part.offset + part.length]

    def discard(self) -> None:
        """Leave nothing of them behind."""
        self.growing.discard()

    def _spellings(self, uri: str) -> Iterable[str]:
        bare = uri.strip().strip("<>").strip()
        if not bare:
            return []
        names = [unquote(bare)]
        for base in self._bases:
            try:
                names.append(unquote(urljoin(base, bare)))
            except ValueError:  # no URL at all: then only the same text is the same
                break
        return dict.fromkeys(names)
