"""Who guesses passwords is not looked at for a while."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from archive.errors import UnauthenticatedError

_FREE: Final = 5
_OF_ADDRESS: Final = 30
_LONGEST_S: Final = 60.0
_MOST: Final = 4096


@dataclass(slots=True)
class _Failures:
    count: int
    until: float


class Guard:
    """Counts failures; each process for itself.

    After five failures in a row of one name from one address, the next try there must wait 1 s,
    then 2, 4 ... up to a minute. Thirty failures within a minute from one address, under
    whatever names, make all of them wait until it is over. What comes too early is refused
    without a look, right or wrong, and does not count: nobody is kept out from elsewhere, and
    no thread waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_name: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._of_address: OrderedDict[str, _Failures] = OrderedDict()

    def require_patience(self, name: str, remote: str) -> None:
        """Refuse a try that comes too early.

        Raises
        ------
        UnauthenticatedError
            If it does.
        """
        with self._lock:
            until = max(
                _end(self._of_name.get((name, remote)), _FREE),
                _end(self._of_address.get(remote), _OF_ADDRESS),
            )
        left = until - time.monotonic()
        if left > 0:
            raise UnauthenticatedError(
                f"too many failures of {name!r} from {remote}: not looked at for {left:.0f} s"
            )

    def failed(self, name: str, remote: str) -> None:
        """Count a failure."""
        now = time.monotonic()
        with self._lock:
            of_name = _taken(self._of_name, (name, remote))
            of_name.count += 1
            beyond = min(max(of_name.count - _FREE, 0), 6)
            of_name.until = now + min(2.0**beyond, _LONGEST_S)
            self._of_name[name, remote] = of_name
            of_address = _taken(self._of_address, remote)
            if now > of_address.until:
                of_address = _Failures(0, now + _LONGEST_S)
            of_address.count += 1
            self._of_address[remote] = of_address
            for counted in (self._of_name, self._of_address):
                if len(counted) > _MOST:
                    counted.popitem(last=False)

    def succeeded(self, name: str, remote: str) -> None:
        """Forget the failures of a name there."""
        with self._lock:
            self._of_name.pop((name, remote), None)


def _end(failures: _Failures | None, free: int) -> float:
    return failures.until if failures and failures.count >= free else 0.0


def _taken(counted: OrderedDict[Any, _Failures], key: object) -> _Failures:
    return counted.pop(key, None) or _Failures(0, 0.0)
