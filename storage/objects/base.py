"""What every object store does (the contract is tests/contracts/test_object_store.py)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

Buffer = bytes | bytearray | memoryview


class Spool(Protocol):
    """An object being received, on the store's own volume and under no key yet."""

    @property
    def size_bytes(self) -> int:
        """How much has been written."""

    def write(self, chunk: Buffer) -> None:
        """Append ``chunk``; raise NoSpaceError when the volume is full."""

    def view(self) -> memoryview:
        """Map what has been written for reading, without copying it into memory."""

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``offset`` of what has been written."""

    def discard(self) -> None:
        """Remove it; nothing happens when it was already kept or discarded."""


class OpenObject(Protocol):
    """An object that is being read from."""

    def fill(self, pieces: Sequence[memoryview], offset: int) -> None:
        """Read what begins at ``offset`` into pieces of memory, one after the other.

        Raises
        ------
        ObjectUnreadableError
            If the object ends before they are full, or cannot be read.
        """

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of the store, as a walk over it sees it.

    Parameters
    ----------
    key
        Its address.
    size_bytes
        Its length.
    age_s
        Seconds since it was written.
    """

    key: str
    size_bytes: int
    age_s: float


class ObjectStore(Protocol):
    """Bytes under keys. Objects are written once and never changed.

    Attributes
    ----------
    puts_at_once
        How many objects that came together are best put at the same time.
    """

    puts_at_once: int

    def new_spool(self) -> Spool:
        """Begin an object whose size is not known; raises NoSpaceError."""

    def put(self, key: str, body: Buffer | Spool) -> None:
        """Write ``body`` under ``key`` so that it survives a crash once `settle` returns.

        Raises
        ------
        NoSpaceError
            If the volume is (nearly) full; nothing is left under ``key``.
        """

    def settle(self, keys: list[str]) -> None:
        """Make the names of objects just put durable, together: one sync a folder."""

    def forget(self, keys: list[str]) -> None:
        """Note that these objects are referred to by the index: no sweep need ask for them."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``offset``; raises ObjectMissingError."""

    def read_now(self, key: str, offset: int, length: int) -> Buffer | None:
        """Return ``length`` bytes from ``offset`` where that needs no waiting; else None.

        Raises
        ------
        ObjectMissingError
            If there is no such object.
        """

    def iter_chunks(
        self, key: str, offset: int, length: int, chunk_bytes: int
    ) -> Iterator[bytes]:
        """Yield ``length`` bytes from ``offset`` in pieces of ``chunk_bytes``."""

    def open(self, key: str) -> OpenObject:
        """Return an object to read from, until it is closed; raises ObjectMissingError."""

    def size(self, key: str) -> int:
        """Return an object's length; raises ObjectMissingError."""

    def discard(self, keys: list[str]) -> list[str]:
        """Remove objects that were put and will not be indexed, now or in a while.

        Returns
        -------
        list of str
            Those that could not be: a sweep, or `fileroom verify`, finds them.
        """

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""

    def walk(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object whose key begins with the folder ``prefix``, in order."""

    def strays(self) -> Iterator[list[str]]:
        """Yield lists of keys that writers which no longer run put, and may not have indexed.

        When the caller asks for the next list, the last one counts as dealt with.
        """

    def discard_stray(self, key: str) -> bool:
        """Remove an object that no index names, whole or half written; tell if it was there."""

    def local_path(self, key: str) -> str | None:
        """Return the path of the file that holds the object, where it is one."""

    def uncached(self) -> "ObjectStore":
        """Return a store of the same objects that reads them from where they are durable."""

    def require_ready(self) -> None:
        """Raise StoreUnavailableError, with what to do, where objects cannot be reached."""

    def answers(self) -> bool:
        """Tell whether objects can be read at all; if not, a missing one may well be there."""

    def has_room(self) -> bool:
        """Tell whether writes are accepted."""
