"""TLS under an association (PS3.15 §B.12): who begins it, and who the peer is.

What is spoken, and with which certificates, is `archive.auth.certificates`' to say.
"""

import contextlib
import importlib
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from archive.auth import certificates
from archive.auth.reloading import Reloaded
from archive.config import Config, ConfigError, DimseSection, Peer

Mode = Literal["off", "optional", "required"]

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


def _x509() -> Any:  # noqa: ANN401 - a module
    # Loaded with the first certificate of a peer: where no TLS is spoken, nobody needs it.
    return importlib.import_module("cryptography.x509")


def _comparable(name: str) -> list[frozenset[tuple[str, str]]]:
    parsed = _x509().Name.from_rfc4514_string(name)
    return [
        frozenset((part.oid.dotted_string, str(part.value).casefold()) for part in rdn)
        for rdn in parsed.rdns
    ]


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
    """

    def __init__(self, settings: DimseSection, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._context: Reloaded[ssl.SSLContext] | None = None
        if certificates.speaks_tls(settings):
            self._context = Reloaded(
                "certificates",
                certificates.server_files(settings),
                partial(certificates.server_context, settings),
            )

    def secure(
        self, connection: socket.socket, mode: Mode, *, heard: bytes = b""
    ) -> tuple[socket.socket, TlsSubject | None]:
        """Return the connection to go on with, and whose certificate the peer showed.

        Parameters
        ----------
        connection
            Just accepted; another one is returned when TLS is spoken.
        mode
            Whether its port takes TLS.
        heard
            What was read of it before, without TLS.

        Raises
        ------
        TlsRefusedError
            If the peer may not go on; the text says why.
        EOFError
            If it left without a word.
        """
        end = time.monotonic() + self._settings.association_timeout_s
        begins_tls = (heard[:1] or self._first_byte(connection, end)) == _HANDSHAKE
        if not begins_tls and mode == "required":
            raise TlsRefusedError(
                "the peer does not speak TLS, and this port takes nothing else"
            )
        if not begins_tls:
            return connection, None
        if mode == "off" or self._context is None:
            raise TlsRefusedError("the peer speaks TLS, which is off here ([dimse] tls)")
        try:
            context = self._context.get()
        except ConfigError as error:
            raise TlsRefusedError(f"TLS cannot be spoken: {error}") from error
        connection.settimeout(max(end - time.monotonic(), 0.1))
        secured = context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        try:
            secured.do_handshake()
            subject = subject_of(secured)
        except (OSError, ValueError) as error:
            _part(secured)
            raise TlsRefusedError(tls_fault(error)) from error
        # With TLS 1.3 the client speaks last, and then first again: with Nagle's algorithm on
        # it waits for our acknowledgement, which the kernel would delay by 40 ms.
        secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
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


def client_context(config: Config, peer: Peer) -> ssl.SSLContext:
    """Return the context of one connection that this archive opens.

    It is made anew each time, so that it is never older than the files.

    Parameters
    ----------
    config
        The settings.
    peer
        Who is called. With a ``tls_subject`` its certificate must name that (`call_securely`);
        without, the host that is called.

    Raises
    ------
    ConfigError
        If a file is missing or wrong.
    """
    context = certificates.client_context(config.dimse)
    context.check_hostname = not peer.tls_subject
    return context


def call_securely(
    connection: socket.socket, peer: Peer, context: ssl.SSLContext
) -> ssl.SSLSocket:
    """Begin TLS on a connection that this archive has opened, within its timeout.

    Raises
    ------
    OSError
        If the peer is not who it must be, or nothing is agreed on (`tls_fault` tells); the
        connection is closed then.
    """
    secured = context.wrap_socket(connection, server_hostname=peer.host)
    if peer.tls_subject:
        try:
            _require_subject(secured, peer.tls_subject)
        except OSError:
            secured.close()
            raise
    return secured


def _require_subject(connection: ssl.SSLSocket, expected: str) -> None:
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
    x509 = _x509()
    certificate = x509.load_der_x509_certificate(encoded)
    common_names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    names = {str(attribute.value) for attribute in common_names}
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
