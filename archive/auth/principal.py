"""Who asks, and what that principal may see: the first argument of every public service."""

from dataclasses import dataclass
from enum import StrEnum

from storage.index.scope import Scope

PUBLIC_PARTITION = "public"
SEQUESTERED_PARTITION = "sequestered"


class Right(StrEnum):
    """An act a principal may be allowed."""

    READ = "read"
    WRITE = "write"
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


# Until accounts exist, the network face serves everyone alike; what keeps strangers out is
# that the archive binds to loopback unless the operator writes out `allow_anonymous`.
ANONYMOUS = Principal(
    name="anonymous",
    site="",
    rights=frozenset({Right.READ, Right.WRITE}),
    scope=Scope(collections=None, partitions=frozenset({PUBLIC_PARTITION})),
)

# The one who holds the command line and the data directory.
OPERATOR = Principal(
    name="operator",
    site="",
    rights=frozenset(Right),
    scope=Scope(collections=None, partitions=None),
)


def peer_principal(*, calling_ae_title: str, site: str) -> Principal:
    """Return the principal of an association (PS3.8 §9.3.2: the calling AE title names it)."""
    return Principal(
        name=f"ae:{calling_ae_title}",
        site=site,
        rights=ANONYMOUS.rights,
        scope=ANONYMOUS.scope,
    )
