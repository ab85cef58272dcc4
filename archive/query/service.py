"""The one door for searches, whichever protocol asks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from archive.auth.principal import Principal, Right
from archive.errors import (
    ArchiveError,
    BusyError,
    ForbiddenError,
    InvalidRequestError,
    storage_translated,
)
from archive.query.ahead import SearchAhead
from archive.query.brief import BriefProjection, is_brief
from archive.query.columns import COLUMNS, ORDER_COLUMNS, PATIENT_COLUMNS
from archive.query.evaluation import Evaluation
from archive.query.forms import asks_for_all
from archive.query.matching import Plan, plan_of
from archive.query.request import Level, Order, Page, SearchRequest
from archive.query.returned import Match, Row, private_of, projection_of
from storage.errors import StorageError
from storage.index.candidates import CandidateSearch
from storage.index.engine import Stop
from storage.index.levels import SearchLevel
from storage.index.search import IndexQuery, IndexSearch

_STUDY_UID = ("0020000D",)
_SERIES_UID = ("0020000E",)
_MOST_SORTED = 50_000
# Counting what lies behind a page must not cost more than finding the page.
_MOST_COUNTED = 1_000
# Matches that are read at once: few at first, so that the first is there soon.
_FIRST_READ = 8
_MOST_READ = 200


class QueryService:
    """Finds patients, studies, series and instances (PS3.4 §C.2, PS3.18 §10.6).

    Parameters
    ----------
    search
        The index, for what it decides.
    candidates
        The index, for what the stored JSON decides.
    """

    def __init__(self, search: IndexSearch, candidates: CandidateSearch) -> None:
        self._search = search
        self._candidates = candidates

    def search(
        self,
        principal: Principal,
        request: SearchRequest,
        *,
        stop: Stop | None = None,
        plan: Plan | None = None,
    ) -> Iterator[Match]:
        """Yield every match of the window as DICOM JSON, tags ascending, in a stable order.

        Memory is bounded, and the first match does not wait for the last, unless an order was
        asked for.

        Parameters
        ----------
        stop
            Ends the search from another thread.
        plan
            How ``request`` is carried out, where that is known.

        Raises
        ------
        InvalidRequestError
            If a key's value is not of its form; before anything is yielded.
        BusyError
            If it takes too long, or was stopped; after what was found until then.
        """
        if stop is not None:
            search, candidates = self._search.stoppable(stop), self._candidates.stoppable(stop)
            return QueryService(search, candidates).search(principal, request, plan=plan)
        _require_read(principal)
        plan = plan or plan_of(request)
        with storage_translated():
            keys = self._keys_found(principal, request, plan)
        return self._matches(principal, request, keys)

    def search_ahead(self, principal: Principal, request: SearchRequest) -> SearchAhead:
        """Return the same search on a thread of its own; it runs while the block is open."""
        _require_read(principal)
        plan = plan_of(request)
        return SearchAhead(
            lambda stop: self.search(principal, request, stop=stop, plan=plan),
            ignored=plan.ignored,
        )

    def page(self, principal: Principal, request: SearchRequest) -> Page:
        """Return a bounded window of matches, and whether more lie behind it."""
        _require_read(principal)
        plan = plan_of(request)
        if plan.residual is None:
            return self._page_of_index(principal, request, plan)
        limit = request.limit
        wider = request if limit is None else replace(request, limit=limit + 1)
        with storage_translated():
            keys = list(self._keys_found(principal, wider, plan))
        more = limit is not None and len(keys) > limit
        matches = self._matches(principal, request, keys[:limit] if more else keys)
        remaining = None if more else 0
        return Page(tuple(matches), more=more, ignored=plan.ignored, remaining=remaining)

    def _page_of_index(self, principal: Principal, request: SearchRequest, plan: Plan) -> Page:
        query = _query(request, plan)
        with storage_translated():
            rows, behind = self._search.page(principal.scope, query, beyond=_MOST_COUNTED)
            matches = tuple(self._projected(principal, request, rows))
        remaining = behind if behind < _MOST_COUNTED else None
        return Page(matches, more=behind > 0, ignored=plan.ignored, remaining=remaining)

    def count(self, principal: Principal, request: SearchRequest) -> int:
        """Return how many matches there are, whatever the window."""
        _require_read(principal)
        plan = plan_of(request)
        with storage_translated():
            if plan.residual is not None:
                return sum(1 for _ in self._evaluation(principal, request, plan).keys())  # noqa: SIM118
            return self._search.count(principal.scope, _query(request, plan))

    def ignored_keys(self, request: SearchRequest) -> tuple[str, ...]:
        """Return the keys of ``request`` that take no part in matching."""
        return plan_of(request).ignored

    def _keys_found(
        self, principal: Principal, request: SearchRequest, plan: Plan
    ) -> Iterable[int]:
        """Return the keys of the window, as they are found where the stored JSON decides."""
        if plan.residual is None:
            return self._search.keys(principal.scope, _query(request, plan))
        found = self._evaluation(principal, request, plan).keys()
        if not request.order and request.level is not Level.PATIENT:
            end = None if request.limit is None else request.offset + request.limit
            return islice(found, request.offset, end)
        # An order of its own is put upon everything that matches.
        among = list(islice(found, _MOST_SORTED + 1))
        if len(among) > _MOST_SORTED:
            raise BusyError(
                f"more than {_MOST_SORTED} matches are too many to sort; narrow the search"
            )
        return self._search.keys(principal.scope, _query(request, plan), among=among)

    def _evaluation(
        self, principal: Principal, request: SearchRequest, plan: Plan
    ) -> Evaluation:
        return Evaluation(self._candidates, principal.scope, request.level, plan)

    def _matches(
        self, principal: Principal, request: SearchRequest, keys: Iterable[int]
    ) -> Iterator[Match]:
        level = SearchLevel(request.level.value)
        brief = is_brief(request)
        with storage_translated():
            for some in _in_lists(keys):
                if brief:
                    yield from self._brief(principal, request, some)
                    continue
                rows = list(self._search.rows(principal.scope, level, some))
                yield from self._projected(principal, request, rows)

    def _brief(
        self, principal: Principal, request: SearchRequest, keys: Sequence[int]
    ) -> Iterator[Match]:
        """Yield matches made of columns alone; where one says nothing, the stored JSON does."""
        rows = list(self._search.brief_rows(principal.scope, keys))
        projection = BriefProjection(request.fields)
        if all(map(projection.suffices, rows)):
            yield from map(projection.of, rows)
            return
        found = list(self._search.rows(principal.scope, SearchLevel.INSTANCE, keys))
        yield from self._projected(principal, request, found)

    def _projected(
        self, principal: Principal, request: SearchRequest, rows: Sequence[Row]
    ) -> Iterator[Match]:
        named = {key.path for key in request.keys if not asks_for_all(key)}
        projection = projection_of(
            request.level,
            request.fields,
            every=request.all_fields,
            only=request.only_fields,
            with_study=request.level in (Level.SERIES, Level.INSTANCE)
            and _STUDY_UID not in named,
            with_series=request.level is Level.INSTANCE and _SERIES_UID not in named,
        )
        first = self._first_instances(principal, request, [row.id for row in rows])
        for row in rows:
            yield projection.with_private(projection.of(row), first.get(row.id))

    def _first_instances(
        self, principal: Principal, request: SearchRequest, keys: list[int]
    ) -> dict[int, bytes]:
        """Return what private attributes of studies and series are taken from, if any are."""
        if request.level not in (Level.STUDY, Level.SERIES) or not private_of(request.fields):
            return {}
        return self._candidates.first_instances(
            principal.scope, keys, of_studies=request.level is Level.STUDY
        )


def _in_lists(keys: Iterable[int]) -> Iterator[list[int]]:
    """Yield keys in lists, which grow while keys are still looked for.

    What was found before an error comes before it.
    """
    some: list[int] = []
    size = _MOST_READ if isinstance(keys, list) else _FIRST_READ
    try:
        for key in keys:
            some.append(key)
            if len(some) == size:
                yield some
                some, size = [], min(2 * size, _MOST_READ)
    except (ArchiveError, StorageError):
        if some:
            yield some
        raise
    if some:
        yield some


def _query(request: SearchRequest, plan: Plan) -> IndexQuery:
    return IndexQuery(
        level=SearchLevel(request.level.value),
        predicates=plan.predicates,
        limit=request.limit,
        offset=request.offset,
        order=tuple((_order_column(o, request.level), o.descending) for o in request.order),
    )


def _order_column(order: Order, level: Level) -> str:
    columns = PATIENT_COLUMNS if level is Level.PATIENT else COLUMNS
    column = columns.get((order.tag,))
    if column is None or column.name.partition(".")[0] not in ORDER_COLUMNS[level]:
        names = sorted(
            path[0]
            for path, known in columns.items()
            if len(path) == 1 and known.name.partition(".")[0] in ORDER_COLUMNS[level]
        )
        raise InvalidRequestError(
            f"matches cannot be sorted by {order.tag} at level {level.value}; "
            f"they can by {', '.join(names)}"
        )
    return column.name


def _require_read(principal: Principal) -> None:
    if Right.READ not in principal.rights:
        raise ForbiddenError(f"{principal.name} may not search here")
