"""Stored data sets as PDUs, framed where they are read: no byte is copied in between.

An object is read into memory that is used again, in pieces that leave room for the headers
before them; what is ready leaves with one write.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from archive.ingest.buffers import BUFFERS
from dimse import messages
from dimse.messages import LAST_FRAGMENT, PDV_HEADER

# As much as a buffer holds before anybody enlarges it.
_CAPACITY: Final = 1 << 20
# A peer that takes less at once would have too many pieces read in one call.
NARROWEST: Final = 2048


class Source(Protocol):
    """What is read from: an `archive.retrieve.reading.OpenInstance`."""

    def fill(self, pieces: Sequence[memoryview], offset: int) -> None:
        """Read what begins at ``offset`` into pieces of memory, one after the other."""


def iter_read(
    source: Source,
    offset: int,
    length: int,
    context_id: int,
    maximum_pdu: int,
    before: bytes,
) -> Iterator[memoryview]:
    """Yield ``length`` bytes as P-DATA-TF PDUs; each time many, valid until the next.

    Parameters
    ----------
    source, offset
        What is read, and where it begins.
    length
        At least one byte.
    maximum_pdu
        What the peer takes, at least `NARROWEST`; 0 for no limit.
    before
        What goes out first: the PDUs of the command.
    """
    room = messages.room(maximum_pdu)
    end = offset + length
    buffer = BUFFERS.take()
    memory = memoryview(buffer)
    try:
        used = len(before)
        memory[:used] = before
        while offset < end:
            pieces: list[memoryview] = []
            start = offset
            while offset < end and used + PDV_HEADER.size + room <= _CAPACITY:
                size = min(room, end - offset)
                control = LAST_FRAGMENT if offset + size == end else 0
                PDV_HEADER.pack_into(memory, used, 4, size + 6, size + 2, context_id, control)
                used += PDV_HEADER.size
                pieces.append(memory[used : used + size])
                used += size
                offset += size
            source.fill(pieces, start)
            yield memory[:used]
            used = 0
    finally:
        BUFFERS.give_back(buffer)
