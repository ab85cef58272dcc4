"""The keys that columns cannot decide, put to the stored JSON of an instance.

Keys in one sequence must all match within one of its items (PS3.4 §C.2.2.2.6).
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from archive.dicom.dictionary import VRS, public_vr
from archive.dicom.moments import parse_offset, shifted
from archive.dicom.normalise import normalise_date, normalise_time
from archive.query.comparing import LISTED_VRS, Asked, Test, is_empty, test_of
from archive.query.forms import EMPTY, Bounds, are_alike, date_bounds, listed, time_bounds
from archive.query.request import SearchKey, SearchRequest

Attributes = Mapping[str, dict[str, Any]]

_ZONE: Final = "00080201"
_KNOWN_VRS: Final = frozenset(VRS.values())
# Dates and the times that belong to them (PS3.4 §C.2.2.2.5.4).
DATE_TIME_TAGS: Final[dict[str, str]] = {
    "00080012": "00080013",
    "00080020": "00080030",
    "00080021": "00080031",
    "00080022": "00080032",
    "00080023": "00080033",
    "00080024": "00080034",
    "00080025": "00080035",
    "00100030": "00100032",
    "00400002": "00400003",
    "00400004": "00400005",
    "00400244": "00400245",
    "00400250": "00400251",
}


def vr_of(tag: str) -> str:
    """Return the VR the dictionary gives a tag, the first where there are several; or ""."""
    number = int(tag, 16)
    return "" if number >> 16 & 1 else public_vr(number)[:2]


class _Leaf:
    """One key on an attribute of the data set, or of an item."""

    def __init__(self, tag: str, key: SearchKey, request: SearchRequest) -> None:
        self._tag = tag
        self._key = key
        self._request = request
        self._vr = vr_of(tag)
        self._tests: dict[tuple[str, int], list[Test]] = {}
        self._wants_empty = request.empty_values and key.value.strip() == EMPTY
        if self._vr and not self._wants_empty:
            self._tests_for(self._vr, 0)  # a value of the wrong form is said at once

    def matches(self, item: Attributes, zone: int) -> bool:
        element = item.get(self._tag)
        if self._wants_empty:
            return is_empty(element)
        if element is None:
            return False
        vr, found = _values(element)
        # The sender's VR says what the value is; the dictionary's what was asked.
        tests = self._tests_for(self._vr if vr == "UN" and self._vr else vr, zone)
        combine = all if self._is_listed(vr) else any
        return combine(
            any(test(value) for value in found if value is not None) for test in tests
        )

    def _is_listed(self, vr: str) -> bool:
        return self._request.multiple_values and vr in LISTED_VRS and len(self._split(vr)) > 1

    def _split(self, vr: str) -> list[str]:
        # A comma may stand in a text or a name, in a code it may not.
        return listed(self._key.value) if vr == "CS" else self._key.value.split("\\")

    def _tests_for(self, vr: str, zone: int) -> list[Test]:
        known = self._tests.get((vr, zone))
        if known is None:
            asked: Iterable[str] = self._key.values
            if self._is_listed(vr):
                asked = self._split(vr)
            elif vr == "CS":
                asked = [part for v in asked for part in listed(v)]
            zone_asked = zone if self._request.zone is None else self._request.zone
            known = [
                test_of(Asked(self._key.name, v, self._request.fuzzy, zone_asked), vr)
                for v in asked
            ]
            self._tests[vr, zone] = known
        return known


def _values(element: dict[str, Any]) -> tuple[str, Sequence[Any]]:
    vr = str(element["vr"])
    if vr == "UN" and isinstance(inline := element.get("InlineBinary"), str):
        try:
            text = base64.b64decode(inline).decode("utf-8", "replace").strip(" \0")
        except (binascii.Error, ValueError):
            return vr, ()
        return vr, text.split("\\")
    return vr if vr in _KNOWN_VRS else "UN", element.get("Value") or ()


class _Moments:
    """The ranges of a date and of its time, as one range of moments."""

    def __init__(self, tags: tuple[str, str], date: SearchKey, time: SearchKey) -> None:
        self._date_tag, self._time_tag = tags
        (self._dates,) = date_bounds(date.name, date.value)
        (self._times,) = time_bounds(time.name, time.value)

    def matches(self, item: Attributes, _zone: int) -> bool:
        date = normalise_date(_text(item, self._date_tag))
        time = normalise_time(_text(item, self._time_tag))
        return bool(date and time) and _inside((date, time), self._dates, self._times)


def _inside(moment: tuple[str, str], dates: Bounds, times: Bounds) -> bool:
    low = dates[0] is None or moment >= (dates[0], times[0] or "")
    high = dates[1] is None or moment <= (dates[1], times[1] or "~")
    return low and high


def _text(item: Attributes, tag: str) -> str:
    found = item.get(tag, {}).get("Value") or [""]
    return found[0] if isinstance(found[0], str) else ""


@dataclass(slots=True)
class Residual:
    """Keys that must all match, on a data set or within one item.

    Parameters
    ----------
    leaves
        Keys on its own attributes.
    sequences
        By tag of a sequence, what one of its items must match.
    """

    leaves: list[_Leaf | _Moments] = field(default_factory=list)
    sequences: dict[str, "Residual"] = field(default_factory=dict)
    zone: int | None = None

    def matches(self, attributes: Attributes) -> bool:
        """Tell whether an instance's DICOM JSON meets every key."""
        own = parse_offset(_text(attributes, _ZONE)) or 0
        item = attributes if self.zone is None else _moved(attributes, self.zone - own)
        return self.matches_item(item, own)

    def matches_item(self, item: Attributes, zone: int = 0) -> bool:
        """Tell whether an item of a sequence meets every key on it."""
        return all(leaf.matches(item, zone) for leaf in self.leaves) and all(
            any(inner.matches_item(one, zone) for one in _items(item, tag))
            for tag, inner in self.sequences.items()
        )


def _items(item: Attributes, tag: str) -> list[Attributes]:
    found = item.get(tag, {}).get("Value") or []
    # A sequence without items is one whose attributes are all absent.
    return [one for one in found if isinstance(one, dict)] or [{}]


def _moved(item: Attributes, minutes: int) -> Attributes:
    """Return the attributes with their dates and times in another zone."""
    moved = dict(item)
    for date_tag, time_tag in DATE_TIME_TAGS.items():
        there = shifted(_text(item, date_tag), _text(item, time_tag), minutes)
        if there is not None:
            moved[date_tag] = {"vr": "DA", "Value": [there[0]]}
            moved[time_tag] = {"vr": "TM", "Value": [there[1]]}
    return moved


def residual_of(keys: Sequence[SearchKey], request: SearchRequest) -> Residual | None:
    """Return what the stored JSON must meet; None when no key is left to it.

    Raises
    ------
    InvalidRequestError
        If a value is not of its attribute's form.
    """
    if not keys:
        return None
    residual = Residual(zone=request.zone)
    groups: dict[tuple[str, ...], dict[str, SearchKey]] = {}
    for key in keys:
        groups.setdefault(key.path[:-1], {})[key.path[-1]] = key
    for path, of_item in groups.items():
        place = residual
        for tag in path:
            place = place.sequences.setdefault(tag, Residual())
        place.leaves.extend(_leaves(of_item, request))
    return residual


def _leaves(keys: dict[str, SearchKey], request: SearchRequest) -> Iterable[_Leaf | _Moments]:
    left = dict(keys)
    if request.combined_date_time:
        for date_tag, time_tag in DATE_TIME_TAGS.items():
            date, time = keys.get(date_tag), keys.get(time_tag)
            if date and time and are_alike(date.value, time.value):
                yield _Moments((date_tag, time_tag), date, time)
                del left[date_tag], left[time_tag]
    for tag, key in left.items():
        yield _Leaf(tag, key, request)
