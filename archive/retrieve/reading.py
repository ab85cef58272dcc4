"""Bytes of stored objects, in pieces; the data set of a deflated one inflated on the way."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Self, TypeVar

from archive.dicom.frame_table import Span
from archive.errors import storage_translated
from storage.errors import StorageError
from storage.index.rows import StoredInstance
from storage.objects.base import Buffer, ObjectStore

CHUNK_BYTES: Final = 256 * 1024
# What goes out is of the type that comes in.
Piece = TypeVar("Piece", bytes, Buffer)


class OpenInstance:
    """The object of an instance, open until it is left, read into memory of the caller's.

    Parameters
    ----------
    objects, stored
        Where it lies.

    Raises
    ------
    UnavailableError
        If it cannot be opened.
    """

    def __init__(self, objects: ObjectStore, stored: StoredInstance) -> None:
        try:
            self._opened = objects.open(stored.object_key)
        except StorageError:
            with storage_translated():
                raise

    def fill(self, pieces: Sequence[memoryview], offset: int) -> None:
        """Read what begins at ``offset`` into pieces of memory, one after the other.

        Raises
        ------
        UnavailableError
            If the object ends before they are full, or cannot be read.
        """
        try:
            self._opened.fill(pieces, offset)
        except StorageError:
            with storage_translated():
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def iter_spans(
    objects: ObjectStore, stored: StoredInstance, spans: Sequence[Span], *, inflated: bool
) -> Iterator[bytes]:
    """Yield the bytes of ``spans`` one after another, in pieces of at most 256 KiB."""
    if inflated:
        yield from _iter_inflated(objects, stored, spans)
        return
    for offset, length in spans:
        yield from objects.iter_chunks(stored.object_key, offset, length, CHUNK_BYTES)


def clip(spans: Sequence[Span], offset: int, length: int) -> list[Span]:
    """Return the part of ``spans`` from byte ``offset`` of their joined content."""
    clipped: list[Span] = []
    for start, size in spans:
        if offset < size and length > 0:
            taken = min(size - offset, length)
            clipped.append((start + offset, taken))
            length -= taken
            offset = 0
        else:
            offset -= min(offset, size)
    return clipped


def swapped(chunks: Iterable[bytes], word_bytes: int) -> Iterator[bytes]:
    """Yield ``chunks`` with the bytes of each word turned round, whatever their borders."""
    rest = b""
    for chunk in chunks:
        joined = rest + chunk
        whole = len(joined) // word_bytes * word_bytes
        rest = joined[whole:]
        turned = bytearray(whole)
        for byte in range(word_bytes):
            turned[byte::word_bytes] = joined[word_bytes - 1 - byte : whole : word_bytes]
        yield bytes(turned)
    if rest:
        yield rest


def cut(chunks: Iterable[Piece], offset: int, length: int) -> Iterator[Piece]:
    """Yield ``length`` bytes of ``chunks`` from byte ``offset``."""
    for chunk in chunks:
        taken = chunk[offset : offset + length]
        offset -= min(offset, len(chunk))
        length -= len(taken)
        if taken:
            yield taken
        if not length:
            return


def _iter_inflated(
    objects: ObjectStore, stored: StoredInstance, spans: Sequence[Span]
) -> Iterator[bytes]:
    # The stream has no index: it is inflated from its start, and thrown away up to the span.
    position = 0
    wanted = iter(sorted(spans))
    span = next(wanted, None)
    for chunk in _inflate(objects, stored):
        end = position + len(chunk)
        while span is not None and span[0] < end:
            start, length = span
            first = max(start, position)
            last = min(start + length, end)
            if last > first:
                yield chunk[first - position : last - position]
            if start + length > end:
                break
            span = next(wanted, None)
        if span is None:
            return
        position = end


def _inflate(objects: ObjectStore, stored: StoredInstance) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # PS3.5 §A.5: raw deflate, no header
    length = stored.size_bytes - stored.dataset_offset
    for chunk in objects.iter_chunks(
        stored.object_key, stored.dataset_offset, length, CHUNK_BYTES
    ):
        pending = chunk
        while pending:
            inflated = inflater.decompress(pending, CHUNK_BYTES)
            pending = inflater.unconsumed_tail
            if inflated:
                yield inflated
            if inflater.eof:
                return
