"""Identifiers of queries: data sets to searches (PS3.4 §C.4.1.1.3.1).

An identifier is read by the archive's own walker, which senders' habits do not stop: group
lengths, odd lengths, sequences of undefined length, VRs that are missing, wrong or UN, padding
behind the end. It becomes the DICOM JSON Model, in which keys and matches meet.
"""

import base64
import binascii
import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydicom.datadict import keyword_for_tag

from archive.dicom.charset import decoder
from archive.dicom.dictionary import public_vr
from archive.dicom.instance import Attributes
from archive.dicom.moments import parse_offset
from archive.dicom.normalise import joined_name
from archive.dicom.parse import inflate
from archive.dicom.transfer_syntax import transfer_syntax as syntax_of
from archive.dicom.values import BINARY_VRS, uid_values
from archive.dicom.walker import Walker
from archive.errors import InvalidInstanceError, InvalidRequestError
from archive.query.forms import is_universal
from archive.query.request import Level, SearchKey, SearchRequest
from dimse.contexts import PATIENT_ROOT, PATIENT_STUDY_ONLY
from dimse.data_sets import DataSetEncoder
from dimse.negotiation import NOTHING_AGREED, QueryOptions

LEVEL: Final = "00080052"
VIEW: Final = "00080053"
CHARACTER_SET: Final = "00080005"
RETRIEVE_AE_TITLE: Final = "00080054"
AVAILABILITY: Final = "00080056"
ZONE: Final = "00080201"
# What an identifier holds that is no key: the level and the view, the character set and the
# time zone of the others, where to retrieve; and what ACR-NEMA devices put before them.
NOT_KEYS: Final = frozenset(
    {LEVEL, VIEW, CHARACTER_SET, RETRIEVE_AE_TITLE, ZONE, "00080001", "00080010"}
)
_TRAILING_PADDING: Final = "FFFCFFFC"
_LARGEST_INFLATED: Final = 16 * 1024**2
_UNIQUE_KEYS: Final = {
    Level.PATIENT: "00100020",
    Level.STUDY: "0020000D",
    Level.SERIES: "0020000E",
    Level.INSTANCE: "00080018",
}


@dataclass(frozen=True, slots=True)
class Identifier:
    """What a request asks with.

    Parameters
    ----------
    attributes
        Its attributes in the DICOM JSON Model, tags ascending.
    character_set
        The terms of Specific Character Set (0008,0005), as the peer wrote them.
    """

    attributes: Attributes = field(default_factory=dict)
    character_set: tuple[str, ...] = ()

    def texts(self, tag: str) -> list[str]:
        """Return the values of an attribute as text; none if it is absent or empty."""
        element = self.attributes.get(tag)
        value = "" if element is None else self.text(tag, element)
        return value.split("\\") if value else []

    def text(self, tag: str, element: dict[str, Any]) -> str:
        """Return the value of an element as a key is written, values divided by backslashes."""
        inline = element.get("InlineBinary")
        if inline is not None:
            return "" if _is_binary(tag) else self._decoded(inline)
        return "\\".join(_value_text(value) for value in element.get("Value", ()))

    def _decoded(self, inline: str) -> str:
        # A VR of UN, or a wrong one, says nothing of what the value is: text, as keys are.
        try:
            raw = base64.b64decode(inline)
        except (binascii.Error, ValueError):
            return ""
        return decoder(self.character_set)(raw, False)[0].strip(" \0")


def _is_binary(tag: str) -> bool:
    number = int(tag, 16)
    return not number >> 16 & 1 and public_vr(number)[:2] in BINARY_VRS


def _value_text(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if value is None:
        return ""
    return joined_name(value) if isinstance(value, dict) else str(value)


def read_identifier(
    raw: io.BytesIO | bytes | None,
    transfer_syntax: Any,  # noqa: ANN401 - pydicom's UID
) -> Identifier:
    """Decode an identifier.

    Raises
    ------
    InvalidInstanceError
        If it is no data set.
    """
    data = b"" if raw is None else raw if isinstance(raw, bytes) else raw.getvalue()
    syntax = syntax_of(str(transfer_syntax))
    if syntax.deflated:
        data = inflate(data, 0, _LARGEST_INFLATED)
    try:
        walk = Walker(data, implicit=syntax.implicit, big_endian=syntax.big_endian).walk(0)
    except InvalidInstanceError:
        raise
    except Exception as error:
        raise InvalidInstanceError("the identifier cannot be decoded") from error
    attributes = walk.attributes
    for value in walk.bulk:
        # A list of UIDs may be as long as it likes.
        if value.path in attributes and value.vr == "UI":
            values, _ = uid_values(data[value.offset : value.offset + value.length])
            attributes[value.path] = {"vr": "UI", "Value": values}
    attributes.pop(_TRAILING_PADDING, None)
    return Identifier(attributes, walk.character_set)


def level_of(identifier: Identifier, sop_class_uid: str) -> Level:
    """Return the Query/Retrieve Level (0008,0052), which the model must have.

    Raises
    ------
    InvalidRequestError
        If it is missing, or none of the model's.
    """
    value = "\\".join(identifier.texts(LEVEL)).strip().upper()
    known = _levels(sop_class_uid)
    for level in known:
        if level.value == value:
            return level
    names = ", ".join(level.value for level in known)
    what = f"{value[:16]!r} is not one of" if value else "is missing: expected"
    raise InvalidRequestError(f"Query/Retrieve Level {what} {names}", tag=LEVEL)


def _levels(sop_class_uid: str) -> list[Level]:
    if sop_class_uid in PATIENT_STUDY_ONLY:
        return [Level.PATIENT, Level.STUDY]
    return list(Level) if sop_class_uid in PATIENT_ROOT else list(Level)[1:]


def search_request(
    identifier: Identifier, sop_class_uid: str, options: QueryOptions = NOTHING_AGREED
) -> SearchRequest:
    """Return the search that a C-FIND identifier states.

    Parameters
    ----------
    options
        What was agreed on the association.

    Raises
    ------
    InvalidRequestError
        If its level, its time zone or a sequence in it is not as it must be.
    """
    level = level_of(identifier, sop_class_uid)
    asked = {tag: e for tag, e in identifier.attributes.items() if tag not in NOT_KEYS}
    silent = _creators_of_answers(identifier, asked)
    keys = (
        key
        for tag, element in asked.items()
        if tag not in silent
        for key in _keys(identifier, tag, element, ())
    )
    request = SearchRequest(
        level=level,
        keys=tuple(keys),
        fields=frozenset(asked),
        # To move a date to another zone needs the time beside it, asked for or not.
        only_fields=not options.zone,
        combined_date_time=options.combined_date_time,
        fuzzy=options.fuzzy,
        empty_values=options.empty_values,
        multiple_values=options.multiple_values,
    )
    return replace(request, zone=_zone(identifier)) if options.zone else request


def _zone(identifier: Identifier) -> int | None:
    text = "".join(identifier.texts(ZONE))
    minutes = parse_offset(text) if text else None
    if text and minutes is None:
        raise InvalidRequestError(
            f"Timezone Offset From UTC {text[:16]!r} is none: expected +HHMM or -HHMM", tag=ZONE
        )
    return minutes


def _creators_of_answers(identifier: Identifier, asked: Attributes) -> set[str]:
    """Return the private creators that only say whose the attributes to return are.

    A creator (PS3.5 §7.8.1) belongs to the attributes of its block. Where none of them has a
    value, to match it would leave out what lacks the block, though nothing was asked of it.
    """
    creators = {tag for tag in asked if int(tag[:4], 16) & 1 and "0010" <= tag[4:] <= "00FF"}
    silent = set()
    for creator in creators:
        block = [tag for tag in asked if tag[:6] == creator[:4] + creator[6:]]
        keys = (key for tag in block for key in _keys(identifier, tag, asked[tag], ()))
        if block and all(is_universal(key.value) for key in keys):
            silent.add(creator)
    return silent


def _keys(
    identifier: Identifier, tag: str, element: dict[str, Any], above: tuple[str, ...]
) -> Iterator[SearchKey]:
    path = (*above, tag)
    if element["vr"] == "SQ":
        items = [item for item in element.get("Value", ()) if item]
        if len(items) > 1:
            raise InvalidRequestError(
                f"{tag} has {len(items)} items: a sequence key has one (PS3.4 C.2.2.2.6)",
                tag=path[0],
            )
        for item in items:
            for inner, of_item in item.items():
                yield from _keys(identifier, inner, of_item, path)
    elif value := identifier.text(tag, element):
        yield SearchKey(path, value)


def unique_keys(identifier: Identifier, sop_class_uid: str) -> SearchRequest:
    """Return the search for what a C-MOVE or C-GET identifier names (PS3.4 §C.4.2.1.4.1).

    Only the unique keys of the level and of those above it count. Those above may be missing
    (relational retrieval, §C.5.2.2.1); that of the level must have values, or all there is
    would be sent.

    Raises
    ------
    InvalidRequestError
        If it has none, or one with a wildcard, which a unique key cannot have.
    """
    level = level_of(identifier, sop_class_uid)
    keys = []
    for above, unique in _UNIQUE_KEYS.items():
        values = _unique_values(identifier, unique)
        if values:
            keys.append(SearchKey((unique,), values[0], tuple(values[1:])))
        elif above is level:
            name = f"({unique[:4]},{unique[4:]}) {keyword_for_tag(unique)}"
            raise InvalidRequestError(
                f"level {level.value} needs a value of {name}", tag=unique
            )
        if above is level:
            break
    search_level = Level.STUDY if level is Level.PATIENT else level
    return SearchRequest(level=search_level, keys=tuple(keys))


def _unique_values(identifier: Identifier, unique: str) -> list[str]:
    texts = identifier.texts(unique)
    if any("*" in text or "?" in text for text in texts):
        raise InvalidRequestError(
            f"no wildcards in {keyword_for_tag(unique)}: it is a unique key", tag=unique
        )
    # An empty value would match everything.
    return [value for text in texts if (value := text.strip(" \0"))]


def encode_failed(uids: list[str], transfer_syntax: Any) -> io.BytesIO:  # noqa: ANN401 - pydicom's UID
    """Return the identifier that lists failed sub-operations (PS3.4 §C.4.2.1.4.2)."""
    listed = ("00080058", {"vr": "UI", "Value": uids})
    return io.BytesIO(DataSetEncoder(str(transfer_syntax)).encode([listed]))
