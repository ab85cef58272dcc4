"""Listening sockets that several processes share, and what is waited for beside them.

Of all processes that wait, one is woken for a connection: with `select` or `poll` every one
would be, and all but one would find nothing.
"""

import errno
import os
import select
import socket
import time
import weakref
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, NamedTuple, Self

from archive.log import get_logger

logger = get_logger(__name__)

_BACKLOG: Final = 1024
# After a failure that is not the caller's.
_REST_S: Final = 0.1
_LISTENING: Final = select.EPOLLIN | select.EPOLLEXCLUSIVE


class Arrival(NamedTuple):
    """A connection that came.

    Parameters
    ----------
    listening
        Where it came.
    connection, address
        The connection, and from where.
    """

    listening: socket.socket
    connection: socket.socket
    address: tuple[str, int]


class Doors:
    """Waits for connections, and for the word that none are wanted any more.

    Parameters
    ----------
    listening
        The sockets; they will not block.
    """

    def __init__(self, listening: Iterable[socket.socket]) -> None:
        self._listening = {one.fileno(): one for one in listening}
        self._waiting = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # It may be rung in the moment in which nobody waits any more.
        weakref.finalize(self, os.close, self._bell).atexit = False
        self._waiting.register(self._bell, select.EPOLLIN)

    def __enter__(self) -> Self:
        """Listen from now on."""
        for number, one in self._listening.items():
            one.setblocking(False)
            # Connections inherit it.
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.listen(_BACKLOG)
            self._waiting.register(number, _LISTENING)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait no more; the listening sockets stay as they are."""
        self._waiting.close()

    def ring(self) -> None:
        """End the wait, from any thread or a signal handler, now or the next time."""
        os.eventfd_write(self._bell, 1)

    def watch(self, connection: socket.socket) -> None:
        """Wait for this too, until it is closed or let go."""
        self._waiting.register(connection.fileno(), select.EPOLLIN)

    def let_go(self, connection: socket.socket) -> None:
        """Wait for this no more."""
        self._waiting.unregister(connection.fileno())

    def wait(self, timeout_s: float | None) -> Iterator[Arrival | int]:
        """Wait; yield the connections that came, and the numbers of others that have something.

        Parameters
        ----------
        timeout_s
            None: for ever.
        """
        for number, _ in self._waiting.poll(timeout_s):
            listening = self._listening.get(number)
            if listening is None:
                if number != self._bell:
                    yield number
                continue
            try:
                connection, address = listening.accept()
            except (BlockingIOError, ConnectionError):
                continue  # another worker was faster, or the peer has gone again
            except OSError as error:
                if error.errno != errno.EINVAL:  # that: it listens no more, this node is to end
                    # Too many open files, say: whoever is here already is served all the same.
                    logger.warning("connection.not-accepted", extra={"reason": str(error)})
                    time.sleep(_REST_S)
                continue
            # The kernel wakes whoever waits longest: now it is another worker's turn.
            self._waiting.unregister(number)
            self._waiting.register(number, _LISTENING)
            yield Arrival(listening, connection, address)
