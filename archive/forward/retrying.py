"""When what failed is tried again, and when it is given up."""

import random
from dataclasses import dataclass
from typing import Final

from archive.config import DimseSection

_LONGEST_S: Final = 3600.0
_SPREAD: Final = 0.25
_DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Retrying:
    """How failures are met.

    Parameters
    ----------
    first_s
        Seconds until the second try; doubled for each after it, up to an hour.
    attempts
        Failures without progress after which it is given up; 0: no limit.
    days
        Days after which the next failure is the last; 0: no limit.
    """

    first_s: float
    attempts: int
    days: float

    @classmethod
    def of(cls, settings: DimseSection) -> "Retrying":
        """Return what the settings say."""
        return cls(settings.forward_retry_s, settings.forward_attempts, settings.forward_days)

    def pause_us(self, failures: int, *, longest_s: float = _LONGEST_S) -> int:
        """Return how long to wait after so many failures in a row, in microseconds.

        Never twice the same: what failed together must not come back together.
        """
        pause_s = min(self.first_s * 2 ** min(failures - 1, 30), longest_s)
        spread = random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311 - no secret
        return int(pause_s * spread * 1_000_000)

    def is_over(self, failures: int, *, since_us: int, now_us: int) -> bool:
        """Tell whether it is to be given up."""
        too_often = bool(self.attempts) and failures >= self.attempts
        return too_often or (bool(self.days) and now_us - since_us > self.days * _DAY_US)
