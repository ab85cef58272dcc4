"""QIDO-RS: the search transaction (PS3.18 §10.6)."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from archive.errors import NotAcceptableError
from archive.identity import require_uid
from archive.query.request import Level, Page, SearchKey
from dicomweb.accept import parse_accept
from dicomweb.context import archive_of, base_url, principal_of
from dicomweb.parameters import Search, parse_search
from dicomweb.responses import DICOM_JSON, JsonResponse

Match = dict[str, dict[str, Any]]
_AGENT = "fileroom"


def search_handler(level: Level) -> Callable[[Request], Response]:
    """Return the handler that searches at ``level``; UIDs of its path match like keys."""

    def search(request: Request) -> Response:
        media_type = _media_type(request)
        asked = parse_search(request.query_params.multi_items(), level, _path_keys(request))
        page = archive_of(request).query.page(principal_of(request), asked.request)
        base = base_url(request)
        matches = [_with_url(dict(match), level, base) for match in page.matches]
        response = JsonResponse(matches, media_type=media_type)
        for text in _warnings(asked, page):
            response.headers.append("Warning", f'299 {_AGENT} "{text}"')
        return response

    return search


def _media_type(request: Request) -> str:
    accept = request.query_params.get("accept")
    headers = [accept] if accept else request.headers.getlist("accept")
    for wanted in parse_accept(headers):
        for offered in (DICOM_JSON, "application/json"):
            if wanted.covers(offered):
                return offered
    raise NotAcceptableError(f"searches are answered as {DICOM_JSON} or application/json")


def _path_keys(request: Request) -> list[SearchKey]:
    keys = []
    for name, tag in (("study", "0020000D"), ("series", "0020000E")):
        if name in request.path_params:
            uid = require_uid(request.path_params[name], f"the {name} in the path")
            keys.append(SearchKey((tag,), uid))
    return keys


def _with_url(match: Match, level: Level, base: str) -> Match:
    """Add Retrieve URL (0008,1190) where it belongs among the tags."""
    url = f"{base}/studies/{_uid(match, '0020000D')}"
    if level is not Level.STUDY:
        url += f"/series/{_uid(match, '0020000E')}"
    if level is Level.INSTANCE:
        url += f"/instances/{_uid(match, '00080018')}"
    match["00081190"] = {"vr": "UR", "Value": [url]}
    return dict(sorted(match.items()))


def _uid(match: Match, tag: str) -> str:
    return str(match[tag]["Value"][0])


def _warnings(asked: Search, page: Page) -> list[str]:
    texts = []
    if page.more:
        limit, offset = asked.request.limit or 0, asked.request.offset
        texts.append(
            f"There are additional results that can be requested: offset={offset + limit}"
        )
    if asked.unsupported:
        texts.append(f"Not supported and ignored: {', '.join(asked.unsupported)}")
    ignored = [_safe(name) for name in (*asked.unknown, *page.ignored)]
    if ignored:
        texts.append(f"Not matched, because unknown or not indexed: {', '.join(ignored)}")
    return texts


def _safe(name: str) -> str:
    # What the asker wrote goes back in a header: only what can stand in one.
    return "".join(c for c in name[:64] if c.isascii() and (c.isalnum() or c in "._-"))
