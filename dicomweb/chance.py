"""Names that nobody can guess: drawn from the system for many at once.

A request needs two of them, for its log line and between its parts.
"""

import os
from collections import deque
from typing import Final

_BYTES: Final = 16
_AT_ONCE: Final = 64
_drawn: Final[deque[str]] = deque()
# A process that is made of this one draws its own.
os.register_at_fork(after_in_child=_drawn.clear)


def random_name() -> str:
    """Return 128 random bits as 32 hexadecimal digits."""
    while True:
        try:
            return _drawn.pop()
        except IndexError:
            digits = os.urandom(_BYTES * _AT_ONCE).hex()
            length = 2 * _BYTES
            _drawn.extend(digits[at : at + length] for at in range(0, len(digits), length))
