"""One TCP or TLS connection, read and written without ever waiting longer than it may.

The socket does not block: what is to be done is tried first, and only when the kernel, or TLS,
has to wait for something, this waits for it, with an end. Trying first is also what TLS asks
for: what it has deciphered already, no ``select`` or ``poll`` knows of.
"""

import contextlib
import select
import socket
import ssl
import struct
import time
from typing import Any, Final

from pynetdicom.transport import AssociationSocket

# Enough for a command and the header behind it in one call; what is data of an instance beyond
# that is copied once more, so no more than this.
_READ_AHEAD: Final = 4096
# A peer that sends while it is sent to, and reads nothing before it has sent all, is read ahead
# so far: more no peer may have under way (one operation at a time, PS3.7 §D.3.3.3).
_MOST_AHEAD: Final = 4 * 1024**2
# What one span of `timeout_s` is for, when writing: as much as the longest PDU received. All
# there is, is handed to the kernel at once all the same.
_WRITTEN_AT_ONCE: Final = 131072

_PDU_HEADER: Final = struct.Struct(">BxI")

_WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection(AssociationSocket):
    """pynetdicom's connection, with our ways to read and write.

    All but `wake` is for one thread alone: the one that drives the upper layer.

    Parameters
    ----------
    association
        pynetdicom's association.
    connected
        A socket, connected.
    timeout_s
        Seconds within which the peer must take 128 KiB of what is sent.
    heard, said
        What was read of it before; how many bytes of what is written were sent before.
    """

    def __init__(
        self,
        association: Any,  # noqa: ANN401 - pynetdicom's
        connected: socket.socket,
        *,
        timeout_s: float,
        heard: bytes = b"",
        said: int = 0,
    ) -> None:
        super().__init__(association, client_socket=connected)
        connected.setblocking(False)
        self.timeout_s = timeout_s
        self._raw = connected
        self._ahead = bytearray(heard)
        self._said = said
        self._ended = False
        self._waiting = select.poll()
        self._waiting.register(connected, select.POLLIN)

    # -- reading ---------------------------------------------------------------------------

    def look(self, count: int) -> bool:
        """Tell, without waiting, whether ``count`` bytes can be taken, or the end has come."""
        while len(self._ahead) < count and not self._ended:
            if not self._read_ahead(max(count - len(self._ahead), _READ_AHEAD)):
                return False
        return True

    def wait(self, end: float) -> bool:
        """Wait for one byte, or for the end of the connection, until ``end`` (monotonic)."""
        while not self.look(1):
            if not self._wait(select.POLLIN, end):
                return False
        return True

    def wait_for_whole(self, kind: int, longest: int, end: float) -> bytes | None:
        """Wait for a PDU of a kind, and return it without taking it.

        None if that does not come next, is longer than so many bytes, or is not whole when
        nothing has come any more until ``end``: who reads on finds all that has come.
        """
        ahead = self._ahead
        while not self._ended and not isinstance(self._raw, ssl.SSLSocket):
            if len(ahead) >= _PDU_HEADER.size:
                actual, length = _PDU_HEADER.unpack_from(ahead)
                whole = _PDU_HEADER.size + length
                if actual != kind or whole > longest:
                    return None
                if len(ahead) >= whole:
                    return bytes(ahead[:whole])
            if ahead:
                self._acknowledge()
            # What is waited for is hardly ever there already: to try first would be in vain.
            if not self._wait(select.POLLIN, end):
                return None
            try:
                data = self._raw.recv(_READ_AHEAD)
            except OSError:
                return None
            self._ended = not data
            ahead += data
        return None

    @property
    def has_news(self) -> bool:
        """Whether something may have come that was not taken yet, if only the end."""
        if self._ahead or self._ended or isinstance(self._raw, ssl.SSLSocket):
            return True
        self._waiting.modify(self._raw, select.POLLIN)
        return bool(self._waiting.poll(0))

    @property
    def has_more(self) -> bool:
        """Whether something was read that was not taken yet."""
        return bool(self._ahead)

    def pass_over(self, count: int) -> None:
        """Take bytes that were looked at."""
        del self._ahead[:count]

    def peek(self, count: int) -> bytes:
        """Return bytes that `look` has found, and leave them."""
        return bytes(self._ahead[:count])

    def take(self, count: int, end: float) -> bytes:
        """Return exactly ``count`` bytes.

        Raises
        ------
        EOFError
            If the connection ends before.
        TimeoutError
            If they have not all come by ``end``.
        """
        while len(self._ahead) < count:
            if self._ended:
                raise EOFError("the peer has closed the connection")
            if not self._read_ahead(max(count - len(self._ahead), _READ_AHEAD)):
                self._wait_or_fail(select.POLLIN, end)
        taken = bytes(self._ahead[:count])
        del self._ahead[:count]
        return taken

    def receive_into(self, space: memoryview, end: float) -> int:
        """Put what comes next into ``space``; return how much it was, at least one byte.

        Raises
        ------
        EOFError, TimeoutError
            As `take` does.
        """
        if self._ahead:
            count = min(len(self._ahead), len(space))
            space[:count] = self._ahead[:count]
            del self._ahead[:count]
            return count
        while not self._ended:
            try:
                count = self._raw.recv_into(space)
            except _WOULD_BLOCK as error:
                self._wait_or_fail(_needed(error, select.POLLIN), end)
                continue
            self._acknowledge()
            if count:
                return count
            self._ended = True
        raise EOFError("the peer has closed the connection")

    def drop(self) -> None:
        """Read what is there into nowhere.

        Raises
        ------
        EOFError
            If the peer has closed the connection.
        """
        self._ahead.clear()
        while not self._ended and self._read_ahead(65536):
            self._ahead.clear()
        if self._ended:
            raise EOFError("the peer has closed the connection")

    def _read_ahead(self, wanted: int) -> bool:
        """Take what is there, up to ``wanted`` bytes; False if nothing is."""
        try:
            data = self._raw.recv(min(wanted, 65536))
        except _WOULD_BLOCK as error:
            if isinstance(error, ssl.SSLWantWriteError):  # TLS answers a change of keys first
                self._wait(select.POLLOUT, time.monotonic() + 1.0)
            return False
        except OSError:
            data = b""  # reset: what was not read is lost, and so is the connection
        self._acknowledge()
        self._ended = not data
        self._ahead += data
        return True

    def _acknowledge(self) -> None:
        # DCMTK's senders leave Nagle's algorithm on: the end of each message waits for our
        # acknowledgement, which the kernel delays by 40 ms unless told each time not to.
        with contextlib.suppress(OSError):
            self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    # -- writing ---------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send all of ``data``; meanwhile what the peer sends is read ahead.

        A peer that sends without reading and an archive that writes without reading would wait
        for each other for ever.

        Raises
        ------
        OSError
            If the connection is gone, or the peer does not take it in time.
        """
        left = memoryview(data)
        if self._said:
            said = min(self._said, len(left))
            self._said, left = self._said - said, left[said:]
        taken, end = 0, time.monotonic() + self.timeout_s
        while left:
            count = self._written(left, end)
            left = left[count:]
            taken += count
            if taken >= _WRITTEN_AT_ONCE:
                taken, end = 0, time.monotonic() + self.timeout_s

    def _written(self, piece: memoryview, end: float) -> int:
        try:
            return self._raw.send(piece)
        except _WOULD_BLOCK as error:
            needed = _needed(error, select.POLLOUT)
        room = not self._ended and len(self._ahead) < _MOST_AHEAD
        if self._wait_or_fail(needed | (select.POLLIN if room else 0), end) & select.POLLIN:
            self._read_ahead(65536)
        return 0

    # -- waiting ---------------------------------------------------------------------------

    def _wait(self, events: int, end: float) -> int:
        """Wait for one of ``events``; return what happened, 0 if nothing did by ``end``."""
        left = end - time.monotonic()
        if left <= 0:
            return 0
        self._waiting.modify(self._raw, events)
        happened = self._waiting.poll(left * 1000 + 1)
        return happened[0][1] if happened else 0

    def _wait_or_fail(self, events: int, end: float) -> int:
        happened = self._wait(events, end)
        if not happened:
            raise TimeoutError("the peer has been silent too long")
        return happened

    def wake(self) -> None:
        """End whatever wait there is, from any thread: nothing more is read."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._raw, socket.SHUT_RD)

    def become(self, connected: socket.socket) -> None:
        """Go on with the same connection under TLS, before anything was read of it."""
        connected.setblocking(False)
        self._raw = self.socket = connected

    # -- what pynetdicom calls -------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether something can be read at once, if only the end."""
        return self.socket is not None and self.look(1)

    def recv(self, nr_bytes: int) -> bytearray:
        """Return exactly so many bytes."""
        return bytearray(self.take(nr_bytes, time.monotonic() + self.timeout_s))

    def send(self, bytestream: bytes) -> None:
        """Send; when that fails, the connection is closed (Evt17)."""
        try:
            self.write(bytestream)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")

    def _shutdown_socket(self) -> None:
        # pynetdicom's leaves the handle open when the peer has reset the connection.
        if isinstance(self._raw, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self._raw.unwrap()  # says that this is the end, and waits for nothing
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._raw, socket.SHUT_RDWR)
        self._raw.close()


def _needed(error: OSError, otherwise: int) -> int:
    """Return what to wait for: TLS may have to write to read, and the other way round."""
    if isinstance(error, ssl.SSLWantReadError):
        return select.POLLIN
    if isinstance(error, ssl.SSLWantWriteError):
        return select.POLLOUT
    return otherwise
