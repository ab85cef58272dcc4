"""Identifiers of queries: data sets to searches, matches to data sets (PS3.4 §C.4.1.1)."""

import io
import warnings
from typing import Any, Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pynetdicom.dsutils import decode, encode

from archive.errors import InvalidRequestError
from archive.query.request import Level, SearchKey, SearchRequest
from dimse.contexts import PATIENT_ROOT, PATIENT_STUDY_ONLY

_LEVEL: Final = "00080052"
# What an identifier holds that is no key: levels, character set, retrieval, time zone.
_NOT_KEYS: Final = frozenset({_LEVEL, "00080005", "00080054", "00080056", "00080201"})
_UNIQUE_KEYS: Final = {
    Level.PATIENT: "00100020",
    Level.STUDY: "0020000D",
    Level.SERIES: "0020000E",
    Level.INSTANCE: "00080018",
}
_PERSON_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


def read_identifier(raw: io.BytesIO, transfer_syntax: Any) -> Dataset:  # noqa: ANN401 - pydicom's UID
    """Decode an identifier.

    Raises
    ------
    InvalidRequestError
        If it is no data set.
    """
    try:
        raw.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset: Dataset = decode(
                raw, transfer_syntax.is_implicit_VR, transfer_syntax.is_little_endian
            )
            for element in dataset.iterall():
                _ = element.value
    except Exception as error:
        raise InvalidRequestError("the identifier cannot be decoded") from error
    return dataset


def level_of(identifier: Dataset, sop_class_uid: str) -> Level:
    """Return the Query/Retrieve Level (0008,0052), which the model must have.

    Raises
    ------
    InvalidRequestError
        If it is missing, or none of the model's.
    """
    value = str(identifier.get("QueryRetrieveLevel", "")).strip().upper()
    known = _levels(sop_class_uid)
    for level in known:
        if level.value == value:
            return level
    raise InvalidRequestError(
        f"Query/Retrieve Level {value!r} is none of {', '.join(level.value for level in known)}"
    )


def _levels(sop_class_uid: str) -> list[Level]:
    if sop_class_uid in PATIENT_STUDY_ONLY:
        return [Level.PATIENT, Level.STUDY]
    return list(Level) if sop_class_uid in PATIENT_ROOT else list(Level)[1:]


def search_request(identifier: Dataset, sop_class_uid: str) -> SearchRequest:
    """Return the search that a C-FIND identifier states."""
    level = level_of(identifier, sop_class_uid)
    keys: list[SearchKey] = []
    fields: set[str] = set()
    for element in identifier:
        tag = f"{int(element.tag):08X}"
        if tag in _NOT_KEYS or element.tag.element == 0:
            continue
        fields.add(tag)
        keys.extend(_keys(element, ()))
    return SearchRequest(level=level, keys=tuple(keys), fields=frozenset(fields))


def _keys(element: DataElement, above: tuple[str, ...]) -> list[SearchKey]:
    path = (*above, f"{int(element.tag):08X}")
    if element.VR == "SQ":
        items = element.value or []
        return [key for item in items[:1] for inner in item for key in _keys(inner, path)]
    value = _text(element)
    return [SearchKey(path, value)] if value else []


def _text(element: DataElement) -> str:
    value = element.value
    if value is None or element.VR in _BINARY:
        return ""
    if isinstance(value, MultiValue | list):
        return "\\".join(str(one) for one in value)
    return str(value)


def unique_keys(identifier: Dataset, sop_class_uid: str) -> SearchRequest:
    """Return the search for what a C-MOVE or C-GET identifier names (PS3.4 §C.4.2.1.4).

    Only unique keys count; that of the level must have a value, or all would be sent.

    Raises
    ------
    InvalidRequestError
        If it has none.
    """
    level = level_of(identifier, sop_class_uid)
    keys = []
    for unique in _UNIQUE_KEYS.values():
        tag = Tag(int(unique, 16))
        value = _text(identifier[tag]) if tag in identifier else ""
        if value.strip("*\\ "):
            keys.append(SearchKey((unique,), value))
    if _UNIQUE_KEYS[level] not in {key.path[0] for key in keys}:
        raise InvalidRequestError(
            f"a retrieve at level {level.value} must name {_UNIQUE_KEYS[level]}"
        )
    search_level = Level.STUDY if level is Level.PATIENT else level
    return SearchRequest(level=search_level, keys=tuple(keys))


def encode_match(
    match: dict[str, dict[str, Any]],
    request: SearchRequest,
    *,
    ae_title: str,
    transfer_syntax: Any,  # noqa: ANN401 - pydicom's UID
) -> io.BytesIO:
    """Return one pending identifier: the keys that were asked, and where to retrieve."""
    dataset = Dataset()
    for tag in sorted(request.fields):
        element = match.get(tag)
        if element is not None:
            _add(dataset, tag, element)
    dataset.QueryRetrieveLevel = request.level.value
    dataset.RetrieveAETitle = ae_title
    dataset.InstanceAvailability = "ONLINE"
    if not _is_ascii(match, request):
        dataset.SpecificCharacterSet = "ISO_IR 192"
    return _encoded(dataset, transfer_syntax)


def encode_failed(uids: list[str], transfer_syntax: Any) -> io.BytesIO:  # noqa: ANN401 - pydicom's UID
    """Return the identifier that lists failed sub-operations (PS3.4 §C.4.2.1.4.2)."""
    dataset = Dataset()
    dataset.FailedSOPInstanceUIDList = uids
    return _encoded(dataset, transfer_syntax)


def _encoded(dataset: Dataset, transfer_syntax: Any) -> io.BytesIO:  # noqa: ANN401 - pydicom's UID
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = encode(dataset, transfer_syntax.is_implicit_VR, transfer_syntax.is_little_endian)
    return io.BytesIO(raw or b"")


def _add(dataset: Dataset, tag: str, element: dict[str, Any]) -> None:
    vr = element["vr"]
    if vr in _BINARY:
        return
    values = element.get("Value", [])
    key = Tag(int(tag, 16))
    if vr == "SQ":
        items = [_item(item) for item in values]
        dataset[key] = DataElement(key, "SQ", Sequence(items))
        return
    texts = [_value(value, vr) for value in values]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset[key] = DataElement(key, vr, texts[0] if len(texts) == 1 else texts or None)
        except (ValueError, TypeError):
            # As stored, not as its VR demands: a value nobody can be answered with.
            dataset[key] = DataElement(key, vr, None)


def _item(item: dict[str, dict[str, Any]]) -> Dataset:
    dataset = Dataset()
    for tag, element in item.items():
        _add(dataset, tag, element)
    return dataset


def _value(value: Any, vr: str) -> Any:  # noqa: ANN401 - a JSON value
    if vr == "PN" and isinstance(value, dict):
        groups = [value.get(name, "") for name in _PERSON_NAME_GROUPS]
        return "=".join(groups).rstrip("=")
    if vr in ("IS", "DS"):
        return "" if value is None else str(value)
    if vr == "AT":
        return Tag(int(value, 16))
    return "" if value is None else value


def _is_ascii(match: dict[str, dict[str, Any]], request: SearchRequest) -> bool:
    return all(str(match[tag]).isascii() for tag in request.fields if tag in match)
