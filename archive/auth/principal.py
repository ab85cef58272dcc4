"""Who asks, and what that principal may see: the first argument of every public service."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from archive.config import Config, Peer, Service
from storage.index.scope import Scope

PUBLIC_PARTITION = "public"
SEQUESTERED_PARTITION = "sequestered"


class Right(StrEnum):
    """An act a principal may be allowed."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """One who asks.

    Parameters
    ----------
    name
        How the principal is called in logs, the change feed and the audit trail.
    site
        The contributing site it speaks for; empty when it speaks for none.
    rights
        What it may do.
    scope
        What it may see: becomes part of every SELECT.
    """

    name: str
    site: str
    rights: frozenset[Right]
    scope: Scope


# What each service over DICOM is, as a right.
NEEDED_RIGHTS: Final = {
    Service.STORE: Right.WRITE,
    Service.COMMIT: Right.WRITE,
    Service.FIND: Right.READ,
    Service.RETRIEVE: Right.READ,
}

PUBLIC_SCOPE = Scope(collections=None, partitions=frozenset({PUBLIC_PARTITION}))

# A stranger on this machine, as long as the settings say nothing else.
ANONYMOUS = Principal(
    name="anonymous",
    site="",
    rights=frozenset({Right.READ, Right.WRITE}),
    scope=PUBLIC_SCOPE,
)

# The one who holds the command line and the data directory.
OPERATOR = Principal(
    name="operator",
    site="",
    rights=frozenset(Right),
    scope=Scope(collections=None, partitions=None),
)


def anonymous_rights(config: Config) -> frozenset[Right]:
    """Return what strangers may do, whichever protocol they speak.

    What ``[auth] allow_anonymous`` says; where it says nothing the archive listens to this
    machine alone, and whoever is on it may read and store.
    """
    return _rights(config.auth.allow_anonymous)


def _rights(allowed: tuple[str, ...]) -> frozenset[Right]:
    return frozenset(Right(act) for act in allowed) if allowed else ANONYMOUS.rights


def anonymous_principal(config: Config, *, local: bool) -> Principal:
    """Return who asks over HTTP: until accounts exist, everyone is a stranger.

    Parameters
    ----------
    local
        Whether a program of this machine asks for itself. Where the settings are silent, such
        a one may delete too; a proxy's clients and foreign web pages may not.
    """
    return _stranger(config.auth.allow_anonymous, local)


@lru_cache
def _stranger(allowed: tuple[str, ...], local: bool) -> Principal:
    rights = _rights(allowed)
    if local and not allowed:
        rights |= {Right.DELETE}
    return Principal(name="anonymous", site="", rights=rights, scope=PUBLIC_SCOPE)


def peer_principal(config: Config, peer: Peer, *, known: bool) -> Principal:
    """Return the principal of an association (PS3.8 §9.3.2: the calling AE title names it).

    Parameters
    ----------
    peer
        Who calls.
    known
        Whether it is a peer of this archive, and has the rights its services need; a stranger
        may do what strangers may.
    """
    rights = {NEEDED_RIGHTS[service] for service in peer.services}
    if not known:
        rights &= anonymous_rights(config)
    return Principal(
        name=f"ae:{peer.ae_title}",
        site=peer.site or config.archive.site,
        rights=frozenset(rights),
        scope=PUBLIC_SCOPE,
    )
