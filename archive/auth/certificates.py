"""TLS as the settings want it: contexts, certificates, and what is wrong with their files.

TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, nothing older: the BCP 195
TLS Secure Transport Connection Profiles (PS3.15 §B.12, §B.13; RFC 8996, RFC 9325).
"""

import importlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from archive.config import ConfigError, DimseSection

# For TLS 1.2; those of TLS 1.3 are all good. DHE is left out as RFC 9325 §4.1 advises. Level 2
# asks for RSA keys of 2048 bits and signatures better than SHA-1.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
_PRIVATE_KEY: Final = b"PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What an operator wants to know of a certificate.

    Parameters
    ----------
    subject
        Distinguished name, as RFC 4514 writes it.
    expires_at
        When it ends.
    """

    subject: str
    expires_at: datetime

    @property
    def days_left(self) -> int:
        """Whole days until it ends; negative afterwards."""
        return (self.expires_at - datetime.now(UTC)).days


def speaks_tls(settings: DimseSection) -> bool:
    """Tell whether any port takes TLS."""
    return settings.tls != "off" or settings.tls_port != 0


def server_files(settings: DimseSection) -> list[Path]:
    """Return the files that the server's context is made of."""
    names = (settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    return [Path(name) for name in names if name]


def server_context(settings: DimseSection) -> ssl.SSLContext:
    """Return the context for connections that peers open.

    Raises
    ------
    ConfigError
        If a file is missing or wrong.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load_own(context, settings)
    if settings.tls_client_certificates != "none":
        _load_authorities(context, "tls_client_ca", settings.tls_client_ca)
        required = settings.tls_client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    # A ticket would let a client in again after its certificate, or its CA, is no longer good;
    # and the worker that gave it is seldom the one that sees it.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


def client_context(settings: DimseSection) -> ssl.SSLContext:
    """Return the context for connections to peers: certificate and host name are checked.

    Raises
    ------
    ConfigError
        If a file is missing or wrong.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    if settings.tls_peer_ca:
        _load_authorities(context, "tls_peer_ca", settings.tls_peer_ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if settings.tls_certificate:  # shown to peers that ask for one
        _load_own(context, settings)
    return context


def check_tls(settings: DimseSection) -> None:
    """Make sure that TLS can be spoken as the settings want it.

    Raises
    ------
    ConfigError
        If a file is missing or wrong; the text says which, and what to do.
    """
    if speaks_tls(settings):
        server_context(settings)
    if settings.tls_certificate or settings.tls_peer_ca:
        client_context(settings)


def read_certificate(settings: DimseSection) -> Certificate:
    """Return what our certificate says.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    content = _read("tls_certificate", settings.tls_certificate)
    try:
        # Only who reports on it reads one; what serves TLS does without a library this large.
        x509 = importlib.import_module("cryptography.x509")
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise _not_pem("tls_certificate", settings.tls_certificate) from error
    return Certificate(certificate.subject.rfc4514_string(), certificate.not_valid_after_utc)


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _load_own(context: ssl.SSLContext, settings: DimseSection) -> None:
    certificate, key = settings.tls_certificate, settings.tls_key or settings.tls_certificate
    key_setting = "tls_key" if settings.tls_key else "tls_certificate"
    if b"BEGIN CERTIFICATE" not in _read("tls_certificate", certificate):
        raise _not_pem("tls_certificate", certificate)
    if _PRIVATE_KEY not in _read(key_setting, key):
        raise ConfigError(
            f"[dimse] {key_setting}: {key} holds no private key in PEM format; set tls_key to "
            "the file that does"
        )
    try:
        context.load_cert_chain(certificate, key, password=_encrypted(key_setting, key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"[dimse] {key_setting}: {key} is not the key of the certificate {certificate}"
            ) from error
        why = (error.reason or "not understood").replace("_", " ").lower()
        raise ConfigError(
            f"[dimse] tls_certificate, tls_key: {certificate} with {key} cannot be used: {why}"
        ) from error


def _encrypted(setting: str, key: str) -> Callable[[], str]:
    """Return what OpenSSL asks for a password; it would ask on the terminal otherwise."""

    def refuse() -> str:
        raise ConfigError(
            f"[dimse] {setting}: {key} is encrypted, and nobody can type its password at a "
            "restart; write it without one, readable by this user alone: "
            "openssl pkey -in ENCRYPTED -out KEY"
        )

    return refuse


def _load_authorities(context: ssl.SSLContext, setting: str, file: str) -> None:
    content = _read(setting, file)
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise _not_pem(setting, file) from error


def _read(setting: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"[dimse] {setting}: cannot read {file}: {error.strerror}") from error


def _not_pem(setting: str, file: str) -> ConfigError:
    return ConfigError(f"[dimse] {setting}: {file} holds no certificate in PEM format")
