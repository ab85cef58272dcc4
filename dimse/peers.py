"""Who calls, as the archive sees it: a peer, or a stranger with what strangers may."""

from dataclasses import replace
from functools import lru_cache

from archive.assembly import Archive
from archive.auth.principal import NEEDED_RIGHTS, Principal, peer_principal
from archive.config import Peer, Service
from archive.ingest.incoming import Source


class Caller:
    """Who is at the other end of an association.

    Parameters
    ----------
    archive
        Knows the peers.
    calling, called
        AE titles of the association, trimmed.
    remote
        Address it comes from.
    user
        Who is behind it, where somebody has proved that.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        calling: str,
        called: str,
        remote: str,
        user: Principal | None = None,
    ) -> None:
        self._config = archive.config
        found = archive.peers.find(calling)
        self.is_known = found is not None
        # Of a user the rights decide, wherever they sit.
        services = tuple(Service) if user else archive.config.dimse.strangers
        self.peer = found or _stranger(calling, services)
        self.user = user
        self.calling, self.called, self.remote = calling, called, remote

    @property
    def principal(self) -> Principal:
        """Who asks: the user, or else the peer, which its AE title names."""
        peer = peer_principal(self._config, self.peer, known=self.is_known)
        if self.user is None:
            return peer
        return replace(self.user, site=self.user.site or peer.site)

    def may(self, service: Service) -> bool:
        """Tell whether the peer may ask for a service, and the user has the right it needs."""
        return service in self.peer.services and NEEDED_RIGHTS[service] in self.principal.rights

    def source(self, principal: Principal) -> Source:
        """Return where what arrives on the association comes from."""
        return Source(
            site=principal.site,
            collection=self._config.archive.collection,
            protocol="C-STORE",
            principal=principal.name,
            calling_ae_title=self.calling,
            called_ae_title=self.called,
            remote=self.remote,
        )


@lru_cache(maxsize=256)
def _stranger(calling: str, services: tuple[Service, ...]) -> Peer:
    # Not validated: a title that no peer could have must not end the association here.
    return Peer.model_construct(ae_title=calling, services=services)
