"""Searches that are written down: in settings, rules and commands, as QIDO-RS writes them.

Whoever asks over HTTP sees at once that a key was ignored; a rule that ignored one would go on
sending everything. So here all that takes no part in matching is an error.
"""

import difflib
from typing import Final
from urllib.parse import parse_qsl

from pydicom.datadict import keyword_dict

from archive.dicom.attributes import resolve_path
from archive.errors import InvalidRequestError
from archive.query.matching import plan_of
from archive.query.parameters import parse_search
from archive.query.request import Level, SearchRequest

# Of the parameters that are no keys (PS3.18 Table 8.3.4-1), those that say how to match.
_MATCHING: Final = frozenset({"fuzzymatching", "emptyvaluematching", "multiplevaluematching"})
_OTHER: Final = frozenset(
    {
        "limit",
        "offset",
        "includefield",
        "orderby",
        "count",
        "accept",
        "charset",
        "strict",
    }
)


def parse_where(text: str, level: Level = Level.STUDY) -> SearchRequest:
    """Read a search such as ``Modality=CT&StudyDescription=*CHEST*``.

    Parameters
    ----------
    text
        Keys and values as in the query string of a search (PS3.18 §8.3.4); "" matches all.

    Raises
    ------
    InvalidRequestError
        If a key is no attribute or cannot be matched, or a value is not of its form.
    """
    pairs = parse_qsl(text.strip().removeprefix("?"), keep_blank_values=True)
    for name, value in pairs:
        _check(name, value)
    request = parse_search(pairs, level, ()).request
    ignored = plan_of(request).ignored
    if ignored:
        raise InvalidRequestError(f"{ignored[0]} in {text!r} cannot be matched")
    return SearchRequest(
        level=level,
        keys=request.keys,
        combined_date_time=request.combined_date_time,
        fuzzy=request.fuzzy,
        empty_values=request.empty_values,
        multiple_values=request.multiple_values,
        zone=request.zone,
    )


def _check(name: str, value: str) -> None:
    if name.lower() in _MATCHING:
        return
    if name.lower() in _OTHER:
        raise InvalidRequestError(f"{name} says nothing of what matches: leave it out")
    if resolve_path(name) is None:
        raise InvalidRequestError(f"{name[:80]!r} is no attribute{_hint(name)}")
    if not value.strip(" *"):
        raise InvalidRequestError(f"{name}={value!r} matches everything: leave it out")


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, keyword_dict, n=1, cutoff=0.6)
    return f": did you mean {near[0]}?" if near else " (expected a keyword or tag of PS3.6)"
