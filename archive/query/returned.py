"""What a match is returned with (PS3.18 §10.6.3.3, PS3.4 §C.4.1.1.3)."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

import orjson

from archive.dicom.attributes import (
    DEFAULT_INSTANCE,
    DEFAULT_SERIES,
    DEFAULT_STUDY,
    LEVEL_OF,
    REQUIRED_SERIES,
    REQUIRED_STUDY,
)
from archive.dicom.attributes import Level as EntityLevel
from archive.dicom.compression import decompress
from archive.dicom.dictionary import public_vr
from archive.query.columns import SERIES_TAGS, STUDY_TAGS
from archive.query.request import Level

Match = dict[str, dict[str, Any]]
# Tags in order, and the element that stands for what is not known.
Projected = list[tuple[str, dict[str, Any] | None]]
Row = Any  # a row of the index, with the columns of its level

_PATIENT_DEFAULT: Final = ("00080005", "00100010", "00100020", "00100030", "00100040")
_ABOVE_STUDY: Final = frozenset({EntityLevel.PATIENT, EntityLevel.STUDY})
_ONLINE: Final = {"vr": "CS", "Value": ["ONLINE"]}
# Said at study level; each level below names it too (PS3.18 Tables 10.6.3-4 and -5).
_ZONE: Final = "00080201"
# SOP Classes in Study.
_CLASSES: Final = "00080062"
_UTF8: Final = {"vr": "CS", "Value": ["ISO_IR 192"]}


def _empty(tags: Iterable[str]) -> Match:
    return {tag: {"vr": public_vr(int(tag, 16))[:2] or "UN"} for tag in tags}


# Every instance names its parents, and says that it is there and how it is encoded.
_OF_EVERY_INSTANCE: Final = ("0020000D", "0020000E", "00083002", "00080056", "00080005")
_EMPTY_STUDY: Final = _empty(REQUIRED_STUDY)
_EMPTY_SERIES: Final = _empty(REQUIRED_SERIES)


def _element(vr: str, *values: object) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def _listed(backslash_list: str) -> list[str]:
    return [value for value in backslash_list.split("\\") if value]


class Projection:
    """Makes matches of one search out of the index's rows.

    Parameters
    ----------
    level
        What a match is.
    fields
        What to return, beyond the level's defaults.
    every
        Everything that is known at the level.
    only
        Return ``fields`` alone.
    with_study, with_series
        Whether the request leaves the parent open, so that each match must name its own
        (PS3.18 Tables 10.6.3-4 and -5).
    """

    def __init__(
        self,
        level: Level,
        fields: frozenset[str],
        *,
        every: bool,
        only: bool,
        with_study: bool,
        with_series: bool,
    ) -> None:
        self._every = every
        self._fields = fields
        self._kept = {*fields, *private_of(fields), _ZONE} if only and not every else None
        self._with_study = with_study
        self._with_series = with_series
        # Sorted once for the search, not for each match.
        self._of_studies: Projected = self._wanted(
            (tag, _EMPTY_STUDY.get(tag) or self._empty_if_asked(tag))
            for tag in sorted({*DEFAULT_STUDY, *self._fields, _ZONE})
        )
        self._of_series = self._wanted(self._series_tags())
        self._of_instances = self._wanted(self._instance_tags())
        self._says_classes = self._kept is None or _CLASSES in self._kept
        self.of: Callable[[Row], Match] = {
            Level.PATIENT: self._patient,
            Level.STUDY: self._study,
            Level.SERIES: self._series,
            Level.INSTANCE: self._instance,
        }[level]

    def _wanted(self, tags: Iterable[tuple[str, dict[str, Any] | None]]) -> Projected:
        return [one for one in tags if self._kept is None or one[0] in self._kept]

    # -- levels ----------------------------------------------------------------------------

    def _patient(self, row: Row) -> Match:
        groups = row.patient_name.split("=")
        names = ("Alphabetic", "Ideographic", "Phonetic")
        name = {key: group for key, group in zip(names, groups, strict=False) if group}
        stored: Match = {
            "00100010": _element("PN", *([name] if name else [])),
            "00100020": _element("LO", *filter(None, [row.patient_id])),
            "00100021": _element("LO", *filter(None, [row.issuer_of_patient_id])),
            "00100030": _element("DA", *filter(None, [row.patient_birth_date])),
            "00100040": _element("CS", *filter(None, [row.patient_sex])),
        }
        computed: Match = {
            "00201200": _element("IS", row.number_of_studies),
            "00201202": _element("IS", int(row.number_of_series)),
            "00201204": _element("IS", int(row.number_of_instances)),
        }
        wanted = set(_PATIENT_DEFAULT) | self._fields
        match = _pick(stored, stored if self._every else wanted)
        match |= computed
        return self._finished(match, lambda tag: tag in stored)

    def _study(self, row: Row) -> Match:
        known: Match = orjson.loads(row.attributes)
        known["0020000D"] = _element("UI", row.study_instance_uid)
        # Never without a value: viewers then take the study for missing.
        if modalities := _listed(row.modalities):
            known["00080061"] = _element("CS", *modalities)
        if self._says_classes:
            known[_CLASSES] = _element("UI", *_listed(row.sop_classes))
        known["00201206"] = _element("IS", row.number_of_series)
        known["00201208"] = _element("IS", row.number_of_instances)
        known["00080056"] = _ONLINE
        known["00080005"] = _UTF8
        if self._every:
            known = _EMPTY_STUDY | known
            return self._finished(known, lambda tag: LEVEL_OF.get(tag) in _ABOVE_STUDY)
        return _projected(known, self._of_studies)

    def _empty_if_asked(self, tag: str) -> dict[str, Any] | None:
        asked = tag in self._fields and LEVEL_OF.get(tag) in _ABOVE_STUDY
        return _empty([tag])[tag] if asked else None

    def _series(self, row: Row) -> Match:
        own: Match = orjson.loads(row.attributes)
        known = _parsed(row.study_attributes) | own
        self._add_parent_study(known, row)
        known["0020000D"] = _element("UI", row.study_instance_uid)
        known["00201209"] = _element("IS", row.number_of_instances)
        known["00080056"] = _ONLINE
        known["00080005"] = _UTF8
        match = _projected(known, self._of_series)
        return dict(sorted((own | match).items())) if self._every else match

    def _series_tags(self) -> Projected:
        tags = [*DEFAULT_SERIES, _ZONE, "0020000D", "00201209", "00080056", "00080005"]
        tags += [*DEFAULT_STUDY] if self._with_study else []
        defaults: dict[str, dict[str, Any] | None] = dict.fromkeys([*tags, *self._fields])
        defaults |= _EMPTY_STUDY if self._with_study else {}
        defaults |= _EMPTY_SERIES
        defaults |= _empty(tag for tag in self._fields if tag in LEVEL_OF)
        return sorted(defaults.items())

    def _instance(self, row: Row) -> Match:
        known: Match = orjson.loads(decompress(row.metadata))
        # What a key was compared with is what is returned, where instances disagree.
        known.update(_of_series(row.series_attributes))
        known.update(_of_study(row.study_attributes))
        stored = dict(known) if self._every else {}
        self._add_parent_study(known, row)
        known["00201209"] = _element("IS", row.number_of_series_instances)
        known["0020000D"] = _element("UI", row.study_instance_uid)
        known["0020000E"] = _element("UI", row.series_instance_uid)
        known["00083002"] = _element("UI", row.transfer_syntax_uid)
        known["00080056"] = _ONLINE
        known["00080005"] = _UTF8
        match = _projected(known, self._of_instances)
        if stored:
            small = {tag: value for tag, value in stored.items() if _is_small(value)}
            match = dict(sorted((small | match).items()))
        return match

    def _instance_tags(self) -> Projected:
        tags = [*DEFAULT_INSTANCE, *_OF_EVERY_INSTANCE, *private_of(self._fields)]
        tags += DEFAULT_STUDY if self._with_study else ()
        tags += DEFAULT_SERIES if self._with_series else ()
        defaults: dict[str, dict[str, Any] | None] = dict.fromkeys(tags)
        defaults |= _EMPTY_STUDY if self._with_study else {}
        defaults |= _EMPTY_SERIES if self._with_series else {}
        defaults |= _empty(self._fields)
        return sorted(defaults.items())

    def with_private(self, match: Match, first: bytes | None) -> Match:
        """Add the private attributes that were asked for, as the first instance has them."""
        if first is None:
            return match
        metadata: Match = orjson.loads(decompress(first))
        return dict(sorted((match | _pick(metadata, private_of(self._fields))).items()))

    # -- parts -----------------------------------------------------------------------------

    def _add_parent_study(self, known: Match, row: Row) -> None:
        known["00201206"] = _element("IS", row.number_of_study_series)
        known["00201208"] = _element("IS", row.number_of_study_instances)
        if self._says_classes:
            known[_CLASSES] = _element("UI", *_listed(row.sop_classes))
        if modalities := _listed(row.modalities):
            known["00080061"] = _element("CS", *modalities)

    def _finished(self, match: Match, belongs: Callable[[str], bool]) -> Match:
        """Add what was asked for and is not known, empty, and put tags in order."""
        for tag in self._fields:
            if tag not in match and belongs(tag):
                match |= _empty([tag])
        match["00080005"] = _UTF8
        return dict(sorted(match.items()))


@lru_cache(maxsize=256)
def projection_of(
    level: Level,
    fields: frozenset[str],
    *,
    every: bool,
    only: bool,
    with_study: bool,
    with_series: bool,
) -> Projection:
    """Return what makes such matches; searches ask for the same again and again."""
    return Projection(
        level, fields, every=every, only=only, with_study=with_study, with_series=with_series
    )


# What matches of a page share is read once; not to be changed.
@lru_cache(maxsize=256)
def _parsed(attributes: bytes) -> Match:
    parsed: Match = orjson.loads(attributes)
    return parsed


@lru_cache(maxsize=256)
def _of_series(attributes: bytes) -> Match:
    return _pick(orjson.loads(attributes), SERIES_TAGS)


@lru_cache(maxsize=256)
def _of_study(attributes: bytes) -> Match:
    return _pick(orjson.loads(attributes), STUDY_TAGS)


def _projected(known: Match, tags: Projected) -> Match:
    return {
        tag: element
        for tag, default in tags
        if (element := known.get(tag, default)) is not None
    }


def _pick(attributes: Match, tags: Iterable[str]) -> Match:
    return {tag: value for tag in tags if (value := attributes.get(tag)) is not None}


def private_of(tags: Iterable[str]) -> set[str]:
    """Return the private ones of ``tags``, with the creators of their blocks (PS3.5 §7.8.1)."""
    private = {tag for tag in tags if int(tag[:4], 16) & 1}
    return private | {f"{tag[:4]}00{tag[4:6]}" for tag in private if tag[4:6] >= "10"}


def _is_small(value: dict[str, Any]) -> bool:
    return "BulkDataURI" not in value and "InlineBinary" not in value
