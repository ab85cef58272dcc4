"""Requests that are answered while they are read: no task, no middleware, no list of routes.

What a viewer asks for a thousand times, a frame, an instance, metadata, is mostly in memory.
Then the way there costs more than the answer: a task, six layers of calls, thirty patterns of
routes. Here the same gate, the same handler and the same log line are called one after another.
Whatever is unusual, or would have to wait, goes the long way: decision 0024.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from dicomweb.admission import ASKER_KEY, LONGEST_URL_BYTES, Gate
from dicomweb.cors import Origins
from dicomweb.inline import AtOnce, was_tried
from dicomweb.ready import Counter, Ready
from dicomweb.resources import OPERATION_KEY, Resource
from dicomweb.responses import HeldResponse, JsonResponse, StreamedResponse
from dicomweb.sendfile import Piece, length_of
from dicomweb.surround import mark, new_request_id, note

# A path is cut at its slashes: names stand at the even places, identifiers between them.
_FIRST_NAME: Final = 2
_FIRST_IDENTIFIER: Final = 3
# What a peer does not take at once is read into memory.
_LONGEST_BYTES: Final = 1 << 20
# A path that nothing has to be read of: no query, no escape, no doubled slash.
_SIMPLE: Final = re.compile(rb"(?:/[!$&-.0-;=@-Z_a-z~]+)+")


_Shape = tuple[int, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Quick:
    """A resource that may be answered so.

    Parameters
    ----------
    resource
        The route.
    operation
        Name of what GET does.
    handler
        What answers it.
    identifiers
        Names of the identifiers in its path, in order.
    """

    resource: Resource
    operation: str
    handler: AtOnce
    identifiers: Sequence[str]


class Express:
    """Answers GET where that needs no waiting.

    Parameters
    ----------
    app
        The application, which answers everything else.
    resources
        Its routes.
    gate, origins
        What every request passes.
    """

    def __init__(
        self, app: Starlette, resources: Sequence[Resource], gate: Gate, origins: Origins
    ) -> None:
        self._app = app
        self._gate = gate
        self._origins = origins
        self._quick = _by_shape(resources)
        self._counter = Counter()

    def answer(
        self, scope: Scope, target: bytes, first: Sequence[tuple[bytes, bytes]]
    ) -> Ready | None:
        """Return the answer, head and body; None when it has to be had the long way.

        Parameters
        ----------
        scope
            Of the request, as ASGI has it, without its path.
        target
            Of the request line.
        first
            Headers that the server puts before those of the answer.
        """
        begun = time.perf_counter()
        if len(target) > LONGEST_URL_BYTES or not _SIMPLE.fullmatch(target):
            return None
        path = target.decode("latin-1")
        parts = path.split("/")
        quick = self._quick.get(_shape(parts))
        if quick is None:
            return None
        asker = self._gate.asker(scope)
        if asker.fault or asker.has_more:
            return None
        identifiers = parts[_FIRST_IDENTIFIER::2]
        own = {
            **scope,
            "method": "GET",
            "path": path,
            "raw_path": target,
            "query_string": b"",
            "app": self._app,
            "route": quick.resource,
            "path_params": dict(zip(quick.identifiers, identifiers, strict=True)),
            OPERATION_KEY: quick.operation,
            ASKER_KEY: asker,
        }
        try:
            response = quick.handler.attempt(Request(own))
        except Exception:  # noqa: BLE001 - the long way has an answer to each
            return None
        body = _body(response)
        if response is not None and body is not None:
            ready = self._written(own, response, body, first, begun)
            if ready is not None:
                return ready
        was_tried(scope, response)
        return None

    def _written(
        self,
        scope: Scope,
        response: Response,
        body: Sequence[Piece],
        first: Sequence[tuple[bytes, bytes]],
        begun: float,
    ) -> Ready | None:
        request_id = new_request_id()
        headers = [*first, *response.raw_headers]
        mark(headers, request_id)
        self._origins.mark(headers, scope[ASKER_KEY].origin)
        head = _head(response.status_code, headers)
        if head is None:
            return None
        try:
            ready = self._counter.ready((head, *body))
        except OSError:
            return None
        note(scope, request_id, response.status_code, length_of(body), begun)
        return ready


def _body(response: Response | None) -> Sequence[Piece] | None:
    """Return what an answer is made of, where that is there and not too long."""
    if isinstance(response, StreamedResponse):
        pieces = response.pieces
        return None if pieces is None or length_of(pieces) > _LONGEST_BYTES else pieces
    if isinstance(response, HeldResponse):
        return response.pieces
    # Not what has a way of its own to send itself.
    if response is not None and type(response) in (Response, JsonResponse):
        return (response.body,)
    return None


def _by_shape(resources: Sequence[Resource]) -> Mapping[_Shape, _Quick]:
    found = {}
    for resource in resources:
        get = resource.operations.get("GET")
        if get is not None and isinstance(get.handler, AtOnce):
            parts = resource.path.split("/")
            identifiers = [part.strip("{}") for part in parts[_FIRST_IDENTIFIER::2]]
            found[_shape(parts)] = _Quick(resource, get.name, get.handler, identifiers)
    return found


def _shape(parts: Sequence[str]) -> _Shape:
    return len(parts), parts[1] if len(parts) > 1 else "", tuple(parts[_FIRST_NAME::2])


def _head(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """Return the head of an answer; None if a value would not stay in its line."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    head = b"".join((STATUS_LINE[status], *lines, b"\r\n"))
    return head if head.count(b"\r") == head.count(b"\n") == len(lines) + 2 else None
