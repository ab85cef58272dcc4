"""The Native DICOM Model as it is sent in (PS3.19 §A.1): XML to the DICOM JSON Model.

One pass that keeps no tree; no document type, entity or file is ever read. Names are taken with
the model's namespace, with another or with none, and attributes in any case, as the examples of
PS3.18 Annex B write them.
"""

from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import DefusedXMLParser  # type: ignore[import-untyped]

from archive.dicom.instance import Attributes
from archive.dicom.values import TEXT_VRS
from archive.errors import InvalidRequestError

_DEEPEST: Final = 64
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
# Values that are left out between two others are empty; so many may be.
_WIDEST_GAP: Final = 1024
_HEX: Final = frozenset("0123456789ABCDEF")
_FEED_BYTES: Final = 1 << 16


class _MisfitError(Exception):
    """The XML is well formed, but no Native DICOM Model."""


@dataclass(slots=True)
class _DataSet:
    place: Attributes
    attributes: Attributes = field(default_factory=dict)
    private: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)


@dataclass(slots=True)
class _Attribute:
    tag: str
    vr: str
    creator: str
    values: list[Any] = field(default_factory=list)
    bulk_data_uri: str | None = None
    inline: str | None = None


def read_xml(document: bytes | bytearray) -> Attributes:
    """Return the data set of one document.

    Raises
    ------
    InvalidRequestError
        If it is no XML, has a document type, or is no Native DICOM Model; the text says where.
    """
    builder = _Builder()
    parser = DefusedXMLParser(target=builder, forbid_dtd=True)
    try:
        for at in range(0, len(document), _FEED_BYTES):
            parser.feed(bytes(document[at : at + _FEED_BYTES]))
        parser.close()
    except ParseError as error:
        raise InvalidRequestError(f"the metadata is not XML: {error}") from error
    except DefusedXmlException as error:
        raise InvalidRequestError(
            "the metadata has a document type or entities, which are not read"
        ) from error
    except (_MisfitError, LookupError, ValueError) as error:
        line = parser.parser.CurrentLineNumber
        raise InvalidRequestError(
            f"the metadata is no Native DICOM Model (PS3.19 §A.1): {error}, line {line}"
        ) from error
    if builder.root is None:
        raise InvalidRequestError("the metadata is XML without a NativeDicomModel")
    return builder.root


class _Builder:
    """Takes the events of the parser."""

    def __init__(self) -> None:
        self.root: Attributes | None = None
        self._names: list[str] = []
        self._datasets: list[_DataSet] = []
        self._open: list[_Attribute] = []
        self._text: list[str] = []
        self._name: dict[str, dict[str, str]] = {}
        self._group = ""
        self._number = 0

    # -- what the parser calls -------------------------------------------------------------

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition("}")[2]
        given = {key.rpartition("}")[2].lower(): text for key, text in attributes.items()}
        parent = self._names[-1] if self._names else ""
        if parent not in _PARENTS.get(local, ()):
            raise _MisfitError(f"{local[:40]} stands in {parent[:40] or 'no element'}")
        self._names.append(local)
        self._text = []
        if local in ("NativeDicomModel", "Item"):
            self._begin_data_set(given)
        elif local == "DicomAttribute":
            self._open.append(_begin_attribute(given))
        elif local in ("Value", "PersonName"):
            self._number = _number(given)
            self._name = {}
        elif local in _GROUPS:
            self._group = local
            self._name[local] = {}
        elif local == "BulkData":
            self._open[-1].bulk_data_uri = given.get("uri") or given.get("uuid") or ""

    def data(self, text: str) -> None:
        self._text.append(text)

    def end(self, name: str) -> None:
        local = name.rpartition("}")[2]
        self._names.pop()
        text = "".join(self._text)
        self._text = []
        if local in ("NativeDicomModel", "Item"):
            self._end_data_set(local)
        elif local == "DicomAttribute":
            _add(self._open.pop(), self._datasets[-1])
        elif local == "Value":
            self._place(_value(text, self._open[-1].vr))
        elif local == "PersonName":
            self._place(_person_name(self._name) or (text.strip() or None))
        elif local in _COMPONENTS:
            self._name[self._group][local] = text
        elif local in _GROUPS and not self._name[local] and text.strip():
            self._name[local] = {"FamilyName": text}  # as one text, components divided by ^
        elif local == "InlineBinary":
            self._open[-1].inline = text

    def close(self) -> None:
        """Nothing is left to do."""

    # -- data sets and values --------------------------------------------------------------

    def _begin_data_set(self, given: dict[str, str]) -> None:
        if len(self._datasets) >= _DEEPEST:
            raise _MisfitError(f"sequences are nested more than {_DEEPEST} deep")
        place: Attributes = {}
        if self._open:
            self._number = _number(given)
            self._place(place)
        self._datasets.append(_DataSet(place))

    def _end_data_set(self, local: str) -> None:
        dataset = self._datasets.pop()
        dataset.place.update(_with_private(dataset))
        if local == "NativeDicomModel":
            self.root = dataset.place

    def _place(self, value: Any) -> None:  # noqa: ANN401 - a JSON value
        values = self._open[-1].values
        number = self._number or len(values) + 1
        if number > len(values) + _WIDEST_GAP:
            raise _MisfitError(f"value {number} follows value {len(values)}")
        while len(values) < number:
            values.append(None)
        values[number - 1] = value


def _number(given: dict[str, str]) -> int:
    text = given.get("number", "").strip()
    if not text:
        return 0
    if not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise _MisfitError("a number is no whole one from 1")
    return int(text)


def _begin_attribute(given: dict[str, str]) -> _Attribute:
    tag = given.get("tag", "").strip().upper()
    if len(tag) != 8 or not _HEX.issuperset(tag):
        raise _MisfitError("a DicomAttribute has no tag of eight hexadecimal digits")
    return _Attribute(tag, given.get("vr", "").strip(), given.get("privatecreator", "").strip())


def _value(text: str, vr: str) -> str | None:
    # Blanks around a text may be meant; around anything else they are layout.
    kept = text if vr in TEXT_VRS else text.strip()
    return kept or None


def _person_name(groups: dict[str, dict[str, str]]) -> dict[str, str] | None:
    name = {}
    for group, components in groups.items():
        parts = [components.get(component, "") for component in _COMPONENTS]
        if text := "^".join(parts).rstrip("^"):
            name[group] = text
    return name or None


def _add(attribute: _Attribute, dataset: _DataSet) -> None:
    element: dict[str, Any] = {}
    if attribute.vr:
        element["vr"] = attribute.vr
    if attribute.bulk_data_uri is not None:
        element["BulkDataURI"] = attribute.bulk_data_uri
    if attribute.inline is not None:
        element["InlineBinary"] = attribute.inline
    if attribute.values:
        element["Value"] = attribute.values
    if attribute.creator and int(attribute.tag[3], 16) % 2:
        dataset.private.append((attribute.tag, attribute.creator, element))
        return
    if attribute.tag in dataset.attributes:
        raise _MisfitError(f"attribute {attribute.tag} is there twice")
    dataset.attributes[attribute.tag] = element


def _with_private(dataset: _DataSet) -> Attributes:
    """Give private attributes their block, and blocks their creator (PS3.5 §7.8.1)."""
    attributes = dataset.attributes
    for tag, creator, element in dataset.private:
        group, block = tag[:4], tag[4:6]
        if block == "00":  # the model may leave the block to whoever writes the data set
            block = _block_of(attributes, group, creator)
        place = f"{group}{block}{tag[6:]}"
        if place in attributes:
            raise _MisfitError(f"attribute {place} is there twice")
        attributes.setdefault(f"{group}00{block}", {"vr": "LO", "Value": [creator]})
        attributes[place] = element
    return dict(sorted(attributes.items()))


def _block_of(attributes: Attributes, group: str, creator: str) -> str:
    free = ""
    for number in range(0x10, 0x100):
        known = attributes.get(f"{group}00{number:02X}")
        if known is None:
            free = free or f"{number:02X}"
        elif known.get("Value") == [creator]:
            return f"{number:02X}"
    if not free:
        raise _MisfitError(f"group {group} has no private block left")
    return free


_PARENTS: Final = {
    "NativeDicomModel": ("",),
    "DicomAttribute": ("NativeDicomModel", "Item"),
    "Item": ("DicomAttribute",),
    "Value": ("DicomAttribute",),
    "PersonName": ("DicomAttribute",),
    "BulkData": ("DicomAttribute",),
    "InlineBinary": ("DicomAttribute",),
    **dict.fromkeys(_GROUPS, ("PersonName",)),
    **dict.fromkeys(_COMPONENTS, _GROUPS),
}
