"""Dates and times of matches in the time zone that was asked for (PS3.4 §C.2.2.2)."""

from collections.abc import Mapping
from typing import Any, Final

from archive.dicom.moments import parse_offset, shifted
from archive.query.residual import DATE_TIME_TAGS

Element = dict[str, Any]
_ZONE: Final = "00080201"


def written_offset(minutes: int) -> str:
    """Return a Timezone Offset From UTC as it is written: +HHMM or -HHMM."""
    hours, rest = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours:02}{rest:02}"


def in_zone(match: Mapping[str, Element], zone: int) -> dict[str, Element]:
    """Return a match with its dates and times of day in another zone.

    A date moves with the time that belongs to it; a date alone is a day anywhere. A DT that
    says no zone is given the one it had. What says no zone at all is taken for UTC, as it is
    where it is matched.
    """
    own = parse_offset(_text(match, _ZONE)) or 0
    moved = dict(match)
    for date_tag, time_tag in DATE_TIME_TAGS.items():
        there = shifted(_text(match, date_tag), _text(match, time_tag), zone - own)
        if there is not None:
            date, time = there
            moved[date_tag] = {"vr": "DA", "Value": [date]}
            moved[time_tag] = {"vr": "TM", "Value": [time.removesuffix(".000000")]}
    for tag, element in match.items():
        if element["vr"] == "DT" and "Value" in element:
            values = [_with_zone(value, own) for value in element["Value"]]
            moved[tag] = {"vr": "DT", "Value": values}
    return moved


def _with_zone(value: Any, own: int) -> Any:  # noqa: ANN401 - a JSON value
    says = isinstance(value, str) and len(value) > 5 and value[-5] in "+-"
    if not isinstance(value, str) or not value or says:
        return value
    return value + written_offset(own)


def _text(match: Mapping[str, Element], tag: str) -> str:
    values = match.get(tag, {}).get("Value") or [""]
    return values[0] if isinstance(values[0], str) else ""
