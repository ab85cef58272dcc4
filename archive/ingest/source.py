"""The record of where instances came from, as an object beside them.

The index can be rebuilt from the objects alone because each instance's key names its source,
and each source is written once, before the first instance that names it is acknowledged.
"""

import hashlib
import threading
from dataclasses import asdict
from typing import Final

import orjson

from storage.errors import ObjectMissingError
from storage.index.rows import Source
from storage.objects.base import ObjectStore
from storage.objects.keys import SOURCES

_KEY_BYTES: Final = 6


def encode_source(source: Source) -> bytes:
    """Return the record; the same for equal sources."""
    return orjson.dumps(asdict(source), option=orjson.OPT_SORT_KEYS)


def decode_source(record: bytes) -> Source:
    """Read what `encode_source` wrote."""
    return Source(**orjson.loads(record))


def source_key(source: Source) -> str:
    """Return the twelve hexadecimal digits that stand for ``source`` in keys."""
    return hashlib.blake2s(encode_source(source), digest_size=_KEY_BYTES).hexdigest()


def source_object(key: str) -> str:
    """Return the object key of a source's record."""
    return f"{SOURCES}/{key}.json"


class SourceRecords:
    """Writes each source's record once.

    Parameters
    ----------
    objects
        The store that also holds the instances.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._lock = threading.Lock()
        self._known: dict[Source, str] = {}

    def ensure(self, source: Source) -> str:
        """Return the key of ``source``, its record durable."""
        known = self._known.get(source)
        if known is not None:
            return known
        with self._lock:
            key = source_key(source)
            self._write(source_object(key), encode_source(source))
            if len(self._known) > 10_000:  # one entry a sender: only churn fills it
                self._known = {}
            self._known = self._known | {source: key}
        return key

    def _write(self, key: str, record: bytes) -> None:
        try:
            self._objects.size(key)
        except ObjectMissingError:
            self._objects.put(key, record)
            self._objects.forget([key])
        # Another process may have written it a moment ago and not settled it yet.
        self._objects.settle([key])
