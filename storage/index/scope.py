"""What a reader may see, as the index understands it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows that a SELECT may return.

    Parameters
    ----------
    collections
        Names of the collections that are visible; None for all.
    partitions
        Names of the partitions (public, sequestered) that are visible; None for all.
    """

    collections: frozenset[str] | None
    partitions: frozenset[str] | None
