"""TLS under an association (PS3.15 §B.12): who begins it, who the peer is, two threads on it.

What is spoken, and with which certificates, is `archive.auth.certificates`' to say.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeVar

from cryptography import x509
from cryptography.x509.oid import NameOID

from archive.auth import certificates
from archive.auth.reloading import Reloaded
from archive.config import Config, DimseSection, Peer

Mode = Literal["off", "optional", "required"]
Result = TypeVar("Result")

# The first byte of a TLS record that holds a handshake (RFC 8446 §5.1); that of an
# A-ASSOCIATE-RQ is 01 (PS3.8 §9.3.2).
_HANDSHAKE: Final = b"\x16"
_POLL_S: Final = 0.5
_PARTING_S: Final = 1.0

_FAULTS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no certificate",
    "UNSUPPORTED_PROTOCOL": "the peer speaks no TLS as new as 1.2",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer speaks no TLS as new as 1.2",
    "NO_SHARED_CIPHER": "the peer offers no cipher suite that is good enough (PS3.15 B.12)",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer finds nothing in common, or wants a certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer wants a certificate (tls_certificate)",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know the CA of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer finds our certificate bad",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not accept our certificate",
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS there",
}


class TlsRefusedError(Exception):
    """A connection is not taken; the text says why."""


@dataclass(frozen=True, slots=True)
class TlsSubject:
    """Whom a verified certificate names.

    Parameters
    ----------
    name
        The subject's distinguished name, as RFC 4514 writes it.
    short_names
        Its common names, and the DNS names of its subjectAltName.
    """

    name: str
    short_names: frozenset[str]

    def __str__(self) -> str:
        """Return the distinguished name, or what stands in for one."""
        return self.name or ", ".join(sorted(self.short_names))

    def matches(self, wanted: str) -> bool:
        """Tell whether this is who a peer's ``tls_subject`` names.

        Parameters
        ----------
        wanted
            With a ``=`` in it a whole distinguished name (RFC 4514), of which every part must
            be the same; else a common name or DNS name. The case of values does not matter.
        """
        if "=" not in wanted:
            return wanted.casefold() in self.short_names
        try:
            return _comparable(wanted) == _comparable(self.name)
        except ValueError:
            return False


def _comparable(name: str) -> list[frozenset[tuple[str, str]]]:
    parsed = x509.Name.from_rfc4514_string(name)
    return [
        frozenset((part.oid.dotted_string, str(part.value).casefold()) for part in rdn)
        for rdn in parsed.rdns
    ]


class SecureSocket(ssl.SSLSocket):
    """A TLS connection that one thread may read while another writes.

    OpenSSL forbids two calls on one connection at a time, and CPython does not prevent them
    (it does from 3.13 on). Here each call is short, because the socket never blocks inside
    OpenSSL: it waits outside, without the lock, as long as its timeout allows.
    """

    _shared = False

    def do_handshake(self, block: bool = False) -> None:
        """Agree with the peer, within the timeout; then let threads share the connection."""
        super().do_handshake(block)
        expected = getattr(self.context, "expected_subject", "")
        if expected:
            _check_subject(self, expected)
        self._timeout_s = super().gettimeout()
        self._turn = threading.Lock()
        self._sending = threading.RLock()
        super().setblocking(False)
        self._shared = True

    def settimeout(self, value: float | None) -> None:
        """Set how long a call may wait, in seconds; None: for ever."""
        if self._shared:
            self._timeout_s = value
        else:
            super().settimeout(value)

    def gettimeout(self) -> float | None:
        """Return how long a call may wait."""
        return self._timeout_s if self._shared else super().gettimeout()

    def setblocking(self, flag: bool) -> None:
        """Let calls wait for ever, or not at all."""
        self.settimeout(None if flag else 0.0)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002, ANN401 - its signature
        """Read up to ``len`` bytes; what `recv` and `recv_into` come to."""
        return self._when_ready(partial(super().read, len, buffer))

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ANN401 - any buffer
        """Write what goes into one record; return how much that was."""
        if not self._shared:
            return super().send(data, flags)
        # What could not be written must be tried again before anything else is.
        with self._sending:
            return self._when_ready(partial(super().send, data, flags))

    def sendall(self, data: Any, flags: int = 0) -> None:  # noqa: ANN401 - any buffer
        """Write everything; PDUs of two threads do not mix."""
        with self._sending:
            super().sendall(data, flags)

    def pending(self) -> int:
        """Return how many decrypted bytes wait, which `select` does not see."""
        if not self._shared:
            return super().pending()
        with self._turn:
            return super().pending()

    def shutdown(self, how: int) -> None:
        """Say that this is the end (RFC 8446 §6.1, close_notify), and close the connection."""
        if self._shared:
            with self._turn, contextlib.suppress(OSError, ValueError):
                super().unwrap()  # does not wait for the peer to say the same
        super().shutdown(how)

    def _when_ready(self, act: Callable[[], Result]) -> Result:
        if not self._shared:
            return act()
        limit = self._timeout_s
        end = None if limit is None else time.monotonic() + limit
        while True:
            try:
                with self._turn:
                    return act()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                if limit == 0:
                    raise
                reading = isinstance(error, ssl.SSLWantReadError)
            except ValueError as error:  # another thread has closed it
                raise ConnectionResetError("the connection is closed") from error
            if not wait_for(self, select.POLLIN if reading else select.POLLOUT, end):
                raise TimeoutError("timed out")


def wait_for(connection: socket.socket, events: int, end: float | None) -> bool:
    """Wait for a socket until ``end`` of the monotonic clock; return whether it is ready.

    Raises
    ------
    OSError
        If it is closed.
    """
    poll = select.poll()  # unlike `select.select`, for any number of open files
    try:
        poll.register(connection, events)
    except ValueError as error:
        raise ConnectionResetError("the connection is closed") from error
    left = None if end is None else max(end - time.monotonic(), 0) * 1000
    return bool(poll.poll(left))


class TlsAcceptor:
    """Begins TLS with the peers that a server accepts, each in its association's own thread.

    Parameters
    ----------
    settings
        Which certificates, and how long a peer may take.
    stopping
        Set when the server stops: a peer that has said nothing yet is not waited for.

    Raises
    ------
    ConfigError
        If a certificate or key cannot be used.
    """

    def __init__(self, settings: DimseSection, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._context: Reloaded[ssl.SSLContext] | None = None
        if certificates.speaks_tls(settings):
            self._context = Reloaded(
                "certificates", certificates.server_files(settings), self._make_context
            )

    def _make_context(self) -> ssl.SSLContext:
        context = certificates.server_context(self._settings)
        context.sslsocket_class = SecureSocket
        return context

    def secure(
        self, connection: socket.socket, mode: Mode
    ) -> tuple[socket.socket, TlsSubject | None]:
        """Return the connection to go on with, and whose certificate the peer showed.

        Parameters
        ----------
        connection
            Just accepted; another one is returned when TLS is spoken.
        mode
            Whether its port takes TLS.

        Raises
        ------
        TlsRefusedError
            If the peer may not go on; the text says why.
        EOFError
            If it left without a word.
        """
        end = time.monotonic() + self._settings.association_timeout_s
        begins_tls = self._first_byte(connection, end) == _HANDSHAKE
        if not begins_tls and mode == "required":
            raise TlsRefusedError(
                "the peer does not speak TLS, and this port takes nothing else"
            )
        if not begins_tls:
            return connection, None
        if mode == "off" or self._context is None:
            raise TlsRefusedError("the peer speaks TLS, which is off here ([dimse] tls)")
        connection.settimeout(max(end - time.monotonic(), 0.1))
        secured = self._context.get().wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        try:
            secured.do_handshake()
            subject = subject_of(secured)
        except (OSError, ValueError) as error:
            _part(secured)
            raise TlsRefusedError(tls_fault(error)) from error
        secured.settimeout(self._settings.network_timeout_s)
        return secured, subject

    def _first_byte(self, connection: socket.socket, end: float) -> bytes:
        while not self._stopping.is_set() and time.monotonic() < end:
            if wait_for(connection, select.POLLIN, min(end, time.monotonic() + _POLL_S)):
                first = connection.recv(1, socket.MSG_PEEK)
                if not first:
                    raise EOFError
                return first
        if self._stopping.is_set():
            raise EOFError
        raise TlsRefusedError("the peer said nothing in time (association_timeout_s)")


def _part(connection: ssl.SSLSocket) -> None:
    """Close a connection that is refused, but let the peer read the alert that says why.

    Closed with something unread it would be reset, and the alert lost.
    """
    end = time.monotonic() + _PARTING_S
    with connection, contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while wait_for(connection, select.POLLIN, end) and connection.recv(65536):
            pass


class _PeerContext(ssl.SSLContext):
    """A context for one peer, whose certificate must name a certain subject."""

    expected_subject: str = ""


def client_context(config: Config, peer: Peer | None = None) -> ssl.SSLContext:
    """Return the context of one connection that this archive opens.

    It is made anew each time, so that it is never older than the files.

    Parameters
    ----------
    config
        The settings.
    peer
        Who is called. With a ``tls_subject`` its certificate must name that; without, the
        host that is called, for which ``wrap_socket`` wants to be told ``server_hostname``.

    Raises
    ------
    ConfigError
        If a file is missing or wrong.
    """
    context = certificates.client_context(config.dimse, kind=_PeerContext)
    context.sslsocket_class = SecureSocket
    if peer is not None and peer.tls_subject:
        context.check_hostname = False
        context.expected_subject = peer.tls_subject
    return context


def _check_subject(connection: ssl.SSLSocket, expected: str) -> None:
    subject = subject_of(connection)
    if subject is None or not subject.matches(expected):
        error = ssl.SSLCertVerificationError(f"the peer is {subject}, not {expected!r}")
        error.verify_message = str(error.args[0])
        raise error


def subject_of(connection: ssl.SSLSocket) -> TlsSubject | None:
    """Return whom the peer's verified certificate names; None when it showed none.

    Raises
    ------
    ValueError
        If the certificate cannot be read.
    """
    encoded = connection.getpeercert(binary_form=True)
    if encoded is None:
        return None
    certificate = x509.load_der_x509_certificate(encoded)
    names = {
        str(attribute.value)
        for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    }
    with contextlib.suppress(x509.ExtensionNotFound):
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names |= set(extension.value.get_values_for_type(x509.DNSName))
    return TlsSubject(
        certificate.subject.rfc4514_string(), frozenset(name.casefold() for name in names)
    )


def tls_fault(error: Exception) -> str:
    """Say in words why TLS could not be agreed on."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is not good: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no TLS handshake in time; does the peer speak TLS on this port?"
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        reason = error.reason or "no reason"
        return _FAULTS.get(reason, f"TLS handshake failed: {reason.replace('_', ' ').lower()}")
    if isinstance(error, OSError):
        return "the peer closed the connection in the TLS handshake; does it speak TLS there?"
    return f"the peer's certificate cannot be read: {error}"
