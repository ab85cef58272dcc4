"""The application entities this archive knows: who they are, and where."""

from archive.auth.principal import Principal, peer_principal
from archive.config import Config, Peer
from archive.ingest.incoming import Source


class Peers:
    """The configured peers, by AE title.

    Parameters
    ----------
    config
        Titles are compared trimmed, and with regard to case (PS3.5 §6.2, VR AE).
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._peers = {peer.ae_title.strip(): peer for peer in config.dimse.peers}

    def find(self, ae_title: str) -> Peer | None:
        """Return a peer; None when nobody is known by that title."""
        return self._peers.get(ae_title.strip())

    def principal(self, calling_ae_title: str) -> Principal:
        """Return who asks on an association."""
        return peer_principal(
            self._config, calling_ae_title=calling_ae_title, site=self._site(calling_ae_title)
        )

    def source(self, *, calling: str, called: str, remote: str) -> Source:
        """Return where what arrives on an association comes from."""
        return Source(
            site=self._site(calling),
            collection=self._config.archive.collection,
            protocol="C-STORE",
            principal=f"ae:{calling}",
            calling_ae_title=calling,
            called_ae_title=called,
            remote=remote,
        )

    def _site(self, ae_title: str) -> str:
        peer = self.find(ae_title)
        return peer.site if peer is not None and peer.site else self._config.archive.site
