"""Predicates as SQL; values are bound under the names that `storage.index.slots` gives."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    and_,
    bindparam,
    column,
    exists,
    false,
    or_,
    select,
    table,
    tuple_,
    union_all,
)

from storage.index.gaps import TRIGRAM_COLUMNS
from storage.index.predicates import (
    AnyOf,
    Between,
    BetweenMoments,
    Empty,
    Like,
    Listed,
    NotAfter,
    Nothing,
    OneOf,
    Predicate,
    SeriesHas,
    SeriesLacks,
    table_of,
)
from storage.index.slots import below, name_of, prefix_of
from storage.index.tables import metadata, series, study, study_modality
from storage.index.term_conditions import series_has, series_lacks

_trigrams = table("study_text", column("rowid"), *(column(name) for name in TRIGRAM_COLUMNS))
_Named = tuple[str, Predicate]
_MODALITY: Final = "study_modality"


class Conditions:
    """The predicates of one search, by the table they speak of.

    Parameters
    ----------
    predicates
        All must hold.
    is_sqlite
        Which database they are for.
    """

    def __init__(self, predicates: Sequence[Predicate], *, is_sqlite: bool) -> None:
        self.is_sqlite = is_sqlite
        self._named: list[_Named] = [
            (name_of(position), predicate) for position, predicate in enumerate(predicates)
        ]
        # An index lists the studies: another one, in the order of answers, must not be taken.
        self.sorts = any(isinstance(predicate, Listed) for predicate in predicates)

    def of(self, table_name: str) -> list[ColumnElement[bool]]:
        """Return the conditions on columns of one table."""
        return [self._condition(*named) for named in self._of(table_name)]

    def modalities(self) -> list[ColumnElement[bool]]:
        """Return the conditions that a study has series of some modality."""
        return [self._modality(*named) for named in self._of(_MODALITY)]

    def _modality(self, name: str, predicate: Predicate) -> ColumnElement[bool]:
        of_study = study_modality.c.study_fk == study.c.id
        if isinstance(predicate, Empty):
            return ~exists().where(of_study)
        return exists().where(of_study, self._condition(name, predicate))

    def single_modality(self) -> ColumnElement[bool] | None:
        """Return that a row of ``study_modality`` has the modality, if only one is asked."""
        found = list(self._of(_MODALITY))
        return _only(*found[0], study_modality) if len(found) == 1 else None

    def modality_of_series(self, of_studies: FromClause) -> ColumnElement[bool] | None:
        """Return the same of another ``study_modality``, where series are asked for by it."""
        found = [
            named
            for named in self._named
            if isinstance(named[1], OneOf) and named[1].column == "series.modality"
        ]
        return _only(*found[0], of_studies) if len(found) == 1 and self.is_sqlite else None

    def dates_of_modality(self) -> list[ColumnElement[bool]]:
        """Return the study's date ranges as conditions on the table of modalities."""
        return [
            _between(study_modality.c.study_date, predicate, name)
            for name, predicate in self._named
            if isinstance(predicate, Between) and predicate.column == "study.study_date"
        ]

    def _of(self, table_name: str) -> Iterator[_Named]:
        return (named for named in self._named if table_of(named[1]) == table_name)

    def _condition(  # noqa: C901, PLR0911 - a table
        self, name: str, predicate: Predicate
    ) -> ColumnElement[bool]:
        match predicate:
            case OneOf():
                return self._one_of(name, predicate)
            case Like():
                return self._like(name, predicate)
            case Between():
                return _between(_column(predicate.column), predicate, name)
            case BetweenMoments():
                return _between_moments(predicate, name)
            case Empty():
                return _empty(_column(predicate.column))
            case SeriesHas():
                return series_has(predicate, name, self.matches_pattern)
            case SeriesLacks():
                return series_lacks(name)
            case AnyOf():
                return or_(*(self._condition(*part) for part in _parts(name, predicate)))
            case Listed():
                return self._listed(name, predicate)
            case NotAfter():
                return _column(predicate.column) <= bindparam(name)
            case Nothing():
                return false()

    def _one_of(self, name: str, predicate: OneOf) -> ColumnElement[bool]:
        if self.is_sqlite and predicate.column == "series.modality":
            # Its index lists a tenth of all series, in an order that nobody asked for.
            return series.c.modality.concat("").in_(bindparam(name, expanding=True))
        return _one_of(name, predicate)

    # -- text ------------------------------------------------------------------------------

    def matches_pattern(
        self, found: ColumnElement[Any], pattern: str, name: str
    ) -> ColumnElement[bool]:
        """Return that a column matches the pattern that is bound under a name."""
        if not self.is_sqlite:
            return found.like(bindparam(name), escape="\\")
        condition = _glob(found, name)
        return and_(_begins(found, name), condition) if prefix_of(pattern) else condition

    def _like(self, name: str, predicate: Like) -> ColumnElement[bool]:
        found = _column(predicate.column)
        if self.is_sqlite and found.table is study:
            # In the order of answers: the plus keeps SQLite from an index that has another.
            return _glob(found.concat(""), name)
        return self.matches_pattern(found, predicate.pattern, name)

    def _listed(self, name: str, predicate: Listed) -> ColumnElement[bool]:
        return study.c.id.in_(union_all(*listing(name, predicate)))


def listing(name: str, predicate: Listed) -> list[Select[Any]]:
    """Return selects of the keys of studies for which ``predicate`` holds, on SQLite."""
    return [_keys(*part) for part in _parts(name, predicate)]


def _parts(name: str, predicate: AnyOf | Listed) -> Iterator[_Named]:
    for position, part in enumerate(predicate.predicates):
        yield below(name, position), part


def _keys(name: str, predicate: Predicate) -> Select[Any]:
    if isinstance(predicate, OneOf):
        of_modality = table_of(predicate) == _MODALITY
        key = study_modality.c.study_fk if of_modality else study.c.id
        return select(key).where(_one_of(name, predicate))
    if not isinstance(predicate, Like):
        raise TypeError(f"no index lists {type(predicate).__name__}")
    found = _column(predicate.column)
    if prefix_of(predicate.pattern):
        return select(study.c.id).where(_begins(found, name), _glob(found, name))
    return select(_trigrams.c.rowid).where(_glob(_trigrams.c[found.name], name))


def _only(
    name: str, predicate: Predicate, of_studies: FromClause
) -> ColumnElement[bool] | None:
    if not isinstance(predicate, OneOf) or len(predicate.values) != 1:
        return None
    return of_studies.c.modality.in_(bindparam(name, expanding=True))


def _column(name: str) -> Column[Any]:
    table_name, _, column_name = name.partition(".")
    return metadata.tables[table_name].c[column_name]


def _one_of(name: str, predicate: OneOf) -> ColumnElement[bool]:
    return _column(predicate.column).in_(bindparam(name, expanding=True))


def _between(found: ColumnElement[Any], predicate: Between, name: str) -> ColumnElement[bool]:
    condition = found != ""
    if predicate.low is not None:
        condition = and_(condition, found >= bindparam(below(name, "low")))
    if predicate.high is not None:
        condition = and_(condition, found <= bindparam(below(name, "high")))
    return condition


def _empty(found: Column[Any]) -> ColumnElement[bool]:
    return found.is_(None) if isinstance(found.type, Integer) else found == ""


def _between_moments(predicate: BetweenMoments, name: str) -> ColumnElement[bool]:
    date, time = _column(predicate.date_column), _column(predicate.time_column)
    condition = and_(date != "", time != "")
    if predicate.low is not None:
        condition = and_(condition, tuple_(date, time) >= _moment(name, "low"))
    if predicate.high is not None:
        condition = and_(condition, tuple_(date, time) <= _moment(name, "high"))
    return condition


def _moment(name: str, end: str) -> Any:  # noqa: ANN401 - a tuple of SQL
    return tuple_(*(bindparam(below(name, f"{end}_{part}")) for part in ("date", "time")))


def _begins(found: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    return and_(found >= bindparam(below(name, "low")), found < bindparam(below(name, "high")))


def _glob(found: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    # GLOB's wildcards are DICOM's; unlike LIKE it minds case, and can use an index.
    return found.op("GLOB", is_comparison=True)(bindparam(name))
