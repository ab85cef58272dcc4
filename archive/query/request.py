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
    alternatives
        Further values, where the key was given more than once: any of them may match.
    """

    path: tuple[str, ...]
    value: str
    alternatives: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The path, dotted."""
        return ".".join(self.path)

    @property
    def values(self) -> tuple[str, ...]:
        """Every value that was asked for."""
        return (self.value, *self.alternatives)


@dataclass(frozen=True, slots=True)
class Order:
    """One column to sort matches by.

    Parameters
    ----------
    tag
        Of an attribute that has a column at the level, or above it.
    descending
        Greatest first.
    """

    tag: str
    descending: bool = False


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
    only_fields
        Return ``fields`` and nothing that the level has by default.
    all_fields
        Return every attribute known at the level.
    limit, offset
        The window of matches; ``limit`` None for all.
    combined_date_time
        A date range and the time range beside it are one range of moments
        (PS3.4 §C.2.2.2.5.4); otherwise each is a range of its own.
    fuzzy
        Person names match by how they sound too (PS3.4 §C.2.2.2.1.1).
    empty_values
        A value of two quotation marks matches what is empty or absent (PS3.4 §C.2.2.2.7).
    multiple_values
        Each value of a list must match one of the attribute's (PS3.4 §C.2.2.2.8).
    zone
        Offset from UTC in minutes of the dates and times in keys; None: each study's own.
    order
        How to sort, before the order that the level has by itself.
    """

    level: Level
    keys: tuple[SearchKey, ...] = ()
    fields: frozenset[str] = frozenset()
    only_fields: bool = False
    all_fields: bool = False
    limit: int | None = None
    offset: int = 0
    combined_date_time: bool = False
    fuzzy: bool = False
    empty_values: bool = False
    multiple_values: bool = False
    zone: int | None = None
    order: tuple[Order, ...] = ()


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
    remaining
        How many lie behind it; None when there are too many to count on the side.
    """

    matches: tuple[dict[str, dict[str, object]], ...]
    more: bool
    ignored: tuple[str, ...] = ()
    remaining: int | None = 0
