"""Query strings of searches to typed requests (PS3.18 §8.3.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from archive.dicom.attributes import resolve_path
from archive.errors import InvalidRequestError
from archive.query.request import Level, SearchKey, SearchRequest

DEFAULT_LIMIT: Final = 100
LARGEST_LIMIT: Final = 5000
_LARGEST_OFFSET: Final = 2**62
_MOST_KEYS: Final = 200

# Parameters of the service that are no keys (PS3.18 Table 8.3.4-1), and those of HTTP.
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
    }
)
# Asked for, and not yet done: PS3.18 §8.3.4.2 wants to be told.
_UNSUPPORTED: Final = ("fuzzymatching", "emptyvaluematching", "multiplevaluematching")


@dataclass(frozen=True, slots=True)
class Search:
    """A search, and what of the query string took no part in it."""

    request: SearchRequest
    unknown: tuple[str, ...]
    unsupported: tuple[str, ...]


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
        If limit or offset is no number of its range, or there are too many keys; also if a
        key is unknown and ``strict=1``.
    """
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
    given = {name.lower(): value for name, value in parameters}
    if unknown and given.get("strict") in ("1", "true"):
        raise InvalidRequestError(f"unknown attribute {unknown[0]!r}")
    fields, everything, unknown_fields = _fields(parameters)
    # A key that is given asks for its attribute too (PS3.18 §10.6.3.3).
    fields |= {path[0] for path in values}
    keys = tuple(SearchKey(path, "\\".join(of_path)) for path, of_path in values.items())
    request = SearchRequest(
        level=level,
        keys=(*path_keys, *keys),
        fields=frozenset(fields),
        all_fields=everything,
        limit=min(_number(given, "limit", DEFAULT_LIMIT), LARGEST_LIMIT),
        offset=_number(given, "offset", 0),
        combined_date_time=True,
    )
    unsupported = tuple(name for name in _UNSUPPORTED if given.get(name, "").lower() == "true")
    return Search(request, (*unknown, *unknown_fields), unsupported)


def _fields(parameters: Sequence[tuple[str, str]]) -> tuple[set[str], bool, list[str]]:
    fields: set[str] = set()
    unknown: list[str] = []
    everything = False
    for name, value in parameters:
        if name.lower() != "includefield":
            continue
        for part in value.split(","):
            wanted = part.strip()
            if wanted == "all":
                everything = True
            elif wanted:
                path = resolve_path(wanted)
                if path is None:
                    unknown.append(wanted)
                else:
                    fields.add(path[0].tag)
    return fields, everything, unknown


def _number(given: dict[str, str], name: str, default: int) -> int:
    text = given.get(name)
    if text is None or not text.strip():
        return default
    if not text.strip().isdigit() or int(text) > _LARGEST_OFFSET:
        raise InvalidRequestError(f"{name}={text!r} is not a whole number of 0 or more")
    return int(text)
