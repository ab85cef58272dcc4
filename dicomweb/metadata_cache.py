"""Metadata that were asked for a moment ago, as they were sent.

Whoever asks, the index is asked first: which state of the series or study is there, and
whether it may be seen. What is here is of one state, one scope and one form, so it is never
older than what the index would give, nor shown to anybody else.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Final

from archive.dicom.part10 import Buffer

LARGEST_BYTES: Final = 4 << 20
_MOST_BYTES: Final = 32 << 20


class MetadataCache:
    """The bodies that were asked for last.

    Parameters
    ----------
    most_bytes
        How much is held in all.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._bodies: OrderedDict[Hashable, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> bytes | None:
        """Return what was put under ``key``, if it is still held."""
        with self._lock:
            body = self._bodies.get(key)
            if body is not None:
                self._bodies.move_to_end(key)
            return body

    def put(self, key: Hashable, body: bytes) -> None:
        """Hold ``body``, and less of what was asked for longest ago."""
        with self._lock:
            self._bytes += len(body) - len(self._bodies.pop(key, b""))
            self._bodies[key] = body
            while self._bytes > self._most_bytes:
                _, oldest = self._bodies.popitem(last=False)
                self._bytes -= len(oldest)


def gathered(chunks: Iterator[Buffer]) -> tuple[bytes | None, Iterator[Buffer]]:
    """Return all of ``chunks`` if little enough to be held; else None, and all of them."""
    taken: list[Buffer] = []
    size = 0
    for chunk in chunks:
        taken.append(chunk)
        size += len(chunk)
        if size > LARGEST_BYTES:
            return None, chain(taken, chunks)
    return b"".join(taken), iter(())
