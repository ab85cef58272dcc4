"""Searches that the stored JSON decides: candidates looked through in the order of answers."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import zstandard

from archive.errors import BusyError
from archive.query.matching import Plan
from archive.query.request import Level
from storage.index.candidates import Candidate, CandidateSearch
from storage.index.scope import Scope

# What one search may take: beyond, it is refused rather than left to hold a worker.
_LONGEST_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One search by stored JSON.

    Parameters
    ----------
    level
        What one match is.
    plan
        What must hold; with a residual.
    """

    search: CandidateSearch
    scope: Scope
    level: Level
    plan: Plan

    def keys(self) -> Iterator[int]:
        """Yield the primary keys of matches, in order, each once.

        Raises
        ------
        BusyError
            If it takes too long.
        """
        end = time.monotonic() + _LONGEST_S
        seen: set[int] = set()
        for page in self.search.series(self.scope, self.plan.predicates):
            for key in self._of_page(page, seen):
                if time.monotonic() > end:
                    raise BusyError(
                        f"the search took longer than {_LONGEST_S:g} s: it must look into too "
                        "many instances; add a key that narrows it, such as StudyDate"
                    )
                if key is not None and key not in seen:
                    seen.add(key)
                    yield key

    def _of_page(self, page: Sequence[Candidate], seen: set[int]) -> Iterator[int | None]:
        """Yield the matches of a page, and None for each series without one."""
        whole = self._decided_by_one(page)
        first = self.search.first_instances(self.scope, sorted(whole))
        for candidate in page:
            key = self._key(candidate)
            if key is not None and key in seen:
                continue
            if candidate.series not in whole:
                yield from self._looked_through(candidate)
            elif candidate.series in first and self._matches(first[candidate.series][1]):
                yield from self._all_of(candidate)
            else:
                yield None

    def _decided_by_one(self, page: Sequence[Candidate]) -> set[int]:
        """Return the series all of whose instances say the same to the keys."""
        if not self.plan.is_constant:
            return set()
        keys = [candidate.series for candidate in page]
        return set(keys) - self.search.varying(keys, self.plan.paths)

    def _looked_through(self, candidate: Candidate) -> Iterator[int | None]:
        key = self._key(candidate)
        for instance, metadata in self._instances(candidate):
            if self._matches(metadata):
                yield instance if key is None else key
                if key is not None:
                    return
            else:
                yield None

    def _all_of(self, candidate: Candidate) -> Iterator[int]:
        key = self._key(candidate)
        if key is not None:
            yield key
        else:
            yield from (instance for instance, _ in self._instances(candidate))

    def _instances(self, candidate: Candidate) -> Iterator[tuple[int, bytes]]:
        return self.search.instances(self.scope, self.plan.predicates, candidate.series)

    def _key(self, candidate: Candidate) -> int | None:
        """Return the key of the match a series belongs to; None where instances match."""
        keys = {
            Level.PATIENT: candidate.patient,
            Level.STUDY: candidate.study,
            Level.SERIES: candidate.series,
        }
        return keys.get(self.level)

    def _matches(self, metadata: bytes) -> bool:
        attributes: dict[str, Any] = orjson.loads(zstandard.decompress(metadata))
        return self.plan.residual is None or self.plan.residual.matches(attributes)
