"""Searches that the stored JSON decides: candidates looked through in the order of answers."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from archive.dicom.compression import decompress
from archive.errors import BusyError
from archive.query.matching import Plan
from archive.query.request import Level
from storage.index.candidates import Candidate, CandidateSearch
from storage.index.scope import Scope

# What one search may take: beyond, it is refused rather than left to hold a worker.
_LONGEST_S: Final = 30.0
# Few enough that a page that is found early has not cost much, many enough for one query.
_INSTANCES_AT_ONCE: Final = 256


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
        """Yield the matches of a page in order, and None behind each group of it."""
        whole = self._decided_by_one(page)
        for group in _groups(page, whole):
            waiting = [one for one in group if self._parent(one) not in seen]
            decided = self._matching(waiting, whole)
            looked_at = [one.series for one in waiting if one.series not in whole]
            if self.level is Level.INSTANCE:
                yield from self._instances([*decided, *looked_at], decided)
            else:
                decided |= self._matching_in_some(looked_at)
                yield from (self._parent(one) for one in waiting if one.series in decided)
            yield None

    def _decided_by_one(self, page: Sequence[Candidate]) -> set[int]:
        """Return the series all of whose instances say the same to the keys."""
        if not self.plan.is_constant:
            return set()
        keys = [candidate.series for candidate in page]
        return set(keys) - self.search.varying(keys, self.plan.paths)

    def _matching(self, candidates: Sequence[Candidate], whole: set[int]) -> set[int]:
        """Return those series of ``whole`` whose first instance, and so every one, matches."""
        keys = [one.series for one in candidates if one.series in whole]
        first = self.search.first_instances(self.scope, keys)
        return {key for key, metadata in first.items() if self._matches(metadata)}

    def _matching_in_some(self, keys: Sequence[int]) -> set[int]:
        """Return the series of ``keys`` some instance of which matches."""
        found: set[int] = set()
        for of, _, metadata in self._read(keys):
            if of not in found and self._matches(metadata):
                found.add(of)
        return found

    def _instances(self, keys: Sequence[int], decided: set[int]) -> Iterator[int]:
        """Yield the instances that match; those of ``decided`` series all do."""
        for of, key, metadata in self._read(keys):
            if of in decided or self._matches(metadata):
                yield key

    def _read(self, keys: Sequence[int]) -> Iterator[tuple[int, int, bytes]]:
        if not keys:
            return iter(())
        return self.search.instances(self.scope, self.plan.predicates, keys)

    def _parent(self, candidate: Candidate) -> int | None:
        """Return the key of the match a series belongs to; None where instances match."""
        keys = {
            Level.PATIENT: candidate.patient,
            Level.STUDY: candidate.study,
            Level.SERIES: candidate.series,
        }
        return keys.get(self.level)

    def _matches(self, metadata: bytes) -> bool:
        attributes: dict[str, Any] = orjson.loads(decompress(metadata))
        return self.plan.residual is None or self.plan.residual.matches(attributes)


def _groups(page: Sequence[Candidate], whole: set[int]) -> Iterator[list[Candidate]]:
    """Yield candidates in groups of which not too many instances have to be looked at."""
    group: list[Candidate] = []
    size = 0
    for candidate in page:
        group.append(candidate)
        size += 1 if candidate.series in whole else candidate.instances
        if size >= _INSTANCES_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group
