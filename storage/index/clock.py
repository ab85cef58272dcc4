"""Moments as the index keeps them: whole microseconds since 1970, UTC."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def now_us() -> int:
    """Return this moment."""
    return time.time_ns() // 1000


def to_us(moment: datetime) -> int:
    """Return a moment with a time zone as the index keeps it."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(value: int) -> datetime:
    """Return what `to_us` was given."""
    return _EPOCH + value * _MICROSECOND
