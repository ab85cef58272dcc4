"""One instance as received, before anything is decided about it."""

from dataclasses import dataclass

from archive.dicom.instance import AttributeWarning
from archive.errors import InvalidRequestError
from storage.index.rows import Source
from storage.objects.base import Buffer, Spool

__all__ = ["Digest", "Incoming", "Source", "Spool", "collection_name"]

DEFAULT_COLLECTION = "default"


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


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 of what follows the first ``after`` bytes of an object."""

    after: int
    value: bytes


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
    digest
        Of what was taken for the data set while it was received, if so.
    """

    body: Buffer | Spool
    source: Source
    study_instance_uid: str | None = None
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    coerced: tuple[AttributeWarning, ...] = ()
    discarded: tuple[AttributeWarning, ...] = ()
    in_doubt: tuple[AttributeWarning, ...] = ()
    digest: Digest | None = None

    def known_digest(self, dataset_offset: int) -> bytes | None:
        """Return the SHA-256 of the data set, which begins at ``dataset_offset``, if known."""
        known = self.digest
        return known.value if known is not None and known.after == dataset_offset else None
