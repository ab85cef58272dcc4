"""Matches as C-FIND response identifiers (PS3.4 §C.4.1.1.3.2)."""

from typing import Any, Final

from archive.dicom.attributes import LEVEL_OF
from archive.dicom.attributes import Level as EntityLevel
from archive.dicom.dictionary import public_vr
from archive.dicom.values import BINARY_VRS
from archive.query.forms import is_universal
from archive.query.items import WantedItems, wanted_items
from archive.query.request import Level, SearchRequest
from dimse.data_sets import DataSetEncoder, Element
from dimse.identifiers import (
    AVAILABILITY,
    LEVEL,
    RETRIEVE_AE_TITLE,
    VIEW,
    ZONE,
    Identifier,
)
from dimse.zones import in_zone, written_offset

Match = dict[str, Element]

# What is made for a match, and the level it is said of (PS3.4 Table C.3-1).
_PATIENT_COUNTS: Final = frozenset({"00201200", "00201202", "00201204"})
_STUDY_COMPUTED: Final = frozenset({"00080061", "00080062", "00201206", "00201208"})
_SERIES_COMPUTED: Final = frozenset({"00201209"})
_NEVER_KNOWN: Final = frozenset({"00083001", "00080063"})
_RANK: Final = {Level.PATIENT: 0, Level.STUDY: 1, Level.SERIES: 2, Level.INSTANCE: 3}
_ENTITY_RANK: Final = {EntityLevel.PATIENT: 0, EntityLevel.STUDY: 1, EntityLevel.SERIES: 2}
_TIMES: Final = frozenset({"DA", "TM", "DT"})


class Answers:
    """Writes the matches of one request.

    Parameters
    ----------
    identifier, request
        What was asked, as it came and as it is searched.
    ae_title
        Where matches can be retrieved: Retrieve AE Title (0008,0054).
    transfer_syntax_uid
        Of the presentation context.
    """

    def __init__(
        self,
        identifier: Identifier,
        request: SearchRequest,
        *,
        ae_title: str,
        transfer_syntax_uid: str,
    ) -> None:
        self._request = request
        self._encoder = DataSetEncoder(transfer_syntax_uid, identifier.character_set)
        self._asked = {
            tag: element
            for tag, element in identifier.attributes.items()
            if tag in request.fields and is_known(tag, request.level)
        }
        self._items = {
            tag: wanted
            for tag, element in self._asked.items()
            if (wanted := _wanted_items(tag, element, request)) is not None
        }
        self._creators = {
            tag: identifier.texts(tag) for tag in self._asked if _is_private_creator(tag)
        }
        self._with_times = any(_vr(tag, e) in _TIMES for tag, e in self._asked.items())
        fixed: Match = {
            LEVEL: {"vr": "CS", "Value": [request.level.value]},
            RETRIEVE_AE_TITLE: {"vr": "AE", "Value": [ae_title]},
            AVAILABILITY: {"vr": "CS", "Value": ["ONLINE"]},
        }
        self._fixed = {tag: self._encoder.element(tag, of) for tag, of in fixed.items()}
        # What is taken from the match as it is, and what stands there where it has nothing.
        self._plain: Match = {
            tag: {"vr": _vr(tag, element)}
            for tag, element in self._asked.items()
            if tag not in self._items and tag != ZONE and not int(tag[:4], 16) & 1
        }
        self._order = sorted({*self._asked, *self._fixed, ZONE})

    def encode(self, match: Match) -> bytes:
        """Return the identifier of one match: what was asked for, and where to retrieve it.

        What was asked for and has no value is zero-length; what is not supported is left out.
        """
        zone = self._request.zone
        if zone is not None:
            match = in_zone(match, zone)
        elements: list[tuple[str, Element | bytes]] = []
        for tag in self._order:
            element: Element | bytes | None = self._fixed.get(tag)
            if element is None:
                plain = self._plain.get(tag)
                element = self._element(tag, match) if plain is None else match.get(tag, plain)
                if element is None or "BulkDataURI" in element:
                    continue
            elements.append((tag, element))
        return self._encoder.encode(elements)

    def _element(self, tag: str, match: Match) -> Element | None:
        if tag == ZONE:
            return self._zone(match)
        element = match.get(tag)
        if int(tag[:4], 16) & 1 and not self._is_block_of(tag, match):
            return None
        if element is None:
            return {"vr": _vr(tag, self._asked[tag])}
        if "BulkDataURI" in element:
            return None
        wanted = self._items.get(tag)
        if wanted is not None and "Value" in element:
            return {"vr": "SQ", "Value": wanted.of(element["Value"])}
        return element

    def _zone(self, match: Match) -> Element | None:
        """Return what says how the times in the answer are meant, where there are any."""
        if self._request.zone is not None:
            return {"vr": "SH", "Value": [written_offset(self._request.zone)]}
        element = match.get(ZONE)
        return element if self._with_times and element and element.get("Value") else None

    def _is_block_of(self, tag: str, match: Match) -> bool:
        """Tell whether a private attribute is there, and is the one of the creator asked."""
        creator = tag if _is_private_creator(tag) else f"{tag[:4]}00{tag[4:6]}"
        held = match.get(creator, {}).get("Value")
        asked = self._creators.get(creator)
        return tag in match and (not asked or not held or held == asked or "*" in asked[0])


def is_fully_supported(
    identifier: Identifier, request: SearchRequest, ignored: tuple[str, ...]
) -> bool:
    """Tell whether every key is supported as required keys are (PS3.4 Table C.4-1, FF00).

    Not supported are: to return an attribute of a level below that of the query, since a match
    has many of them (it is matched all the same), one of bulk data, and one that the archive
    never has; to match binary values; to match what the archive says of itself; Timezone Offset
    From UTC unless its use was agreed; another view than the default one.

    Parameters
    ----------
    ignored
        The keys of ``request`` that take no part in matching.
    """
    if ignored or not all(is_known(tag, request.level) for tag in request.fields):
        return False
    said = [RETRIEVE_AE_TITLE, VIEW]
    if request.zone is None:
        said.append(ZONE)
    return all(is_universal("\\".join(identifier.texts(tag))) for tag in said)


def is_known(tag: str, level: Level) -> bool:
    """Tell whether matches of a level can be answered with an attribute."""
    number = int(tag, 16)
    if number >> 16 & 1:
        return level is not Level.PATIENT
    if tag in _NEVER_KNOWN or public_vr(number)[:2] in BINARY_VRS:
        return False
    return _rank(tag) <= _RANK[level] and (level is Level.PATIENT or tag not in _PATIENT_COUNTS)


def _rank(tag: str) -> int:
    if tag in _PATIENT_COUNTS or tag == AVAILABILITY:
        return 0
    if tag in _STUDY_COMPUTED:
        return 1
    if tag in _SERIES_COMPUTED:
        return 2
    entity = LEVEL_OF.get(tag)
    return 3 if entity is None else _ENTITY_RANK[entity]


def _is_private_creator(tag: str) -> bool:
    return bool(int(tag[:4], 16) & 1) and "0010" <= tag[4:] <= "00FF"


def _vr(tag: str, element: Element) -> str:
    return public_vr(int(tag, 16))[:2] or str(element["vr"])


def _wanted_items(tag: str, element: Element, request: SearchRequest) -> WantedItems | None:
    """Return what chooses the items to return; None where the whole sequence was asked for."""
    items = [item for item in element.get("Value", ()) if item]
    if element["vr"] != "SQ" or not items:
        return None
    return wanted_items(tag, _asked_of(items[0]), request)


def _asked_of(item: Match) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    for tag, element in item.items():
        inner = (
            [one for one in element.get("Value", ()) if one] if _is_sequence(element) else []
        )
        asked[tag] = _asked_of(inner[0]) if inner else {}
    return asked


def _is_sequence(element: Element) -> bool:
    return bool(element["vr"] == "SQ")
