"""The one door for searches, whichever protocol asks."""

from collections.abc import Iterator
from dataclasses import replace

from archive.auth.principal import Principal, Right
from archive.errors import ForbiddenError, storage_translated
from archive.query import matching
from archive.query.request import Level, Page, SearchRequest
from archive.query.returned import Match, Projection
from storage.index.search import IndexQuery, IndexSearch, SearchLevel

_STUDY_UID = ("0020000D",)
_SERIES_UID = ("0020000E",)


class QueryService:
    """Finds patients, studies, series and instances (PS3.4 §C.2, PS3.18 §10.6).

    Parameters
    ----------
    search
        The index.
    """

    def __init__(self, search: IndexSearch) -> None:
        self._search = search

    def search(self, principal: Principal, request: SearchRequest) -> Iterator[Match]:
        """Yield every match of the window as DICOM JSON, tags ascending, in a stable order.

        Raises
        ------
        InvalidRequestError
            If a key's value is not of its form; before anything is yielded.
        """
        _require_read(principal)
        query = _query(request)
        with storage_translated():
            keys = self._search.keys(principal.scope, query)
        return self._matches(principal, request, keys)

    def page(self, principal: Principal, request: SearchRequest) -> Page:
        """Return a bounded window of matches, and whether more lie behind it."""
        limit = request.limit
        wider = request if limit is None else replace(request, limit=limit + 1)
        _require_read(principal)
        with storage_translated():
            keys = self._search.keys(principal.scope, _query(wider))
        more = limit is not None and len(keys) > limit
        matches = self._matches(principal, request, keys[:limit] if more else keys)
        return Page(tuple(matches), more=more, ignored=matching.ignored_keys(request))

    def count(self, principal: Principal, request: SearchRequest) -> int:
        """Return how many matches there are, whatever the window."""
        _require_read(principal)
        with storage_translated():
            return self._search.count(principal.scope, _query(request))

    def ignored_keys(self, request: SearchRequest) -> tuple[str, ...]:
        """Return the keys of ``request`` that take no part in matching."""
        return matching.ignored_keys(request)

    def _matches(
        self, principal: Principal, request: SearchRequest, keys: list[int]
    ) -> Iterator[Match]:
        named = {key.path for key in request.keys if not matching.is_universal(key.value)}
        projection = Projection(
            request,
            with_study=request.level in (Level.SERIES, Level.INSTANCE)
            and _STUDY_UID not in named,
            with_series=request.level is Level.INSTANCE and _SERIES_UID not in named,
        )
        with storage_translated():
            for row in self._search.rows(
                principal.scope, SearchLevel(request.level.value), keys
            ):
                yield projection.of(row)


def _query(request: SearchRequest) -> IndexQuery:
    return IndexQuery(
        level=SearchLevel(request.level.value),
        predicates=matching.predicates_of(request),
        limit=request.limit,
        offset=request.offset,
    )


def _require_read(principal: Principal) -> None:
    if Right.READ not in principal.rights:
        raise ForbiddenError(f"{principal.name} may not search here")
