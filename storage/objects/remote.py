"""A bucket of an object storage server, over the network: S3, Google Cloud Storage, Azure.

obstore speaks the three protocols, signs, repeats with jitter, and uploads in parts. Its
runtime does not survive a fork, so a store is made by the process that first uses it; the
supervisor, which forks the workers, never does. Credentials come from the environment, under
the names that obstore and the vendors' own programs use.
"""

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from storage.errors import (
    NoSpaceError,
    ObjectMissingError,
    ObjectUnreadableError,
    StorageError,
    StoreUnavailableError,
)
from storage.objects.base import Buffer, StoredObject
from storage.objects.settings import BucketSettings

# Larger objects are sent in parts of this; never more than 10,000 (the limit of S3).
_PART_BYTES: Final = 8 << 20
_MOST_PARTS: Final = 9_000
# Parts on their way at once: with the above what an upload takes of memory.
_PARTS_AT_ONCE: Final = 4
_REQUEST_S: Final = 30.0
_FULL: Final = ("507 ", "QuotaExceeded", "StorageFull", "413 ", "InsufficientStorage")
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist")
_PAST_END: Final = ("416 ", "InvalidRange")
# What a server, or the way to it, says, and what to do about it.
_ADVICE: Final = (
    *((sign, "make the bucket, or correct [storage] url") for sign in _NO_BUCKET),
    ("region", "set [storage] region to the one that the server names"),
    ("PermanentRedirect", "set [storage] region and endpoint to those of the bucket"),
    ("RequestTimeTooSkewed", "set this machine's clock"),
    ("169.254.169.254", "no credentials are in the environment: set {names}"),
    ("InvalidAccessKeyId", "check {names} in the environment"),
    ("SignatureDoesNotMatch", "check {names} in the environment"),
    ("403 ", "check {names}, and that they may list, read, write and delete in the bucket"),
    ("401 ", "check {names} in the environment"),
    ("Account must be specified", "set {names} in the environment"),
    ("builder error", "the endpoint is not https: set [storage] allow_http = true"),
    ("error sending request", "check [storage] endpoint, and that the server can be reached"),
)
_NAMES: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_SERVICE_ACCOUNT",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class Bucket:
    """Objects of one bucket, or under a prefix of it.

    Parameters
    ----------
    settings
        Where it is.
    """

    def __init__(self, settings: BucketSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._made: Any = None

    @property
    def _store(self) -> Any:  # noqa: ANN401 - one of obstore's three
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = self._make()
        return self._made

    def _make(self) -> Any:  # noqa: ANN401
        given = self._settings
        client: Any = {
            "allow_http": given.allow_http,
            "timeout": timedelta(seconds=_REQUEST_S),
            "connect_timeout": timedelta(seconds=min(5.0, given.deadline_s)),
        }
        retry: Any = {
            "max_retries": 100,  # the deadline decides
            "retry_timeout": timedelta(seconds=given.deadline_s),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=3),
                "base": 2,
            },
        }
        options: Any = given.options()
        return from_url(given.url, config=options, client_options=client, retry_config=retry)

    def put(self, key: str, body: Buffer | Path, size_bytes: int) -> None:
        """Store an object; return when the server has answered that it has all of it."""
        part_bytes = max(_PART_BYTES, -(-size_bytes // _MOST_PARTS))
        with self._asking("put", key):
            obstore.put(
                self._store,
                key,
                body,
                use_multipart=size_bytes > part_bytes,
                chunk_size=part_bytes,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def read(self, key: str, offset: int, length: int) -> Buffer:
        """Return up to ``length`` bytes from ``offset``: fewer only where the object ends.

        Raises
        ------
        ObjectMissingError
            If there is no such object.
        ObjectUnreadableError
            If the server gives less than it says there is.
        """
        try:
            with self._asking("get", key):
                got = obstore.get(
                    self._store, key, options={"range": (offset, offset + length)}
                )
                body = memoryview(got.bytes())
                expected = min(length, got.meta["size"] - offset)
        except _PastEndError:
            return b""
        if len(body) != expected:
            raise ObjectUnreadableError(f"{key}: {len(body)} bytes came of {expected}")
        return body

    def size(self, key: str) -> int:
        """Return an object's length; raises ObjectMissingError."""
        with self._asking("head", key):
            return int(obstore.head(self._store, key)["size"])

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""
        with contextlib.suppress(ObjectMissingError), self._asking("delete", key):
            obstore.delete(self._store, key)

    def walk(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object below ``prefix``, in the order of keys."""
        with self._asking("list", prefix):
            for page in obstore.list(self._store, prefix=prefix or None):
                now = time.time()
                for one in page:
                    age_s = now - one["last_modified"].timestamp()
                    yield StoredObject(one["path"], one["size"], age_s)

    def require_ready(self) -> None:
        """Ask the server for the bucket.

        Raises
        ------
        StoreUnavailableError
            If it cannot be used; the text says why, and what to do.
        """
        try:
            with self._asking("list", "the bucket"):
                next(iter(obstore.list(self._store)), None)
        except (StorageError, BaseError, ValueError) as error:
            cause = str(error.__cause__ or error)
            raise StoreUnavailableError(
                f"[storage] url = {self._settings.url!r} cannot be used: "
                f"{_said(cause)}; {self._advice(cause)}"
            ) from error

    def _advice(self, cause: str) -> str:
        names = _NAMES.get(self._settings.scheme, "the credentials")
        advice = (advice for sign, advice in _ADVICE if sign in cause)
        return next(advice, "see docs/object-storage.md").format(names=names)

    @contextlib.contextmanager
    def _asking(self, request: str, key: str) -> Iterator[None]:
        """Turn what fails inside the block into storage errors, and tell how long it took."""
        started, outcome = time.monotonic(), "failed"
        try:
            yield
            outcome = "ok"
        except (BaseError, OSError) as error:
            translated = _as_storage_error(key, error)
            if isinstance(translated, ObjectMissingError | _PastEndError):
                outcome = "missing"
            raise translated from error
        finally:
            if self._settings.observe is not None and request != "list":
                self._settings.observe(request, outcome, time.monotonic() - started)


class _PastEndError(StorageError):
    """Nothing of the object lies where it was asked for."""


def _as_storage_error(key: str, error: Exception) -> StorageError:
    text = str(error)
    # A bucket that is gone says nothing about an object of it.
    no_bucket = any(sign in text for sign in _NO_BUCKET)
    if isinstance(error, FileNotFoundError) and not no_bucket:
        return ObjectMissingError(f"no object {key}")
    if any(sign in text for sign in _PAST_END):
        return _PastEndError(key)
    kind = NoSpaceError if any(sign in text for sign in _FULL) else StoreUnavailableError
    return kind(f"{key}: {_said(text)}")


def _said(text: str) -> str:
    """Return what a server said, without what the library adds for its developers."""
    status = re.search(r"status code: (\d{3}[^:<]*)", text)
    code = re.search(r"<Code>([^<]*)</Code>", text)
    message = re.search(r"<Message>([^<\n]*)", text)
    said = [found[1].strip() for found in (status, code, message) if found]
    if not said:
        said = [text.partition("Debug source")[0].strip()[:300]]
    return ", ".join(said)
