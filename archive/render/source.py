"""A stored object as one buffer that takes no memory: mapped, or spooled and then mapped."""

import mmap
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from archive.dicom.part10 import Buffer
from archive.errors import InvalidInstanceError, NotFoundError
from archive.retrieve.service import RetrieveService
from archive.retrieve.values import StoredInstance

_IN_MEMORY_BYTES: Final = 4 << 20
_INFLATE_CHUNK_BYTES: Final = 1 << 20


def object_view(retrieve: RetrieveService, stored: StoredInstance) -> Buffer:
    """Return the whole object.

    Raises
    ------
    NotFoundError
        If it was deleted meanwhile.
    """
    path = retrieve.path_of(stored)
    if path is None:
        return _spooled(retrieve.iter_chunks(stored))
    try:
        with Path(path).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError as error:
        raise NotFoundError(f"no instance {stored.sop_instance_uid}") from error


def inflated_view(retrieve: RetrieveService, stored: StoredInstance) -> Buffer:
    """Return the inflated data set of a deflated object (PS3.5 §A.5)."""
    length = stored.size_bytes - stored.dataset_offset
    chunks = retrieve.iter_chunks(stored, offset=stored.dataset_offset, length=length)
    return _spooled(_inflated(chunks))


def _inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for chunk in chunks:
            pending = chunk
            while pending and not inflater.eof:
                yield inflater.decompress(pending, _INFLATE_CHUNK_BYTES)
                pending = inflater.unconsumed_tail
    except zlib.error as error:
        raise InvalidInstanceError(f"the data set cannot be inflated: {error}") from error


def _spooled(chunks: Iterable[bytes]) -> Buffer:
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as spool:
        for chunk in chunks:
            spool.write(chunk)
        if spool.tell() <= _IN_MEMORY_BYTES:
            spool.seek(0)
            return spool.read()
        spool.flush()
        return memoryview(mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ))
