"""Text, names, dates and times in the one form that the index compares."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

_DATE: Final = re.compile(r"(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})")
_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_TIME: Final = re.compile(r"(\d{2}):?(?:(\d{2}):?(?:(\d{2})(?:\.(\d{1,6}))?)?)?")


def normalise_text(value: str) -> str:
    """Return text without regard to case, accents and runs of blanks.

    Letters are compared as Unicode's full case folding has them, without combining marks.
    """
    if value.isascii():
        return " ".join(value.lower().split())
    folded = unicodedata.normalize("NFKD", value.casefold())
    bare = "".join(letter for letter in folded if not unicodedata.combining(letter))
    return " ".join(unicodedata.normalize("NFC", bare).split())


def name_key(value: str) -> str:
    """Return the key of a person name (PS3.5 §6.2.1.2).

    Parameters
    ----------
    value
        Component groups joined by ``=``, components by ``^``.

    Returns
    -------
    str
        The same structure, each component normalised, empty ones at the end left away.
    """
    groups = [
        "^".join(normalise_text(component) for component in group.split("^")).rstrip("^")
        for group in value.split("=")
    ]
    return "=".join(groups).rstrip("=")


def normalise_date(value: str) -> str:
    """Return ``YYYYMMDD`` of a DA value, the old ``YYYY.MM.DD`` included; "" if it is none."""
    match = _DATE.match(value.strip())
    if match is None or not ("01" <= match[2] <= "12" and "01" <= match[3] <= "31"):
        return ""
    return match[1] + match[2] + match[3]


def normalise_time(value: str) -> str:
    """Return ``HHMMSS.FFFFFF`` of a TM value, missing parts as zeros; "" if it is none."""
    match = _TIME.match(value.strip())
    if match is None:
        return ""
    hours, minutes, seconds, fraction = match.groups()
    if hours > "23" or (minutes or "00") > "59" or (seconds or "00") > "60":
        return ""
    return f"{hours}{minutes or '00'}{seconds or '00'}.{(fraction or '').ljust(6, '0')}"


def number_text(value: float) -> str:
    """Return a number as the index compares it: ``5`` for 5 and 5.0."""
    whole = isinstance(value, int) or value.is_integer()
    return str(int(value)) if whole else repr(value)


def joined_name(name: Mapping[str, object]) -> str:
    """Return the component groups of a JSON person name joined with ``=`` (PS3.5 §6.2.1)."""
    groups = (name.get(group) for group in _NAME_GROUPS)
    joined = "=".join(group if isinstance(group, str) else "" for group in groups)
    return joined.rstrip("=")


def term_value(value: object, vr: str) -> str:
    """Return one value of an element of the DICOM JSON Model as terms hold it; "" for none."""
    if isinstance(value, str):
        if vr == "DA":
            return normalise_date(value) or normalise_text(value)
        if vr == "TM":
            return normalise_time(value) or normalise_text(value)
        return normalise_text(value)
    if isinstance(value, int | float):
        return number_text(value)
    return name_key(joined_name(value)) if isinstance(value, Mapping) else ""
