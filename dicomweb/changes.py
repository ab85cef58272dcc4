"""The change feed: pages, lines, long polls, and events as they happen."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from urllib.parse import urlencode

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from archive.changes import CHANGE_KINDS, ChangePage, ChangeRow
from archive.errors import ArchiveError, InvalidRequestError, NotAcceptableError
from archive.identity import require_uid
from dicomweb.context import archive_of, principal_of, root_url
from dicomweb.negotiation import accepted
from dicomweb.watch import ChangeWatch

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
EVENTS: Final = "text/event-stream"
OFFERED: Final = (JSON, NDJSON, EVENTS)
_DEFAULT_LIMIT: Final = 1000
LARGEST_LIMIT: Final = 10_000
LONGEST_WAIT_S: Final = 300
_LARGEST_SEQUENCE: Final = 2**63 - 1
# Proxies cut connections on which nothing moves for a minute.
_HEARTBEAT_S: Final = 15.0
_LOOK_AROUND_S: Final = 5.0
_AT_ONCE: Final = 500
_HEADERS: Final = {"Cache-Control": "no-store", "Vary": "Accept"}


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which part of the feed is asked for."""

    after: int
    limit: int
    wait_s: float
    study_instance_uid: str
    kinds: frozenset[str]


async def retrieve_changes(request: Request) -> Response:
    """Return what happened, in order: a page, lines, or events that go on.

    Raises
    ------
    InvalidRequestError
        If a parameter is not what it should be.
    """
    media_type = _media_type(request)
    asked = await _asked(request)
    if media_type == EVENTS:
        return _EventStream(request, asked)
    page = await _page(request, asked)
    if not page.changes and asked.wait_s and request.method != "HEAD":
        page = await _next_page(request, replace(asked, after=page.next_sequence))
    return _page_response(request, asked, page, media_type)


def latest_change(request: Request) -> Response:
    """Return the number of the last change: where to begin for what comes next."""
    sequence = archive_of(request).changes.latest(principal_of(request))
    body = orjson.dumps({"sequence": sequence})
    return Response(body, media_type=JSON, headers={"Cache-Control": "no-store"})


def _watch(request: Request) -> ChangeWatch:
    watch: ChangeWatch = request.app.state.watch
    return watch


async def _page(request: Request, asked: _Asked) -> ChangePage:
    return await anyio.to_thread.run_sync(
        partial(
            archive_of(request).changes.page,
            principal_of(request),
            asked.after,
            limit=asked.limit,
            study_instance_uid=asked.study_instance_uid,
            kinds=asked.kinds,
        )
    )


async def _next_page(request: Request, asked: _Asked) -> ChangePage:
    """Return the first page that holds something; an empty one when the wait is over."""
    watch = _watch(request)
    end = time.monotonic() + asked.wait_s
    with watch.seat():
        while True:
            left = end - time.monotonic()
            await watch.beyond(asked.after, min(max(left, 0), _LOOK_AROUND_S))
            page = await _page(request, asked)
            over = left <= 0 or watch.stopped or await request.is_disconnected()
            if page.changes or over:
                return page
            asked = replace(asked, after=page.next_sequence)


# -- asking ------------------------------------------------------------------------------------


def _media_type(request: Request) -> str:
    for wanted in accepted(request):
        for offered in OFFERED:
            if wanted.covers(offered):
                return offered
    raise NotAcceptableError(f"changes are available as {', '.join(OFFERED)}")


async def _asked(request: Request) -> _Asked:
    given = request.query_params
    study = given.get("study", "")
    return _Asked(
        after=await _after(request),
        limit=_number(given.get("limit"), "limit", _DEFAULT_LIMIT, (1, LARGEST_LIMIT)),
        wait_s=_number(given.get("wait"), "wait", 0, (0, LONGEST_WAIT_S)),
        study_instance_uid=require_uid(study, "study") if study else "",
        kinds=_kinds(given.getlist("kind")),
    )


async def _after(request: Request) -> int:
    """Return where to begin: a browser that lost its connection says where it was."""
    since = request.headers.get("last-event-id") or request.query_params.get("since")
    if since != "latest":
        return _number(since, "since", 0, (0, _LARGEST_SEQUENCE))
    latest = partial(archive_of(request).changes.latest, principal_of(request))
    return await anyio.to_thread.run_sync(latest)


def _number(text: str | None, name: str, default: int, bounds: tuple[int, int]) -> int:
    if text is None:
        return default
    lowest, highest = bounds
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise InvalidRequestError(f"{name}={text[:40]!r} is not a whole number")
    if not lowest <= int(digits) <= highest:
        raise InvalidRequestError(f"{name}={text[:40]!r} is not from {lowest} to {highest}")
    return int(digits)


def _kinds(given: list[str]) -> frozenset[str]:
    kinds = [kind.strip() for text in given for kind in text.split(",")]
    for kind in filter(None, kinds):
        if kind not in CHANGE_KINDS:
            raise InvalidRequestError(
                f"kind={kind[:40]!r}: expected some of {', '.join(CHANGE_KINDS)}"
            )
    return frozenset(filter(None, kinds))


# -- answering ---------------------------------------------------------------------------------


def _line(change: ChangeRow) -> dict[str, object]:
    return {
        "sequence": change.sequence,
        "at": change.at.isoformat().replace("+00:00", "Z"),
        "kind": change.kind,
        "study_instance_uid": change.study_instance_uid,
        "series_instance_uid": change.series_instance_uid,
        "sop_instance_uid": change.sop_instance_uid,
        "version": change.version,
        "sha256": change.digest.hex(),
        "site": change.site,
        "collection": change.collection,
        "principal": change.principal,
        "reason": change.reason,
    }


def _page_response(
    request: Request, asked: _Asked, page: ChangePage, media_type: str
) -> Response:
    headers = dict(_HEADERS)
    if page.more:
        headers["Link"] = f'<{_next_url(request, asked, page)}>; rel="next"'
    if media_type == NDJSON:
        lines = b"".join(orjson.dumps(_line(change)) + b"\n" for change in page.changes)
        return Response(lines, media_type=NDJSON, headers=headers)
    body = {
        "changes": [_line(change) for change in page.changes],
        "next": page.next_sequence,
        "more": page.more,
    }
    return Response(orjson.dumps(body), media_type=JSON, headers=headers)


def _next_url(request: Request, asked: _Asked, page: ChangePage) -> str:
    query: dict[str, str | int] = {"since": page.next_sequence, "limit": asked.limit}
    if asked.study_instance_uid:
        query["study"] = asked.study_instance_uid
    if asked.kinds:
        query["kind"] = ",".join(sorted(asked.kinds))
    return f"{root_url(request)}/api/changes?{urlencode(query, safe=',')}"


class _EventStream(Response):
    """Changes as events, until the asker or the server goes (HTML Standard §9.2)."""

    media_type = EVENTS

    def __init__(self, request: Request, asked: _Asked) -> None:
        # A proxy that gathers what it passes on would hold events back.
        super().__init__(headers=_HEADERS | {"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._request = request
        self._asked = replace(asked, limit=min(asked.limit, _AT_ONCE))
        self._watch = _watch(request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send events as they happen."""
        with self._watch.seat():
            # Before the status is out: what may not be read is refused, not broken off.
            page = await _page(self._request, self._asked)
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            if scope["method"] != "HEAD":
                # Who reads events comes back by itself when they end.
                with contextlib.suppress(ArchiveError):
                    await self._go_on(page, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _go_on(self, page: ChangePage, send: Send) -> None:
        asked = self._asked
        text = b"retry: 2000\n\n"
        quiet_since = 0.0
        while True:
            text += b"".join(_events(page))
            if not text and time.monotonic() - quiet_since >= _HEARTBEAT_S:
                text = b":\n\n"
            if text:
                quiet_since = time.monotonic()
                await send({"type": "http.response.body", "body": text, "more_body": True})
            if self._watch.stopped or await self._request.is_disconnected():
                return
            text = b""
            asked = replace(asked, after=page.next_sequence)
            if not page.more:
                await self._watch.beyond(asked.after, _LOOK_AROUND_S)
            page = await _page(self._request, asked)


def _events(page: ChangePage) -> Iterator[bytes]:
    for change in page.changes:
        yield b"id: %d\ndata: %s\n\n" % (change.sequence, orjson.dumps(_line(change)))
