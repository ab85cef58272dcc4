"""How the asker reached this server: its own address, or what a trusted proxy says of it.

Only whoever connects from `[http] trusted_proxies` is believed, and only what can stand in a
URL: what comes from outside is written into answers.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST: Final = re.compile(
    r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,255})(?::(?P<port>[0-9]{0,5}))?"
)
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~@:+-]+)*")
_PAIR: Final = re.compile(
    r"\s*([A-Za-z0-9-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;,\"]*))\s*([;,]|$)"
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_HEADERS: Final = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
)


@dataclass(frozen=True, slots=True)
class Reached:
    """Where the asker sees this server.

    Parameters
    ----------
    scheme
        ``http`` or ``https``.
    host
        Name or address, with the port where it is not the scheme's own.
    prefix
        Path before ours, without a slash at its end; "" for none.
    """

    scheme: str
    host: str
    prefix: str
    url: str = field(init=False)

    def __post_init__(self) -> None:
        """Put the root together, without a slash at its end: every link begins with it."""
        url = f"{self.scheme}://{self.host}{self.prefix}"
        object.__setattr__(self, "url", url)


def is_host(text: str) -> bool:
    """Tell whether ``text`` can be the host of a URL (RFC 9110 §7.2)."""
    match = _HOST.fullmatch(text)
    return match is not None and int(match["port"] or 0) < 1 << 16


def host_name(text: str) -> str:
    """Return a host without its port, lower case, without brackets."""
    match = _HOST.fullmatch(text)
    return match["name"].strip("[]").lower() if match else ""


def is_forwarded(headers: Headers) -> bool:
    """Tell whether a proxy says that it passes on the request of another."""
    return any(name in headers for name in _HEADERS)


def is_trusted(peer: str, proxies: Sequence[Network]) -> bool:
    """Tell whether ``peer`` is an address of ``proxies``."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in proxies)


def reached(scheme: str, host: str, headers: Headers, *, trusted: bool) -> Reached:
    """Return how the asker reached us.

    Parameters
    ----------
    scheme, host
        Of the connection to us, and of the Host header.
    headers
        Of the request.
    trusted
        Whether what it says of another is believed: ``Forwarded`` (RFC 7239), and for what
        that leaves open ``X-Forwarded-Proto``, ``-Host``, ``-Port`` and ``-Prefix``; of a chain
        of proxies the first, which is the one the asker sees.
    """
    if not trusted or not is_forwarded(headers):
        return Reached(scheme, host, "")
    told = _forwarded(headers.get("forwarded", ""))
    proto = (told.get("proto") or _first(headers, "x-forwarded-proto")).lower()
    if proto in _DEFAULT_PORTS:
        scheme = proto
    wanted = told.get("host") or _first(headers, "x-forwarded-host")
    port = _first(headers, "x-forwarded-port")
    if is_host(wanted):
        host = wanted
    host = _with_port(host, port, scheme)
    prefix = _first(headers, "x-forwarded-prefix").rstrip("/")
    return Reached(scheme, host, prefix if _PREFIX.fullmatch(prefix) else "")


def _with_port(host: str, port: str, scheme: str) -> str:
    match = _HOST.fullmatch(host)
    if match is None or match["port"] or not (port.isascii() and port.isdigit()):
        return host
    if port == _DEFAULT_PORTS[scheme] or not 0 < int(port) < 1 << 16:
        return host
    return f"{match['name']}:{int(port)}"


def _first(headers: Headers, name: str) -> str:
    return headers.get(name, "").partition(",")[0].strip()


def _forwarded(text: str) -> dict[str, str]:
    """Return the pairs of the first element of Forwarded (RFC 7239 §4)."""
    pairs: dict[str, str] = {}
    position = 0
    while match := _PAIR.match(text, position):
        name, quoted, plain, end = match.groups()
        pairs.setdefault(name.lower(), plain if quoted is None else quoted)
        position = match.end()
        if end != ";":
            break
    return pairs
