"""What a row must meet, in the words of the index; archive/query makes these from keys.

Column names are those of `storage.index.tables`, with their table: ``study.patient_id``.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OneOf:
    """The column has one of these values."""

    column: str
    values: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """The text matches a pattern: ``*`` any characters, ``?`` one (PS3.4 §C.2.2.2.4)."""

    column: str
    pattern: str

    @property
    def longest_literal(self) -> str:
        """The longest run of characters without a wildcard."""
        return max(self.pattern.replace("?", "*").split("*"), key=len)


@dataclass(frozen=True, slots=True)
class Between:
    """The column's text lies between two bounds, both included; None leaves a side open.

    An empty column never matches.
    """

    column: str
    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class BetweenMoments:
    """Date and time columns together lie between two bounds (PS3.4 §C.2.2.2.5.4)."""

    date_column: str
    time_column: str
    low: tuple[str, str] | None
    high: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Empty:
    """The column holds nothing."""

    column: str


@dataclass(frozen=True, slots=True)
class SeriesHas:
    """Some instance of the series may have one of these at a path; its JSON decides.

    Parameters
    ----------
    path
        Tags from the outermost sequence to the attribute.
    values, patterns
        Terms, and patterns as for `Like`.
    ranges
        First and last term, both included; None leaves a side open.
    prefix
        What stands before the path in the terms.
    in_order
        Too many series have one to be listed: each is asked, in the order of answers.
    """

    path: tuple[str, ...]
    values: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    ranges: tuple[tuple[str | None, str | None], ...] = ()
    prefix: str = ""
    in_order: bool = False


@dataclass(frozen=True, slots=True)
class SeriesLacks:
    """Some instance of the series may have nothing at a path; its JSON decides."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these holds."""

    predicates: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """At least one of these holds of the study; an index of text lists those it holds of.

    Made by `storage.index.planning`, where that is less work than to look at every study.
    """

    predicates: tuple["Like | OneOf", ...]


@dataclass(frozen=True, slots=True)
class NotAfter:
    """The column's text is this or comes before it; an empty one does."""

    column: str
    value: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """No row meets this."""


Predicate = (
    OneOf
    | Like
    | Between
    | BetweenMoments
    | Empty
    | SeriesHas
    | SeriesLacks
    | AnyOf
    | Listed
    | NotAfter
    | Nothing
)


def table_of(predicate: Predicate) -> str:
    """Return the name of the table that a predicate speaks of."""
    match predicate:
        case AnyOf():
            tables = {table_of(part) for part in predicate.predicates}
            return "series" if len(tables) > 1 else tables.pop()
        case SeriesHas() | SeriesLacks():
            return "series"
        case Listed():
            return "study"
        case BetweenMoments():
            return predicate.date_column.partition(".")[0]
        case Nothing():
            return ""
        case _:
            return predicate.column.partition(".")[0]
