"""QIDO-RS: the search transaction (PS3.18 §10.6)."""

from collections.abc import Callable
from hashlib import blake2s
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from archive.errors import InvalidRequestError
from archive.identity import require_uid
from archive.query.parameters import Search, parse_search
from archive.query.request import Level, Page, SearchKey
from dicomweb.accept import MediaType
from dicomweb.conditional import Validators, answered_early, strong_etag
from dicomweb.context import archive_of, base_url, principal_of, warning
from dicomweb.encoding import choose_coding, compressed
from dicomweb.negotiation import MULTIPART, Offer, choose
from dicomweb.responses import DICOM_JSON
from dicomweb.search_formats import CSV, JSON, NDJSON, XML, Match, encode_matches

_SINGLE: Final = (DICOM_JSON, JSON, NDJSON, CSV)
_OFFERED: Final = (DICOM_JSON, f'{MULTIPART}; type="{XML}"', JSON, NDJSON, CSV)
_CACHE: Final = "private, no-cache"


def search_handler(level: Level) -> Callable[[Request], Response]:
    """Return the handler that searches at ``level``; UIDs of its path match like keys."""

    def search(request: Request) -> Response:
        media_type = _media_type(request)
        asked = _asked(request, level)
        archive, principal = archive_of(request), principal_of(request)
        page = archive.query.page(principal, asked.request)
        _require_matched(asked, page)
        base = base_url(request)
        matches = [_with_url(match, level, base) for match in page.matches]
        headers = {"Cache-Control": _CACHE, "Vary": "Accept"}
        if asked.count:
            headers["X-Total-Count"] = str(archive.query.count(principal, asked.request))
        response = _response(request, matches, media_type, headers)
        for text in _warnings(asked, page):
            response.headers.append("Warning", warning(request, text))
        return response

    return search


def count_handler(level: Level) -> Callable[[Request], Response]:
    """Return the handler that says how many matches there are: an extension."""

    def count(request: Request) -> Response:
        asked = _asked(request, level)
        found = archive_of(request).query.count(principal_of(request), asked.request)
        return Response(orjson.dumps({"count": found}), media_type=JSON)

    return count


def _asked(request: Request, level: Level) -> Search:
    return parse_search(request.query_params.multi_items(), level, _path_keys(request))


def _require_matched(asked: Search, page: Page) -> None:
    if asked.strict and page.ignored:
        raise InvalidRequestError(f"{page.ignored[0]} cannot be matched")


def _response(
    request: Request, matches: list[Match], media_type: str, headers: dict[str, str]
) -> Response:
    # The tag is of what was found, not of the bytes: a boundary is new every time.
    found = orjson.dumps(matches)
    etag = strong_etag(blake2s(found).hexdigest(), media_type, choose_coding(request))
    validators = Validators(etag)
    early = answered_early(request, validators, headers)
    if early is not None:
        return early
    body, content_type = found, media_type
    if media_type not in (DICOM_JSON, JSON):
        body, content_type = encode_matches(matches, media_type)
    return compressed(
        request,
        Response(body, headers=headers | validators.headers() | {"Content-Type": content_type}),
    )


def _media_type(request: Request) -> str:
    """Return the media type of the answer, or of its parts (PS3.18 Table 10.6.4-1)."""
    return choose(request, _offers, lambda offer: offer.media_type, offered=_OFFERED)


def _offers(range_: MediaType) -> list[Offer]:
    offers = [Offer(False, name) for name in _SINGLE if range_.covers(name)]
    if range_.name in ("multipart/*", MULTIPART):
        kind = range_.part_type or XML
        # Some clients ask for parts of JSON, and read the one body all the same.
        offers += [Offer(True, XML)] if MediaType(kind).covers(XML) else []
        offers += [Offer(False, DICOM_JSON)] if MediaType(kind).covers(DICOM_JSON) else []
    return offers


def _path_keys(request: Request) -> list[SearchKey]:
    keys = []
    for name, tag in (("study", "0020000D"), ("series", "0020000E")):
        if name in request.path_params:
            uid = require_uid(request.path_params[name], f"the {name} in the path")
            keys.append(SearchKey((tag,), uid))
    return keys


def _with_url(match: Match, level: Level, base: str) -> Match:
    """Add Retrieve URL (0008,1190) where it belongs among the tags."""
    if level is Level.PATIENT:
        return match
    url = f"{base}/studies/{_uid(match, '0020000D')}"
    if level is not Level.STUDY:
        url += f"/series/{_uid(match, '0020000E')}"
    if level is Level.INSTANCE:
        url += f"/instances/{_uid(match, '00080018')}"
    whole = _with_addresses(match, url if level is Level.INSTANCE else "")
    whole["00081190"] = {"vr": "UR", "Value": [url]}
    return dict(sorted(whole.items()))


def _with_addresses(dataset: Match, url: str) -> Match:
    """Return a copy with whole addresses of bulk values; without an instance they have none."""
    whole = dict(dataset)
    for tag, element in dataset.items():
        # Few elements hold one, and what there is no need to copy is shared.
        if uri := element.get("BulkDataURI"):
            whole[tag] = {"vr": element["vr"]} | (
                {"BulkDataURI": f"{url}/{uri}"} if url else {}
            )
        elif element["vr"] == "SQ" and "Value" in element:
            items = [_with_addresses(item, url) for item in element["Value"]]
            whole[tag] = {"vr": "SQ", "Value": items}
    return whole


def _uid(match: Match, tag: str) -> str:
    return str(match[tag]["Value"][0])


def _warnings(asked: Search, page: Page) -> list[str]:
    texts = []
    if page.more:
        count = "" if page.remaining is None else f"{page.remaining} "
        texts.append(f"There are {count}additional results that can be requested")
    ignored = [_safe(name) for name in (*asked.unknown, *page.ignored)]
    if ignored:
        texts.append(f"Not matched, because unknown or without a value: {', '.join(ignored)}")
    return texts


def _safe(name: str) -> str:
    # What the asker wrote goes back in a header: only what can stand in one.
    return "".join(c for c in name[:64] if c.isascii() and (c.isalnum() or c in "._-"))
