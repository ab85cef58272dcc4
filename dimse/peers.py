"""Who calls, as the archive sees it: a peer, or a stranger with what strangers may."""

from archive.assembly import Archive
from archive.auth.principal import Principal, peer_principal
from archive.config import Peer
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
    """

    def __init__(self, archive: Archive, *, calling: str, called: str, remote: str) -> None:
        self._config = archive.config
        found = archive.peers.find(calling)
        self.is_known = found is not None
        self.peer = found or _stranger(archive, calling)
        self.calling, self.called, self.remote = calling, called, remote

    @property
    def principal(self) -> Principal:
        """What its AE title lets it do."""
        return peer_principal(self._config, self.peer, known=self.is_known)

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


def _stranger(archive: Archive, calling: str) -> Peer:
    # Not validated: a title that no peer could have must not end the association here.
    return Peer.model_construct(ae_title=calling, services=archive.config.dimse.strangers)
