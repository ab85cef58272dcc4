"""Query strings of searches to typed requests (PS3.18 §8.3.4)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from archive.dicom.attributes import resolve_path
from archive.dicom.moments import parse_offset
from archive.errors import InvalidRequestError
from archive.query.request import Level, Order, SearchKey, SearchRequest

DEFAULT_LIMIT: Final = 100
LARGEST_LIMIT: Final = 5000
_LARGEST_OFFSET: Final = 2**62
_MOST_KEYS: Final = 200
_ZONE: Final = "00080201"

# Parameters of the service that are no keys (PS3.18 Table 8.3.4-1), those of HTTP, and ours.
_RESERVED: Final = frozenset(
    {
        "limit",
        "offset",
        "includefield",
        "fuzzymatching",
        "emptyvaluematching",
        "multiplevaluematching",
        "accept",
        "charset",
        "strict",
        "orderby",
        "count",
    }
)
_TRUE: Final = frozenset({"true", "1"})
_FALSE: Final = frozenset({"false", "0", ""})


@dataclass(frozen=True, slots=True)
class Search:
    """A search, and what of the query string took no part in it.

    Parameters
    ----------
    unknown
        Names that are no attributes, as asked.
    cut
        Whether the limit that was asked for is more than is given at once.
    count
        Whether the number of all matches is wanted.
    strict
        Whether a key that cannot be matched is an error.
    """

    request: SearchRequest
    unknown: tuple[str, ...]
    cut: bool = False
    count: bool = False
    strict: bool = False


def parse_search(
    parameters: Sequence[tuple[str, str]], level: Level, path_keys: Sequence[SearchKey]
) -> Search:
    """Read a query string that was decoded once.

    Parameters
    ----------
    path_keys
        The UIDs of the path, which match like any other key.

    Raises
    ------
    InvalidRequestError
        If a parameter's value is not of its form, or there are too many keys; also if a key is
        unknown and ``strict=1``.
    """
    values, unknown = _keys(parameters)
    given = {name.lower(): value for name, value in parameters}
    strict = _flag(given, "strict")
    fields, everything, unknown_fields = _fields(parameters)
    unknown += unknown_fields
    if unknown and strict:
        raise InvalidRequestError(f"unknown attribute {unknown[0][:80]!r}")
    zone = values.pop((_ZONE,), None)
    # A key that is given asks for its attribute too (PS3.18 §10.6.3.3).
    fields |= {path[0] for path in values}
    keys = tuple(SearchKey(path, first, tuple(more)) for path, (first, *more) in values.items())
    limit = _number(given, "limit", DEFAULT_LIMIT)
    request = SearchRequest(
        level=level,
        keys=(*path_keys, *keys),
        fields=frozenset(fields),
        all_fields=everything,
        limit=min(limit, LARGEST_LIMIT),
        offset=_number(given, "offset", 0),
        combined_date_time=True,
        fuzzy=_flag(given, "fuzzymatching"),
        empty_values=_flag(given, "emptyvaluematching"),
        multiple_values=_flag(given, "multiplevaluematching"),
        zone=_zone(zone),
        order=tuple(_orders(given.get("orderby", ""))),
    )
    return Search(
        request,
        tuple(unknown),
        cut=limit > LARGEST_LIMIT,
        count=_flag(given, "count"),
        strict=strict,
    )


def _keys(
    parameters: Sequence[tuple[str, str]],
) -> tuple[dict[tuple[str, ...], list[str]], list[str]]:
    values: dict[tuple[str, ...], list[str]] = {}
    unknown: list[str] = []
    for name, value in parameters:
        if not name or name.lower() in _RESERVED:
            continue
        path = resolve_path(name)
        if path is None:
            unknown.append(name)
        else:
            values.setdefault(tuple(attribute.tag for attribute in path), []).append(value)
    if len(values) > _MOST_KEYS:
        raise InvalidRequestError(f"more than {_MOST_KEYS} keys")
    return values, unknown


def _fields(parameters: Iterable[tuple[str, str]]) -> tuple[set[str], bool, list[str]]:
    fields: set[str] = set()
    unknown: list[str] = []
    everything = False
    for wanted in _included(parameters):
        if wanted.lower() == "all":
            everything = True
            continue
        path = resolve_path(wanted)
        if path is None:
            unknown.append(wanted)
        else:
            fields.add(path[0].tag)
    return fields, everything, unknown


def _included(parameters: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in parameters:
        if name.lower() == "includefield":
            yield from (part.strip() for part in value.split(",") if part.strip(" *"))


def _number(given: dict[str, str], name: str, default: int) -> int:
    text = given.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > _LARGEST_OFFSET:
        raise InvalidRequestError(f"{name}={text[:80]!r} is not a whole number of 0 or more")
    return int(text)


def _flag(given: dict[str, str], name: str) -> bool:
    text = given.get(name, "").strip().lower()
    if text not in _TRUE | _FALSE:
        raise InvalidRequestError(f"{name}={text[:80]!r} is neither true nor false")
    return text in _TRUE


def _zone(values: list[str] | None) -> int | None:
    if not values or not values[0].strip("*"):
        return None
    minutes = parse_offset(values[0])
    if minutes is None:
        raise InvalidRequestError(
            f"TimezoneOffsetFromUTC={values[0][:80]!r} is no offset: expected +HHMM or -HHMM, "
            "the plus percent-encoded as %2B (PS3.3 §C.12.1.1.8)"
        )
    return minutes


def _orders(text: str) -> Iterator[Order]:
    """Read ``orderby``, an extension: attributes, a minus before those to come descending."""
    for part in text.split(","):
        name = part.strip().removeprefix("-")
        if not name:
            continue
        path = resolve_path(name)
        if path is None or len(path) > 1:
            raise InvalidRequestError(
                f"orderby={name[:80]!r} is no attribute: expected keywords or tags, separated "
                "by commas, with a minus before those that come descending"
            )
        yield Order(path[0].tag, descending=part.strip().startswith("-"))
