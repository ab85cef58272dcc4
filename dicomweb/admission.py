"""What a request must be before anything looks at it: well-formed, and addressed to us.

Everything behind this reads paths and query strings that are UTF-8 without NUL, and knows how
the asker reached the server.
"""

import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from archive.config import Config, is_loopback
from dicomweb.forwarded import (
    Network,
    Reached,
    host_name,
    is_forwarded,
    is_host,
    is_trusted,
    reached,
)
from dicomweb.responses import problem

ASKER_KEY: Final = "fileroom.asker"
_REMEMBERED_BYTES: Final = 4096
_NOWHERE: Final = Reached("http", "", "")
# Lists of UIDs make long URLs: this holds a thousand of them.
LONGEST_URL_BYTES: Final = 60 * 1024
# Below these a slash too many names the same resource, for a client joins paths as it can.
_TOLERANT: Final = re.compile(r"/+(?:dicom-web|wado|api|health|metrics)(?:/|$)")
_DEFAULT_PORTS: Final = (80, 443)
_SLASHES: Final = re.compile(r"/{2,}")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONDITIONS: Final = frozenset(
    (
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"range",
        b"if-range",
    )
)
_MORE: Final = frozenset((b"content-length", b"transfer-encoding", b"expect", b"upgrade"))
_PLAIN: Final = re.compile(rb"[\x21-\x24\x26-\x7e]*")


@dataclass(frozen=True, slots=True)
class Asker:
    """What the head of a request says of who asks, beside what is asked for.

    Parameters
    ----------
    reached
        Where the asker sees this server.
    is_local_program
        Whether a program of this machine asks, and no web page or proxy for another.
    fault
        What is wrong with the head; "" for nothing.
    is_conditional
        Whether a header makes the answer depend on what the asker holds, or wants a part of it.
    has_more
        Whether there is, or may be, more to the request than its head.
    accepts
        Every Accept.
    origin
        Of the page that asks; "" for none.
    """

    reached: Reached
    is_local_program: bool = False
    fault: str = ""
    is_conditional: bool = False
    has_more: bool = False
    accepts: tuple[str, ...] = ()
    origin: str = ""


class Gate:
    """Finds what is malformed, puts paths into one form, and notes who asks.

    Parameters
    ----------
    config
        The settings: the public URL, and which proxies are believed.
    """

    def __init__(self, config: Config) -> None:
        self._proxies: Sequence[Network] = config.http.proxies
        self._public = _public(config.archive.public_url)
        # A viewer asks with the same headers a thousand times.
        self._remembered = lru_cache(maxsize=256)(self._asker)

    def fault(self, scope: Scope) -> tuple[HTTPStatus, str] | None:
        """Return what is wrong with a request; None of one that may pass, which is noted."""
        raw, query = scope.get("raw_path") or scope["path"].encode(), scope["query_string"]
        if len(raw) + len(query) > LONGEST_URL_BYTES:
            return HTTPStatus.REQUEST_URI_TOO_LONG, (
                f"URLs are read up to {LONGEST_URL_BYTES} bytes; ask for less at once"
            )
        for part, name in ((raw, "path"), (query, "query")):
            if wrong := _malformed(part):
                return HTTPStatus.BAD_REQUEST, f"the {name} of the URL {wrong}"
        asker = self.asker(scope)
        if asker.fault:
            return HTTPStatus.BAD_REQUEST, asker.fault
        scope[ASKER_KEY] = asker
        scope["path"] = _normal_path(scope["path"], asker.reached.prefix)
        return None

    def asker(self, scope: Scope) -> Asker:
        """Return what the head of a request says of who asks."""
        headers = tuple(scope["headers"])
        length = sum([len(name) + len(value) for name, value in headers])
        ask = self._remembered if length <= _REMEMBERED_BYTES else self._asker
        peer = scope["client"][0] if scope.get("client") else ""
        server = scope.get("server") or ("localhost", None)
        return ask(headers, scope["http_version"], scope["scheme"], peer, tuple(server))

    def _asker(
        self,
        raw_headers: tuple[tuple[bytes, bytes], ...],
        http_version: str,
        scheme: str,
        peer: str,
        server: tuple[str, int | None],
    ) -> Asker:
        headers = Headers(raw=list(raw_headers))
        hosts = headers.getlist("host")
        if wrong := _wrong_host(hosts, http_version):
            return Asker(_NOWHERE, fault=wrong)
        host = hosts[0] if hosts and hosts[0] else _own_address(server)
        forwarded = is_forwarded(headers)
        if not forwarded:
            host = _with_own_port(host, server)
        told = reached(scheme, host, headers, trusted=is_trusted(peer, self._proxies))
        local = not forwarded and _is_local_program(headers)
        names = {name for name, _ in raw_headers}
        return Asker(
            self._public or told,
            local,
            is_conditional=not _CONDITIONS.isdisjoint(names),
            has_more=not _MORE.isdisjoint(names),
            accepts=tuple(headers.getlist("accept")),
            origin=headers.get("origin", ""),
        )


def _is_local_program(headers: Headers) -> bool:
    """Tell whether a program of this machine asks, and no web page.

    A page of any origin can make a browser on this machine send what it likes here, under a
    name of its own that leads to this machine.
    """
    host = headers.get("host", "")
    origin = headers.get("origin")
    own = origin is None or origin.partition("://")[2] == host
    return own and is_loopback(host_name(host))


class Admission:
    """Turns away what is malformed.

    Parameters
    ----------
    app
        What answers the rest.
    gate
        Tells what is.
    """

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and (fault := self._gate.fault(scope)):
            status, detail = fault
            await problem(status, detail)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _malformed(part: bytes) -> str:
    if _PLAIN.fullmatch(part):
        return ""
    if _BAD_ESCAPE.search(part):
        return "holds a % that no two hexadecimal digits follow; write it %25"
    plain = urllib.parse.unquote_to_bytes(part)
    if b"\0" in plain:
        return "holds a NUL character"
    try:
        plain.decode()
    except UnicodeDecodeError:
        return "is not UTF-8 (RFC 3986 §2.5)"
    return ""


def _wrong_host(hosts: list[str], http_version: str) -> str:
    """Return what is wrong with the Host header (RFC 9112 §3.2)."""
    if not hosts and http_version == "1.1":
        return "the request has no Host header"
    if len(hosts) > 1:
        return "the request has several Host headers"
    if hosts and hosts[0] and not is_host(hosts[0]):
        return "the Host header is neither a name nor an address, with or without a port"
    return ""


def _own_address(server: tuple[str, int | None]) -> str:
    name, port = server
    if ":" in name:
        name = f"[{name}]"
    return f"{name}:{port}" if port else name


def _with_own_port(host: str, server: tuple[str, int | None]) -> str:
    """Return the host with the port that was connected to, where only that can be meant.

    Some clients leave the port out of the Host header, Python's dicomweb-client is one. A
    name of this machine is completed; with any other, a proxy may have been asked at its
    scheme's own port.
    """
    name, port = server
    own = name.lower() == host_name(host) or is_loopback(host_name(host))
    if not own or not port or ":" in host.rpartition("]")[2] or port in _DEFAULT_PORTS:
        return host
    return f"{host}:{port}"


def _normal_path(path: str, prefix: str) -> str:
    """Return a path without the proxy's prefix, should it be there, and doubled slashes."""
    if prefix and path.startswith(prefix + "/"):
        path = path[len(prefix) :]
    if _TOLERANT.match(path):
        path = _SLASHES.sub("/", path).rstrip("/")
    return path


def _public(url: str) -> Reached | None:
    if not url:
        return None
    scheme, _, rest = url.rstrip("/").partition("://")
    host, slash, prefix = rest.partition("/")
    return Reached(scheme, host, slash + prefix)
