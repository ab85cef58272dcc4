"""A search as both faces state it (PS3.4 §C.2.2, PS3.18 §8.3.4)."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The level at which matches are counted and returned (PS3.4 §C.6.1.1)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    INSTANCE = "IMAGE"


@dataclass(frozen=True, slots=True)
class SearchKey:
    """One matching key.

    Parameters
    ----------
    path
        Tags from the outermost sequence to the attribute, eight upper-case hexadecimal
        digits each; one element unless the key lies in a sequence.
    value
        The value as asked, undecoded: lists, wildcards and ranges still in it. Empty
        means universal matching (PS3.4 §C.2.2.2.3).
    """

    path: tuple[str, ...]
    value: str


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What to find, what to return of it, and which part of the matches.

    Parameters
    ----------
    level
        What one match is.
    keys
        All must match.
    fields
        Tags to return beyond the level's defaults.
    all_fields
        Return every attribute known at the level.
    limit, offset
        The window of matches; ``limit`` None for all.
    combined_date_time
        A date range and the time range beside it are one range of moments
        (PS3.4 §C.2.2.2.5.4); otherwise each is a range of its own.
    """

    level: Level
    keys: tuple[SearchKey, ...] = ()
    fields: frozenset[str] = frozenset()
    all_fields: bool = False
    limit: int | None = None
    offset: int = 0
    combined_date_time: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """What a bounded search found.

    Parameters
    ----------
    matches
        DICOM JSON Model objects (PS3.18 Annex F), one per match, tags ascending.
    more
        Whether further matches lie behind this window.
    ignored
        Keys that took no part in matching, as asked.
    """

    matches: tuple[dict[str, dict[str, object]], ...]
    more: bool
    ignored: tuple[str, ...] = ()
