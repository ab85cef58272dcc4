"""The sections of the settings: every key, its default, and what it is for.

`archive.config` reads them.
"""

import ipaddress
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ANYWHERE: Final = "any"


class Section(BaseModel):
    """What all sections and tables have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Role = Literal["all", "http", "dicom", "background"]
WEB_ROLES: Final[tuple[Role, ...]] = ("all", "http")
DICOM_ROLES: Final[tuple[Role, ...]] = ("all", "dicom")


class ArchiveSection(Section):
    """The archive itself."""

    role: Role = "all"
    """What this node does: serve DICOMweb, serve DICOM, work by itself, or all of it."""

    data_dir: Path = Path("data")
    """Folder that holds objects and index; relative to the configuration file."""

    public_url: str = Field(
        default="", pattern=r"^(https?://[^\s\"'<>/?#]+(/[^\s\"'<>?#]*)?)?$"
    )
    """How the outside reaches this server, e.g. "https://example.org/room"; "": as asked."""

    collection: str = "default"
    """Name of the collection that arriving instances go to."""

    site: str = ""
    """Name of the site that arriving instances are counted for, unless the peer has one."""

    conflict_policy: Literal["keep-first", "replace"] = "keep-first"
    """Which of two contents under the same UIDs is shown; the other is held aside."""

    keep_free_bytes: int = Field(default=1_000_000_000, ge=0)
    """Instances are refused while the volume has less free than this, in bytes."""

    keep_deleted_days: int = Field(default=30, ge=0)
    """Days after which deleted instances are purged for good; 0: never by itself."""

    drain_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds that associations and requests may go on after SIGTERM."""


class HttpSection(Section):
    """The HTTP face: DICOMweb, health, metrics."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = Field(default=8080, ge=0, le=65535)
    """TCP port; 0 takes any free one."""

    workers: int = Field(default=0, ge=0)
    """Worker processes; 0: one a core, at most 4."""

    cors_origins: tuple[str, ...] = ("*",)
    """Origins whose pages may read answers; "*" for all."""

    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose Forwarded and X-Forwarded headers are believed."""

    max_part_bytes: int = Field(default=0, ge=0)
    """Largest instance taken by STOW-RS, in bytes; 0: no limit."""

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            ipaddress.ip_network(text, strict=False)  # its ValueError names what is wrong
        return given

    @property
    def proxies(self) -> tuple[Network, ...]:
        """`trusted_proxies`, read."""
        return tuple(ipaddress.ip_network(text, strict=False) for text in self.trusted_proxies)


class Service(StrEnum):
    """What a peer may ask for over DICOM; verification (C-ECHO) is everyone's."""

    STORE = "store"
    FIND = "find"
    RETRIEVE = "retrieve"
    COMMIT = "commit"


class Peer(Section):
    """An application entity this archive knows (PS3.8 §9.3)."""

    ae_title: str = Field(
        min_length=1, max_length=16, pattern=r"^[ -\[\]-~]*[!-\[\]-~][ -\[\]-~]*$"
    )
    """Its AE title."""

    host: str = ""
    """Its name or address: where it is sent to, and where it must call from."""

    port: int = Field(default=0, ge=0, le=65535)
    """Its port; 0: it only calls, nothing can be sent to it."""

    site: str = ""
    """The site its instances are counted for."""

    services: tuple[Service, ...] = tuple(Service)
    """What it may ask for."""

    calls_from: tuple[str, ...] = ()
    """Networks it may call from, or "any"; without: its host."""

    tls: bool = False
    """Whether it is spoken to over TLS."""

    tls_subject: str = ""
    """Subject of the certificate it must show; with one it may call from anywhere."""

    max_associations: int = Field(default=0, ge=0)
    """Associations it may have open at once; 0: no limit of its own."""

    transfer_syntaxes: tuple[str, ...] = ()
    """Transfer syntaxes it is sent, best first; without: as stored, else uncompressed."""

    @field_validator("ae_title")
    @classmethod
    def _is_trimmed(cls, given: str) -> str:
        return given.strip()  # spaces at either end mean nothing (PS3.5 §6.2, VR AE)

    @field_validator("calls_from")
    @classmethod
    def _are_networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            if text != ANYWHERE:
                ipaddress.ip_network(text, strict=False)  # its ValueError names what is wrong
        return given

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens; None when nothing can be sent to it."""
        return (self.host, self.port) if self.host and self.port else None


class ForwardRule(Section):
    """Which newly arrived studies are forwarded, and to whom."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Its name, in status and logs."""

    to: str = Field(min_length=1, max_length=16)
    """AE title of the peer they are sent to."""

    where: str = ""
    """Which studies, as a search for studies asks (QIDO-RS); without: all."""

    settle_s: float = Field(default=60.0, ge=0)
    """Seconds without anything new after which a study is sent."""

    site: str = ""
    """Only instances that are counted for this site."""

    source: str = ""
    """Only instances that came from this AE title."""

    @field_validator("to", "source")
    @classmethod
    def _is_trimmed(cls, given: str) -> str:
        return given.strip()


class DimseSection(Section):
    """The DICOM face: C-STORE, C-FIND, C-MOVE, C-GET, C-ECHO."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = Field(default=11112, ge=0, le=65535)
    """TCP port; 0 takes any free one."""

    ae_title: str = Field(default="FILEROOM", min_length=1, max_length=16)
    """AE title of this archive."""

    workers: int = Field(default=0, ge=0)
    """Worker processes; 0: one a core, at most 4."""

    engine: Literal["direct", "stock"] = "direct"
    """How associations are served: our own receive path, or pynetdicom's."""

    max_associations: int = Field(default=400, ge=1)
    """Associations served at once, by all workers together."""

    network_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds within which a PDU once begun must be whole, and the peer take what is sent."""

    idle_timeout_s: float = Field(default=300.0, gt=0)
    """Seconds that an association may rest between messages before it is aborted."""

    association_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds that negotiation and release may take (ARTIM)."""

    max_matches: int = Field(default=100_000, ge=0)
    """Matches that one C-FIND is answered with; 0: all. More end with a warning (B001)."""

    spool_threshold_bytes: int = Field(default=8 * 1024 * 1024, ge=0)
    """Larger instances are received, or transcoded, into a file instead of memory, in bytes."""

    keep_associations_s: float = Field(default=1.0, ge=0)
    """Seconds that an association with a C-MOVE destination is kept for the next; 0: none."""

    tls: Literal["off", "optional", "required"] = "off"
    """TLS on `port`: not spoken, spoken with whoever begins it, or with everyone."""

    tls_port: int = Field(default=0, ge=0, le=65535)
    """A second port on which only TLS is spoken (registered: 2762); 0: none."""

    tls_certificate: str = ""
    """Our certificate and those between it and its CA, a PEM file; relative to this file."""

    tls_key: str = ""
    """Its private key, a PEM file without a password; "": in the certificate's file."""

    tls_client_ca: str = ""
    """CA certificates that clients' must be signed by, a PEM file."""

    tls_client_certificates: Literal["none", "optional", "required"] = "none"
    """Whether clients are asked for a certificate, and refused without one."""

    tls_peer_ca: str = ""
    """CA certificates that called peers' must be signed by, a PEM file; "": the system's."""

    strangers: tuple[Service, ...] = tuple(Service)
    """What callers who are no peers may ask for, within `[auth] allow_anonymous`."""

    require_identity: bool = False
    """Whether only callers are let in who prove a user identity (docs/dicom-security.md)."""

    peers: tuple[Peer, ...] = ()
    """Known application entities; `fileroom peer add` makes more known while it runs."""

    forward: tuple[ForwardRule, ...] = ()
    """What is forwarded; `fileroom forward add` makes more rules while it runs."""

    forward_associations: int = Field(default=1, ge=1)
    """Studies forwarded to one peer at once, by all nodes together."""

    forward_retry_s: float = Field(default=10.0, gt=0)
    """Seconds until a failed forward is tried again; doubled each time, up to an hour."""

    forward_attempts: int = Field(default=200, ge=0)
    """Failures without progress after which a forward is given up; 0: no limit."""

    forward_days: float = Field(default=7.0, ge=0)
    """Days after which a forward that still fails is given up; 0: no limit."""


class CommitmentSection(Section):
    """Storage commitment: how long a report is tried, and remembered."""

    same_association: bool = True
    """Whether a report is first tried on the association that asked, if it is still open."""

    retry_s: float = Field(default=30.0, gt=0)
    """Seconds until a report that failed is tried again; twice as long each further time."""

    retry_days: float = Field(default=7.0, gt=0)
    """Days after which a report that nobody takes is given up."""

    keep_days: float = Field(default=30.0, ge=0)
    """Days that requests are listed after they were answered or given up."""


class IndexSection(Section):
    """The index."""

    url: str = "sqlite"
    """ "sqlite" (a file in data_dir) or "postgresql://user@host/database"."""

    pool_size: int = Field(default=8, ge=3, le=1000)
    """Connections to PostgreSQL that a process opens at most."""

    wait_s: float = Field(default=60.0, ge=0)
    """Seconds that the start waits for a PostgreSQL server that does not answer yet."""


class StorageSection(Section):
    """The object store."""

    url: str = Field(default="disk", pattern=r"^(disk|(s3|gs|az)://[^/\s?#]+(/[^\s?#]*)?)$")
    """ "disk": files in data_dir; or "s3://bucket/prefix", "gs://...", "az://..."."""

    endpoint: str = Field(default="", pattern=r"^(https?://[^\s?#@]+)?$")
    """URL of the bucket's server, e.g. "https://s3.example.org"; "": the vendor's own."""

    region: str = ""
    """Region of the bucket; "": what the environment says, else us-east-1."""

    allow_http: bool = False
    """Whether the server may be spoken to without TLS."""

    addressing: Literal["path", "virtual"] = "path"
    """Where the bucket is named: in the path of a URL, or in its host."""

    checksum: Literal["sha256", "crc64nvme", "none"] = "sha256"
    """Checksum that objects are sent with, beside the signature (S3)."""

    deadline_s: float = Field(default=30.0, gt=0, le=240)
    """Seconds that a request is repeated for while the server fails."""

    cache_bytes: int = Field(default=10_000_000_000, ge=0)
    """What is kept of a bucket under data_dir/cache, in bytes, by all workers; 0: nothing."""


_Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip


class AuthSection(Section):
    """Who may do what."""

    allow_anonymous: tuple[Literal["read", "write", "delete"], ...] = ()
    """What strangers may do; must be written where more than this machine is listened to."""

    jwt_key_file: str = ""
    """Public keys (PEM, JWKS) or secret that tokens are checked with; "": none is taken."""

    jwt_algorithms: tuple[_Algorithm, ...] = ("RS256", "ES256", "EdDSA")
    """Signatures that are taken."""

    jwt_issuer: str = ""
    """Who must have issued a token; "": anyone whose signature is right."""

    jwt_audience: str = ""
    """Whom a token must be meant for; "": only tokens that name nobody are taken."""

    jwt_leeway_s: float = Field(default=30.0, ge=0, le=600)
    """Seconds that clocks may differ."""


class RenderSection(Section):
    """Decoding of pixels, in processes of their own."""

    workers: int = Field(default=0, ge=0)
    """Worker processes; 0: one for every two cores."""

    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds after which a worker that decodes is killed."""

    memory_limit_bytes: int = Field(default=2 * 1024**3, ge=256 * 1024**2)
    """Address space of a worker, in bytes."""

    cache_bytes: int = Field(default=64 * 1024**2, ge=0)
    """Made images that one HTTP worker remembers, in bytes."""

    decoded_bytes: int = Field(default=128 * 1024**2, ge=0)
    """Decoded frames that one render worker remembers, in bytes."""


class ViewerSection(Section):
    """The viewer that `fileroom viewer install` fetches, given at /viewer/."""

    folder: Path = Path("viewer")
    """Folder that holds its files; relative to data_dir."""


class LoggingSection(Section):
    """Logs: one JSON object a line, on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severity that is written."""
