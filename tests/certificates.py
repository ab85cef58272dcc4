"""Certificates for tests: a CA, what it signs, and files of them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @property
    def both(self) -> tuple[str, str]:
        return str(self.certificate), str(self.key)


def _names(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test Hospital"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


class Authority:
    """A certificate authority of its own."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _names(name)
        now = datetime.now(UTC)
        own = self._builder(name, self._key.public_key(), now - timedelta(days=1), now)
        own = own.not_valid_after(now + timedelta(days=3650)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = folder / f"{name.replace(' ', '-')}.pem"
        self.certificate.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(PEM))

    def _builder(self, common_name, public_key, begins, _now):
        return (
            x509.CertificateBuilder()
            .subject_name(_names(common_name))
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
        )

    def issue(
        self,
        common_name: str,
        *,
        file: str | None = None,
        dns: tuple[str, ...] = (),
        days: int = 30,
        kind: str = "ec",
    ) -> Pair:
        """Sign a certificate for loopback; negative days: it ended that long ago."""
        key = (
            rsa.generate_private_key(65537, 2048)
            if kind == "rsa"
            else ec.generate_private_key(ec.SECP256R1())
        )
        now = datetime.now(UTC)
        begins = now - timedelta(days=abs(days) + 2)
        alternatives = [x509.IPAddress(ip_address("127.0.0.1")), *map(x509.DNSName, dns)]
        certificate = (
            self._builder(common_name, key.public_key(), begins, now)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        name = file or common_name
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(PEM))
        pair.key.write_bytes(key.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
        return pair


def encrypt(key: Path, password: bytes = b"secret") -> None:
    """Protect a key file with a password."""
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    how = serialization.BestAvailableEncryption(password)
    key.write_bytes(loaded.private_bytes(PEM, PKCS8, how))
