"""Conditional and partial requests (RFC 9110 §13, §14), as PS3.18 §8.4 takes them over."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from dicomweb.admission import ASKER_KEY, Asker
from dicomweb.responses import problem

_MOST_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of a representation from another.

    Parameters
    ----------
    etag
        Strong entity tag, quotes included.
    modified
        When the content last changed; None when that is not known.
    """

    etag: str
    modified: datetime | None = None

    def headers(self) -> dict[str, str]:
        """Return ETag and Last-Modified."""
        if self.modified is None:
            return {"ETag": self.etag}
        return {"ETag": self.etag, "Last-Modified": _http_date(int(self.modified.timestamp()))}


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> str:
    # Instances of a series come in the same seconds, and are asked for together.
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def strong_etag(*named: object) -> str:
    """Return an entity tag, quotes included, of whatever the representation depends on."""
    joined = "/".join(str(value) for value in named)
    return f'"{hashlib.blake2s(joined.encode(), digest_size=16).hexdigest()}"'


def answered_early(
    request: Request, validators: Validators, headers: Mapping[str, str]
) -> Response | None:
    """Return 304 or 412 where the request's conditions ask for it (RFC 9110 §13.2.2).

    Parameters
    ----------
    headers
        Of the answer that would follow; a 304 carries those that say how to keep it.
    """
    if _is_plain(request):
        return None
    if not _still_wanted(request, validators):
        return problem(
            HTTPStatus.PRECONDITION_FAILED,
            "the resource has changed since the state that If-Match or If-Unmodified-Since "
            "names; retrieve it again",
            headers=validators.headers(),
        )
    if _held_already(request, validators):
        kept = {
            name: value
            for name, value in headers.items()
            if name.lower() in ("cache-control", "vary", "content-location", "expires")
        }
        return Response(
            status_code=HTTPStatus.NOT_MODIFIED, headers=kept | validators.headers()
        )
    return None


def _is_plain(request: Request) -> bool:
    # Nearly every request, and who looks for six headers in turn reads them all six times.
    asker: Asker | None = request.scope.get(ASKER_KEY)
    return asker is not None and not asker.is_conditional


def _still_wanted(request: Request, validators: Validators) -> bool:
    if "if-match" in request.headers:
        return _names(request, "if-match", validators.etag, weak=False)
    since = _date(request.headers.get("if-unmodified-since"))
    if since is None or validators.modified is None:
        return True
    return validators.modified.replace(microsecond=0) <= since


def _held_already(request: Request, validators: Validators) -> bool:
    if "if-none-match" in request.headers:
        return _names(request, "if-none-match", validators.etag, weak=True)
    since = _date(request.headers.get("if-modified-since"))
    if since is None or validators.modified is None:
        return False
    return validators.modified.replace(microsecond=0) <= since


def _names(request: Request, header: str, etag: str, *, weak: bool) -> bool:
    tags = {
        tag.strip() for value in request.headers.getlist(header) for tag in value.split(",")
    }
    if weak:
        tags = {tag.removeprefix("W/") for tag in tags}
    return etag in tags or "*" in tags


def _date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# -- ranges ------------------------------------------------------------------------------------


def byte_range(request: Request, length: int, validators: Validators) -> tuple[int, int] | None:
    """Return the single byte range that is asked for: first byte and count (RFC 9110 §14.2).

    None when the whole is to be sent: no range, several, a stale If-Range, or nonsense.

    Raises
    ------
    RangeError
        If nothing of it is there.
    """
    if _is_plain(request):
        return None
    unit, _, asked = request.headers.get("range", "").partition("=")
    if unit.strip().lower() != "bytes" or "," in asked or not _unchanged(request, validators):
        return None
    first, dash, last = (text.strip() for text in asked.partition("-"))
    if not dash or not _is_position(first or "0") or not _is_position(last or "0"):
        return None
    if not first:
        return _suffix(last, length)
    start, end = int(first), min(int(last), length - 1) if last else length - 1
    if last and int(last) < start:
        return None
    if start >= length:
        raise RangeError(length)
    return start, end - start + 1


def _suffix(last: str, length: int) -> tuple[int, int] | None:
    if not last:
        return None
    count = min(int(last), length)
    if not count:
        raise RangeError(length)
    return length - count, count


def _is_position(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _unchanged(request: Request, validators: Validators) -> bool:
    held = request.headers.get("if-range")
    if held is None or held.strip() == validators.etag:
        return True
    at = _date(held)
    # A date is only as good as a strong tag when it is the very date (RFC 9110 §13.1.5).
    return (
        at is not None
        and validators.modified is not None
        and validators.modified.replace(microsecond=0) == at
    )


class RangeError(Exception):
    """A range that lies outside the representation (416)."""

    def __init__(self, length: int) -> None:
        super().__init__(f"the representation has {length} bytes")
        self.length = length


def range_response(_request: Request, error: Exception) -> Response:
    """Return 416 with the length there is."""
    length = error.length if isinstance(error, RangeError) else 0
    return problem(
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        str(error),
        headers={"Content-Range": f"bytes */{length}"},
    )
