"""An instance put together from its metadata and its bulk data (PS3.18 §10.5.1.4, §10.5.2)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from archive.dicom.encode_values import ModelError
from archive.dicom.instance import Attributes, AttributeWarning
from archive.dicom.part10 import build_file_meta
from archive.dicom.transfer_syntax import transfer_syntax
from archive.dicom.values import BINARY_VRS, TEXT_VRS
from archive.dicom.writer import Content, DataSetWriter, checked_tags, decoded_binary, text_of
from archive.errors import ArchiveError, InvalidInstanceError
from archive.identity import is_uid
from archive.ingest.bulk_parts import BulkPart, BulkParts
from archive.ingest.growing import Growing
from archive.ingest.incoming import Incoming, Source, Spool
from archive.ingest.pixel_source import (
    NATIVE_TYPES,
    PIXEL_DATA,
    PixelSource,
    inline_source,
    joined,
    pixel_source,
)

_CHARACTER_SET: Final = "00080005"
_TRANSFER_SYNTAX: Final = "00020010"
_DOCUMENT: Final = "00420011"
_DOCUMENT_TYPE: Final = "00420012"
_DOCUMENT_BYTES: Final = "00420015"


@dataclass(frozen=True, slots=True)
class Metadata:
    """A data set without its bulk data, and who sends it.

    Parameters
    ----------
    attributes
        The DICOM JSON Model of it, as it was sent.
    source
        Where it came from.
    study_instance_uid
        The study it was stored to, when the request named one.
    """

    attributes: Attributes
    source: Source
    study_instance_uid: str | None = None


def assemble(metadata: Metadata, parts: BulkParts, new_spool: Callable[[], Spool]) -> Incoming:
    """Make the Part 10 object that `IngestService.store` takes.

    Explicit VR Little Endian, or what its compressed frames are; text is UTF-8.

    Raises
    ------
    InvalidInstanceError
        If the metadata are not of the model, or bulk data is missing or of a kind that cannot
        be stored; nothing is left behind.
    """
    try:
        return _assemble(metadata, parts, new_spool)
    except ArchiveError as error:
        error.sop_class_uid = _uid(metadata.attributes, "00080016")
        error.sop_instance_uid = _uid(metadata.attributes, "00080018")
        raise


def _assemble(metadata: Metadata, parts: BulkParts, new_spool: Callable[[], Spool]) -> Incoming:
    checked = checked_tags(metadata.attributes)
    dataset = {tag: element for tag, element in checked.items() if tag[:4] not in _OUTSIDE}
    dataset = _pointing(dataset, parts) if dataset else {}
    pixels = _pixels(dataset, _text(checked, _TRANSFER_SYNTAX), parts, new_spool)
    dataset |= pixels.derived
    dataset |= _document(dataset, parts)
    dataset |= _characters(dataset)
    target = Growing(new_spool)
    try:
        target.write(
            build_file_meta(
                sop_class_uid=_uid(dataset, "00080016"),
                sop_instance_uid=_uid(dataset, "00080018"),
                transfer_syntax_uid=pixels.transfer_syntax_uid,
            )
        )
        writer = DataSetWriter(target.write, _resolver(parts, pixels))
        writer.write(dataset)
        body = target.finish()
    except BaseException:
        target.discard()
        raise
    finally:
        pixels.discard()
    return Incoming(
        body,
        metadata.source,
        study_instance_uid=metadata.study_instance_uid,
        coerced=tuple(writer.remarks),
        discarded=_discarded(checked),
        in_doubt=pixels.in_doubt,
    )


_OUTSIDE: Final = frozenset({"0000", "0002"})


def _discarded(checked: dict[str, Any]) -> tuple[AttributeWarning, ...]:
    return tuple(
        AttributeWarning(tag, "an element of a command is none of a data set: left out")
        for tag in checked
        if tag.startswith("0000") and tag != "00000000"
    )


def _uid(attributes: Attributes, tag: str) -> str:
    text = _text(attributes, tag)
    return text if is_uid(text) else ""


def _text(attributes: Attributes, tag: str) -> str:
    element = attributes.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    value = values[0] if isinstance(values, list) and values else ""
    return value.strip(" \0\n\t") if isinstance(value, str) else ""


def _pointing(dataset: Attributes, parts: BulkParts) -> Attributes:
    """Take a binary value that is the location of a part for its BulkDataURI.

    The example of PS3.18 §B.23 points to pixel data so.
    """
    pointing = dict(dataset)
    for tag, element in dataset.items():
        values = element.get("Value")
        if element.get("vr") in BINARY_VRS and isinstance(values, list) and len(values) == 1:
            (value,) = values
            if isinstance(value, str) and parts.find(value):
                pointing[tag] = {"vr": element["vr"], "BulkDataURI": value}
    return pointing


def _pixels(
    dataset: Attributes,
    claimed_syntax: str,
    parts: BulkParts,
    new_spool: Callable[[], Spool],
) -> PixelSource:
    tag = next((tag for tag in PIXEL_DATA if "BulkDataURI" in dataset.get(tag, {})), None)
    if tag is None:
        return _inline_pixels(dataset, claimed_syntax)
    found = _found(parts, tag, dataset[tag]["BulkDataURI"])
    return pixel_source(
        dataset,
        tag,
        found,
        claimed_syntax=claimed_syntax if is_uid(claimed_syntax) else "",
        parts=parts,
        new_spool=new_spool,
    )


def _inline_pixels(dataset: Attributes, claimed_syntax: str) -> PixelSource:
    element = dataset.get(PIXEL_DATA[0], {})
    if "InlineBinary" not in element or not transfer_syntax(claimed_syntax).encapsulated:
        return PixelSource()
    try:
        pixels = inline_source(dataset, decoded_binary(element["InlineBinary"]), claimed_syntax)
    except ModelError as error:
        raise InvalidInstanceError(str(error), tag=PIXEL_DATA[0]) from error
    if pixels.content is not None:
        dataset[PIXEL_DATA[0]] = {"vr": "OB", "BulkDataURI": "inline"}
    return pixels


def _found(parts: BulkParts, tag: str, uri: Any) -> list[BulkPart]:  # noqa: ANN401 - a JSON value
    found = parts.find(uri) if isinstance(uri, str) else []
    if not found:
        raise InvalidInstanceError(
            "no part of the body has the Content-Location that BulkDataURI names; bulk data "
            "is not fetched from elsewhere",
            tag=tag[-8:],
        )
    return found


def _resolver(parts: BulkParts, pixels: PixelSource) -> Callable[[str, str, str], Content]:
    def resolve(path: str, _vr: str, uri: str) -> Content:
        if path in PIXEL_DATA and pixels.content is not None:
            return pixels.content
        found = _found(parts, path, uri)
        content = joined(parts, found)
        if path[-8:] in PIXEL_DATA and found[0].media_type.startswith("image/"):
            if found[0].media_type.endswith(("png", "gif")) or len(found) > 1:
                raise InvalidInstanceError(
                    f"a nested image of type {found[0].media_type} is not stored", tag=path[-8:]
                )
            return replace(content, frames=(content.length,))
        return content

    return resolve


def _document(dataset: Attributes, parts: BulkParts) -> Attributes:
    """Return what the part of an encapsulated document says of it (PS3.3 §C.24.2)."""
    uri = dataset.get(_DOCUMENT, {}).get("BulkDataURI")
    found = parts.find(uri) if isinstance(uri, str) else []
    if not found:
        return {}
    said: Attributes = {}
    media_type = found[0].media_type
    if not _text(dataset, _DOCUMENT_TYPE) and media_type not in NATIVE_TYPES:
        said[_DOCUMENT_TYPE] = {"vr": "LO", "Value": [media_type]}
    length = sum(part.length for part in found)
    if length % 2 and _DOCUMENT_BYTES not in dataset:
        said[_DOCUMENT_BYTES] = {"vr": "UL", "Value": [length]}
    return said


def _characters(dataset: Attributes) -> Attributes:
    """Return Specific Character Set where text needs it: all is written as UTF-8."""
    plain = all(text.isascii() for text in text_of(dataset.values()))
    if _text(dataset, _CHARACTER_SET) or (plain and not _points_to_text(dataset)):
        return {}
    return {_CHARACTER_SET: {"vr": "CS", "Value": ["ISO_IR 192"]}}


def _points_to_text(dataset: Attributes) -> bool:
    for element in dataset.values():
        if element.get("vr") in TEXT_VRS and "BulkDataURI" in element:
            return True
        items = element.get("Value") if element.get("vr") == "SQ" else None
        if isinstance(items, list) and any(
            _points_to_text({"": inner})
            for item in items
            if isinstance(item, dict)
            for inner in item.values()
            if isinstance(inner, dict)
        ):
            return True
    return False
