"""Reading instances: which ones there are to retrieve, and what ingest worked out for them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from sys import intern
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    literal_column,
    or_,
    select,
)

from storage.index import clock
from storage.index.changes import in_scope
from storage.index.engine import IndexEngine
from storage.index.prepared import Prepared
from storage.index.rows import InstanceDetail, ListedInstance, StoredInstance
from storage.index.scope import Scope
from storage.index.tables import change, instance, instance_detail, series, study
from storage.index.totals import RELEASED

_PAGE = 500
# How many columns of `select_instances` tell of the instance, before those added to them.
_COLUMNS = 13
_UIDS: Final = {
    "study": study.c.study_instance_uid,
    "series": series.c.series_instance_uid,
    "sop": instance.c.sop_instance_uid,
}
_ORDER = (
    study.c.id,
    series.c.series_number.nulls_first(),
    series.c.id,
    instance.c.instance_number.nulls_first(),
    instance.c.id,
)


@dataclass(frozen=True, slots=True)
class Target:
    """A study, a series (its UID given) or an instance (both given)."""

    study_instance_uid: str
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None

    def uids(self) -> dict[str, str]:
        """Return the UIDs that it gives, by what they are of."""
        given = {
            "study": self.study_instance_uid,
            "series": self.series_instance_uid,
            "sop": self.sop_instance_uid,
        }
        return {name: uid for name, uid in given.items() if uid is not None}

    def condition(self) -> ColumnElement[bool]:
        """Return what a row of the three joined tables must meet."""
        condition = study.c.study_instance_uid == self.study_instance_uid
        if self.series_instance_uid is not None:
            condition = and_(
                condition, series.c.series_instance_uid == self.series_instance_uid
            )
        if self.sop_instance_uid is not None:
            condition = and_(condition, instance.c.sop_instance_uid == self.sop_instance_uid)
        return condition


def select_instances(*more: Any) -> Select[Any]:  # noqa: ANN401 - columns of any type
    """Select what `stored_instance` needs, and ``more`` columns."""
    return (
        select(
            instance.c.id,
            study.c.study_instance_uid,
            series.c.series_instance_uid,
            instance.c.sop_instance_uid,
            instance.c.sop_class_uid,
            instance.c.transfer_syntax_uid,
            instance.c.number_of_frames,
            instance.c.object_key,
            instance.c.size_bytes,
            instance.c.dataset_offset,
            instance.c.digest,
            instance.c.received_at,
            instance.c.change,
            *more,
        )
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == series.c.study_fk)
    )


def stored_instance(row: Row[Any]) -> StoredInstance:
    """Return what a row of `select_instances` tells, whatever else it holds."""
    return _stored(row[:_COLUMNS])


def _stored(columns: Sequence[Any]) -> StoredInstance:
    *first, received_at, change_number = columns
    return StoredInstance._make((*first, clock.from_us(received_at), change_number))


# Not a parameter: only so can SQLite use the index of what is released, and look an instance
# up by its UIDs. With a parameter it goes through all instances of the study.
_IS_RELEASED: Final = instance.c.state == literal_column(f"'{RELEASED}'")


def visible(scope: Scope) -> ColumnElement[bool]:
    """Return the condition that an instance, with its parents, may be read."""
    return and_(
        _IS_RELEASED,
        in_scope(study, scope),
        in_scope(series, scope),
        in_scope(instance, scope),
    )


_DETAILS: Final = ("metadata", "bulk", "frames")


@lru_cache(maxsize=64)
def _one_instance(scope: Scope, details: tuple[str, ...]) -> tuple[Prepared, dict[str, Any]]:
    """Select one instance with some of its details, prepared, for every frame asks for it.

    Returns
    -------
    tuple
        The statement, and those of its values that the scope decides.
    """
    statement = select_instances(*(instance_detail.c[name] for name in details))
    if details:
        statement = statement.join(
            instance_detail, instance_detail.c.instance_fk == instance.c.id
        )
    statement = statement.where(
        study.c.study_instance_uid == bindparam("study"),
        series.c.series_instance_uid == bindparam("series"),
        instance.c.sop_instance_uid == bindparam("sop"),
        visible(scope),
    )
    return Prepared(statement), scope_values(statement)


def scope_values(statement: Select[Any]) -> dict[str, Any]:
    """Return those values of a statement to be prepared that its scope decides: the lists."""
    values = statement.compile().params.items()
    return {name: one for name, one in values if isinstance(one, list)}


@lru_cache(maxsize=64)
def _last_change(scope: Scope, named: tuple[str, ...]) -> tuple[Prepared, dict[str, Any]]:
    """Select number and moment of the last change of what is ``named``, prepared."""
    table = series if "series" in named else study
    statement = (
        select(table.c.change, change.c.at)
        .select_from(study.join(series, series.c.study_fk == study.c.id))
        .join(instance, instance.c.series_fk == series.c.id)
        .outerjoin(change, change.c.sequence == table.c.change)
        .where(*(_UIDS[name] == bindparam(name) for name in named), visible(scope))
        .limit(1)
    )
    return Prepared(statement), scope_values(statement)


@lru_cache(maxsize=64)
def _by_keys(scope: Scope) -> tuple[Prepared, dict[str, Any]]:
    """Select instances by key, prepared, since sending asks page by page."""
    keys: BindParameter[int] = bindparam("keys", expanding=True)
    statement = select_instances().where(instance.c.id.in_(keys), visible(scope))
    return Prepared(statement), scope_values(statement)


@lru_cache(maxsize=64)
def _listed(scope: Scope, named: tuple[str, ...]) -> tuple[Prepared, dict[str, Any]]:
    """Select in short what is visible of what is ``named``, in order, prepared."""
    statement = _in_short().where(
        *(_UIDS[name] == bindparam(name) for name in named), visible(scope)
    )
    return Prepared(statement), scope_values(statement)


def _in_short() -> Select[Any]:
    return (
        select(
            instance.c.id,
            instance.c.sop_instance_uid,
            instance.c.sop_class_uid,
            instance.c.transfer_syntax_uid,
        )
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == series.c.study_fk)
        .order_by(*_ORDER)
    )


@lru_cache(maxsize=64)
def _keys_of(scope: Scope, named: tuple[str, ...]) -> tuple[Prepared, dict[str, Any]]:
    """Select the keys of all that is visible of what is ``named``, in order, prepared."""
    statement = (
        select(instance.c.id)
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == series.c.study_fk)
        .where(*(_UIDS[name] == bindparam(name) for name in named), visible(scope))
        .order_by(*_ORDER)
    )
    return Prepared(statement), scope_values(statement)


def _these(*more: Any) -> Prepared:  # noqa: ANN401 - columns of any type
    keys: BindParameter[int] = bindparam("keys", expanding=True)
    statement = select_instances(*more)
    if more:
        statement = statement.join(
            instance_detail, instance_detail.c.instance_fk == instance.c.id
        )
    return Prepared(statement.where(instance.c.id.in_(keys)))


_THESE: Final = _these()
_WITH_METADATA: Final = _these(instance_detail.c.metadata)
_WITH_DETAILS: Final = _these(
    instance_detail.c.metadata, instance_detail.c.bulk, instance_detail.c.frames
)


def _rows_of(connection: Connection, scope: Scope, targets: Sequence[Target]) -> Iterable[Any]:
    if len(targets) > 1:
        return connection.execute(_in_short().where(_any_of(targets), visible(scope)))
    uids = targets[0].uids()
    prepared, visible_to = _listed(scope, tuple(uids))
    return prepared.rows(connection, uids | visible_to)


class InstanceReader:
    """Reads visible instances.

    Parameters
    ----------
    engine
        The index.
    """

    def __init__(self, engine: IndexEngine) -> None:
        self._engine = engine

    def find(
        self, scope: Scope, target: Target
    ) -> tuple[StoredInstance, InstanceDetail] | None:
        """Return one instance with its details; None when there is none to see."""
        for *columns, metadata, bulk, frames in self._one(scope, target, *_DETAILS):
            return _stored(columns), InstanceDetail(metadata, bulk, frames)
        return None

    def find_frames(self, scope: Scope, target: Target) -> tuple[StoredInstance, bytes] | None:
        """Return one instance with its frame table; None when there is none to see."""
        for *columns, frames in self._one(scope, target, "frames"):
            return _stored(columns), frames
        return None

    def find_instance(self, scope: Scope, target: Target) -> StoredInstance | None:
        """Return one instance alone; None when there is none to see."""
        for columns in self._one(scope, target):
            return _stored(columns)
        return None

    def _one(self, scope: Scope, target: Target, *details: str) -> list[tuple[Any, ...]]:
        statement, visible_to = _one_instance(scope, details)
        return self._engine.rows(statement, target.uids() | visible_to)

    def iter_instances(
        self, scope: Scope, targets: Sequence[Target]
    ) -> Iterator[StoredInstance]:
        """Yield the visible instances of ``targets``, each once, by study, series and number.

        Instances are fetched in pages by their keys, so that no transaction stays open while
        the caller sends them.
        """
        for page in self._pages(scope, targets):
            rows = self._rows(_THESE, page)
            yield from (_stored(rows[key]) for key in page if key in rows)

    def listed(self, scope: Scope, targets: Sequence[Target]) -> list[ListedInstance]:
        """Return the visible instances of ``targets`` in short, by study, series and number."""
        found: list[ListedInstance] = []
        for first in range(0, len(targets), _PAGE):
            page = targets[first : first + _PAGE]
            with self._engine.read() as connection:
                found.extend(
                    # Of classes and syntaxes there are few: one text serves all.
                    ListedInstance(key, uid, intern(sop_class), intern(syntax))
                    for key, uid, sop_class, syntax in _rows_of(connection, scope, page)
                )
        return found

    def by_keys(self, scope: Scope, keys: Sequence[int]) -> dict[int, StoredInstance]:
        """Return those instances that are visible now, by key."""
        with self._engine.read() as connection:
            statement, visible_to = _by_keys(scope)
            rows = statement.rows(connection, {"keys": list(keys)} | visible_to)
        return {row[0]: _stored(row) for row in rows}

    def iter_metadata(
        self, scope: Scope, targets: Sequence[Target]
    ) -> Iterator[tuple[StoredInstance, bytes]]:
        """Yield each visible instance of ``targets`` with its zstd DICOM JSON."""
        for page in self._pages(scope, targets):
            rows = self._rows(_WITH_METADATA, page)
            for *columns, metadata in (rows[key] for key in page if key in rows):
                yield _stored(columns), metadata

    def iter_details(
        self, scope: Scope, targets: Sequence[Target]
    ) -> Iterator[tuple[StoredInstance, InstanceDetail]]:
        """Yield each visible instance of ``targets`` with what ingest worked out for it."""
        for page in self._pages(scope, targets):
            rows = self._rows(_WITH_DETAILS, page)
            for *columns, metadata, bulk, frames in (rows[key] for key in page if key in rows):
                yield _stored(columns), InstanceDetail(metadata, bulk, frames)

    def last_change(self, scope: Scope, target: Target) -> tuple[int, datetime | None] | None:
        """Return number and moment of the last change of what ``target`` shows.

        The number grows whenever an instance is added, replaced, deleted or restored: a
        validator. None when there is nothing to see.
        """
        uids = target.uids()
        statement, visible_to = _last_change(scope, tuple(uids))
        rows = self._engine.rows(statement, uids | visible_to)
        for number, at in rows:
            return number, None if at is None else clock.from_us(at)
        return None

    def _pages(self, scope: Scope, targets: Sequence[Target]) -> Iterator[list[int]]:
        for first in range(0, len(targets), _PAGE):
            keys = self._keys(scope, targets[first : first + _PAGE])
            for start in range(0, len(keys), _PAGE):
                yield keys[start : start + _PAGE]

    def _rows(self, statement: Prepared, page: list[int]) -> dict[int, Sequence[Any]]:
        return {row[0]: row for row in self._engine.rows(statement, {"keys": page})}

    def _keys(self, scope: Scope, targets: Sequence[Target]) -> list[int]:
        # 8 bytes an instance: even a study of 100,000 is a small list.
        if len(targets) == 1:
            uids = targets[0].uids()
            prepared, visible_to = _keys_of(scope, tuple(uids))
            return [key for (key,) in self._engine.rows(prepared, uids | visible_to)]
        statement = (
            select(instance.c.id)
            .join(series, series.c.id == instance.c.series_fk)
            .join(study, study.c.id == series.c.study_fk)
            .where(_any_of(targets), visible(scope))
            .order_by(*_ORDER)
        )
        with self._engine.read() as connection:
            return list(connection.execute(statement).scalars())


def _any_of(targets: Sequence[Target]) -> ColumnElement[bool]:
    # A list of instances of one series is one IN; anything else is a list of alternatives.
    parents = {(target.study_instance_uid, target.series_instance_uid) for target in targets}
    uids = [target.sop_instance_uid for target in targets]
    if len(parents) == 1 and len(targets) > 1 and None not in uids:
        parent = Target(*parents.pop())
        return and_(parent.condition(), instance.c.sop_instance_uid.in_(uids))
    return or_(*(target.condition() for target in targets))


def existing_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Return those of ``keys`` (object keys) that some row refers to."""
    found: set[str] = set()
    for first in range(0, len(keys), _PAGE):
        part = keys[first : first + _PAGE]
        found.update(
            connection.execute(
                select(instance.c.object_key).where(instance.c.object_key.in_(part))
            ).scalars()
        )
    return found
