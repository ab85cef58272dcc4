"""One instance as received, before anything is decided about it."""

import threading
from dataclasses import dataclass
from typing import Final

from archive.dicom.instance import AttributeWarning
from archive.errors import InvalidRequestError
from storage.index.rows import Source
from storage.objects.base import Buffer, Spool

__all__ = ["Incoming", "Source", "Spool", "Turn", "collection_name"]

DEFAULT_COLLECTION = "default"
# Order is not worth a thread that waits for ever: beyond, an instance goes ahead of its turn.
_LONGEST_WAIT_S: Final = 10.0


def collection_name(value: str) -> str:
    """Return ``value`` when it can name a collection.

    Raises
    ------
    InvalidRequestError
        If it is not 1 to 64 letters, digits, ``-`` and ``_``.
    """
    if not 1 <= len(value) <= 64 or not value.replace("-", "").replace("_", "").isalnum():
        raise InvalidRequestError(
            f"collection {value!r} is not a name: use 1 to 64 letters, digits, - and _"
        )
    return value


class Turn:
    """The place of an instance among those of one request, which are taken in side by side.

    Where they disagree, or say that they are the same, the first of the request is the first.

    Parameters
    ----------
    before
        The turn that must have ended first.
    """

    def __init__(self, before: "Turn | None") -> None:
        self._before = before
        self._ended = threading.Event()

    def wait(self) -> None:
        """Wait for the turn before this one to end."""
        if self._before is not None:
            self._before._ended.wait(_LONGEST_WAIT_S)  # noqa: SLF001 - of its own class

    def end(self) -> None:
        """Let the next one go on; more than once does no harm."""
        self._before = None
        self._ended.set()


@dataclass(frozen=True, slots=True)
class Incoming:
    """A whole Part 10 object (PS3.10 §7) on its way in.

    Parameters
    ----------
    body
        Preamble, File Meta and data set: in memory, or in a spool on the store's volume.
        A spool belongs to the service that gets it: consumed or discarded, never left.
    source
        Where it came from.
    study_instance_uid
        The study it was stored to, when the request named one (PS3.18 §10.5.1).
    sop_class_uid, sop_instance_uid
        What the C-STORE command said it is (PS3.7 §9.1.1); the data set wins.
    coerced, discarded, in_doubt
        Attributes that were changed, left out or found odd when the object was put together
        from its metadata (PS3.18 §10.5.2).
    turn
        Its place among those of the request; None when it came alone.
    """

    body: Buffer | Spool
    source: Source
    study_instance_uid: str | None = None
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    coerced: tuple[AttributeWarning, ...] = ()
    discarded: tuple[AttributeWarning, ...] = ()
    in_doubt: tuple[AttributeWarning, ...] = ()
    turn: Turn | None = None
