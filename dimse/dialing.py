"""A connection to a peer, or in words why there is none."""

import contextlib
import socket
import ssl

from archive.config import Peer
from archive.errors import PeerError
from dimse.tls import call_securely, tls_fault


def dial(peer: Peer, *, timeout_s: float, tls: ssl.SSLContext | None = None) -> socket.socket:
    """Connect to where a peer listens.

    Parameters
    ----------
    timeout_s
        How long each of its addresses, and the TLS handshake, may take.
    tls
        What to speak TLS with; None for a plain connection.

    Raises
    ------
    PeerError
        If there is no connection to be had.
    """
    if peer.address is None:
        raise PeerError(f"peer {peer.ae_title} only calls: it has no host and port to send to")
    connection = _connected(peer, peer.address, timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection if tls is None else _secured(connection, peer, tls)


def place(peer: Peer) -> str:
    """Return who a peer is and where, for messages."""
    return f"{peer.ae_title} at {peer.host}:{peer.port}"


def _connected(peer: Peer, address: tuple[str, int], timeout_s: float) -> socket.socket:
    try:
        return socket.create_connection(address, timeout_s)
    except socket.gaierror as error:
        raise PeerError(f"host {peer.host!r} is not resolved: {error.strerror}") from error
    except ConnectionRefusedError as error:
        raise PeerError(f"{place(peer)} refuses connections: nothing listens there") from error
    except TimeoutError as error:
        raise PeerError(f"{place(peer)} does not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise PeerError(f"{place(peer)} is not reached: {error.strerror or error}") from error


def _secured(connection: socket.socket, peer: Peer, tls: ssl.SSLContext) -> socket.socket:
    try:
        return call_securely(connection, peer, tls)
    except OSError as error:
        with contextlib.suppress(OSError):
            connection.close()
        raise PeerError(f"{place(peer)}: {tls_fault(error)}") from error
