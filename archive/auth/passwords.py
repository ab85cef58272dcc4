"""Passwords as they are kept and checked: Argon2id, dear to guess (RFC 9106)."""

import hashlib
import hmac
import secrets
import threading
import unicodedata
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

SHORTEST_PASSWORD: Final = 8
# About 15 ms and 19 MB for each check (OWASP's second choice): many may come at once.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_MOST_REMEMBERED: Final = 256
_MOST_AT_ONCE: Final = 2


def hashed(password: str) -> str:
    """Return what is kept of a password."""
    return _HASHER.hash(composed(password))


def composed(text: str) -> str:
    """Return text as it is compared: keyboards differ in their accents (RFC 8265 §4.2)."""
    return unicodedata.normalize("NFC", text)


class PasswordChecks:
    """Checks passwords; what was right a moment ago is told without the cost.

    What is remembered is bound to the hash that is kept, so a changed password counts at once.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, None] = {}
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_MOST_AT_ONCE)

    def is_right(self, kept: str | None, password: str) -> bool:
        """Tell whether a password is the one whose hash is kept; None: of nobody."""
        password = composed(password)
        mark = self._mark(kept or "", password)
        if kept is not None and mark in self._right:
            return True
        with self._turns:
            # A name nobody has costs as much as a wrong password.
            right = _verified(kept or _of_nobody(), password) and kept is not None
        if right:
            with self._lock:
                if len(self._right) >= _MOST_REMEMBERED:
                    self._right.clear()
                self._right[mark] = None
        return right

    def _mark(self, kept: str, password: str) -> bytes:
        message = kept.encode() + b"\0" + password.encode()
        return hmac.digest(self._key, message, hashlib.sha256)


@cache
def _of_nobody() -> str:
    return hashed(secrets.token_urlsafe())


def _verified(kept: str, password: str) -> bool:
    try:
        return _HASHER.verify(kept, password)
    except (VerifyMismatchError, InvalidHashError):
        return False
