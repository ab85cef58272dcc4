"""Which object store an address names."""

import importlib.util
from pathlib import Path
from typing import Final

from storage.errors import StoreUnavailableError
from storage.objects.base import ObjectStore
from storage.objects.disk import DiskStore
from storage.objects.settings import BucketSettings

DISK: Final = "disk"


def open_store(
    bucket: BucketSettings, local: Path, *, keep_free_bytes: int = 0, cache_bytes: int = 0
) -> ObjectStore:
    """Return the store that ``bucket.url`` names: "disk" is the folder ``local``.

    Parameters
    ----------
    bucket
        The address, and how a bucket is spoken to.
    local
        A folder of this node.
    keep_free_bytes
        Writes are refused while its volume has less than this free.
    cache_bytes
        How much of a bucket is kept there.

    Raises
    ------
    StoreUnavailableError
        If the library for buckets is not installed.
    """
    if bucket.url == DISK:
        return DiskStore(local, keep_free_bytes=keep_free_bytes)
    if importlib.util.find_spec("obstore") is None:
        raise StoreUnavailableError(
            f"[storage] url = {bucket.url!r} needs a package that is not installed: "
            "pip install 'fileroom[s3]'"
        )
    # Only where it is used: who keeps objects on disk needs no client of buckets in memory.
    from storage.objects.bucket import BucketStore  # noqa: PLC0415
    from storage.objects.remote import Bucket  # noqa: PLC0415

    return BucketStore(
        Bucket(bucket), local, keep_free_bytes=keep_free_bytes, cache_bytes=cache_bytes
    )
