"""The DICOM JSON Model as a Native DICOM Model in XML (PS3.19 §A.1, PS3.18 §F.2)."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydicom.datadict import keyword_for_tag

NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_START: Final = (
    f'<?xml version="1.0" encoding="UTF-8"?>\n'
    f'<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
)
_END: Final = "</NativeDicomModel>"
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
# What XML 1.0 has no place for, not even as a reference (its §2.2).
_ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES: Final = str.maketrans(
    # A line end as it stands would be read as another one, and any as a blank in quotes.
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}
)
_QUOTED: Final = str.maketrans({"\n": "&#10;", "\t": "&#9;"})
# How XML writes what is no number (XML Schema, xs:double).
_NOT_FINITE: Final = {"inf": "INF", "-inf": "-INF"}
_FLOATS: Final = frozenset({"FL", "FD"})


def encode_xml(attributes: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return a data set as a document of the Native DICOM Model (PS3.19 §A.1.5).

    Parameters
    ----------
    attributes
        The DICOM JSON Model: tags to ``vr`` and value. BulkDataURIs are taken as they are.

    Returns
    -------
    bytes
        UTF-8. Characters that XML cannot hold are U+FFFD.
    """
    return "".join((_START, *_data_set(attributes), _END)).encode("utf-8")


def _data_set(attributes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for tag in sorted(attributes):
        element = attributes[tag]
        vr = str(element.get("vr", "UN"))
        yield f'<DicomAttribute tag="{_quoted(tag)}" vr="{_quoted(vr)}"'
        yield from _names(tag, attributes)
        content = "".join(_content(element, vr))
        yield f">{content}</DicomAttribute>" if content else "/>"


def _names(tag: str, attributes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    number = int(tag, 16)
    if not number >> 16 & 1:
        if keyword := keyword_for_tag(number):
            yield f' keyword="{keyword}"'
    elif block := number >> 8 & 0xFF:
        creator = attributes.get(f"{tag[:4]}00{block:02X}", {}).get("Value")
        if creator and isinstance(creator[0], str):
            yield f' privateCreator="{_quoted(creator[0])}"'


def _content(element: Mapping[str, Any], vr: str) -> Iterator[str]:
    if "BulkDataURI" in element:
        yield f'<BulkData uri="{_quoted(str(element["BulkDataURI"]))}"/>'
    elif "InlineBinary" in element:
        yield f"<InlineBinary>{_text(str(element['InlineBinary']))}</InlineBinary>"
    else:
        for number, value in enumerate(element.get("Value") or (), 1):
            yield from _value(value, vr, number)


def _value(value: Any, vr: str, number: int) -> Iterator[str]:  # noqa: ANN401 - a JSON value
    if vr == "SQ":
        yield f'<Item number="{number}">'
        yield from _data_set(value or {})
        yield "</Item>"
    elif vr == "PN":
        yield f'<PersonName number="{number}">'
        yield from _person_name(value)
        yield "</PersonName>"
    elif value is None:
        yield f'<Value number="{number}"/>'
    else:
        text = _NOT_FINITE.get(value, value) if vr in _FLOATS else value
        yield f'<Value number="{number}">{_text(str(text))}</Value>'


def _person_name(value: Any) -> Iterator[str]:  # noqa: ANN401 - a JSON value
    if isinstance(value, str):
        value = {"Alphabetic": value}
    for group in _GROUPS:
        text = value.get(group) if value else None
        if not text:
            continue
        yield f"<{group}>"
        # A sixth component is none; what is there is kept with the fifth (PS3.5 §6.2.1).
        for name, component in zip(_COMPONENTS, text.split("^", 4), strict=False):
            if component:
                yield f"<{name}>{_text(component)}</{name}>"
        yield f"</{group}>"


def _text(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text).translate(_ESCAPES)


def _quoted(text: str) -> str:
    return _text(text).translate(_QUOTED)
