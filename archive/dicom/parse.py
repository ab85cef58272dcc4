"""From a Part 10 object to everything that later reads need, in one pass."""

import zlib
from typing import Final

import orjson

from archive.dicom.fallback import walk_with_pydicom
from archive.dicom.frame_table import FrameTable
from archive.dicom.frames import (
    describe_pixels,
    encapsulated_frames,
    extended_offsets,
    native_frames,
)
from archive.dicom.instance import (
    Attributes,
    AttributeWarning,
    ParsedInstance,
    PixelDescription,
)
from archive.dicom.part10 import Buffer, FileMeta
from archive.dicom.transfer_syntax import TransferSyntax, transfer_syntax
from archive.dicom.walk import Walk
from archive.dicom.walker import Walker
from archive.errors import IdentifierError, InvalidInstanceError
from archive.identity import MAX_UID_LENGTH, is_uid
from archive.log import get_logger

logger = get_logger(__name__)

# A deflated data set may grow to this much; one that grows a thousandfold is no image.
LARGEST_INFLATED_BYTES: Final = 2 * 1024**3
_GREATEST_RATIO: Final = 1000
_INFLATE_CHUNK_BYTES: Final = 1 << 20

_REQUIRED_UIDS: Final = (
    ("0020000D", "Study Instance UID"),
    ("0020000E", "Series Instance UID"),
    ("00080018", "SOP Instance UID"),
    ("00080016", "SOP Class UID"),
)


def parse_instance(
    buffer: Buffer, meta: FileMeta, *, largest_inflated_bytes: int = LARGEST_INFLATED_BYTES
) -> ParsedInstance:
    """Read one object.

    Parameters
    ----------
    buffer
        The whole object; may be a mapped file: pixel data is neither copied nor touched.
    meta
        Its header, from `read_file_meta`.
    largest_inflated_bytes
        How large a deflated data set may become.

    Raises
    ------
    InvalidInstanceError
        If it cannot be kept: identifiers missing or malformed, truncated, or broken in a way
        that leaves it unreadable. Anything less is kept, with a warning.
    """
    syntax = transfer_syntax(meta.transfer_syntax_uid)
    data, start = buffer, meta.dataset_offset
    if syntax.deflated:
        data, start = inflate(buffer, start, largest_inflated_bytes), 0
    walk = _walk(data, start, syntax)
    attributes = _with_character_set(walk)
    study, series, instance, sop_class = (
        _required_uid(attributes, tag, name) for tag, name in _REQUIRED_UIDS
    )
    pixels, frames, remark = _frames(data, walk, attributes, syntax)
    if remark:
        walk.warnings.append(AttributeWarning("7FE00010", remark))
    return ParsedInstance(
        study_instance_uid=study,
        series_instance_uid=series,
        sop_instance_uid=instance,
        sop_class_uid=sop_class,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        dataset_offset=meta.dataset_offset,
        attributes=attributes,
        json=orjson.dumps(attributes),
        bulk=tuple(walk.bulk),
        pixels=pixels,
        frames=frames,
        warnings=tuple(walk.warnings),
        read_by=walk.read_by,
    )


def _walk(data: Buffer, start: int, syntax: TransferSyntax) -> Walk:
    walker = Walker(data, implicit=syntax.implicit, big_endian=syntax.big_endian)
    try:
        return walker.walk(start)
    except InvalidInstanceError:
        raise
    except Exception as stumble:
        logger.warning("walker.stumbled", exc_info=stumble)
        return walk_with_pydicom(data, start, syntax, stumble)


def inflate(buffer: Buffer, start: int, largest: int) -> bytes:
    """Inflate a deflated data set (PS3.5 §A.5), but not without bound."""
    largest = min(largest, _GREATEST_RATIO * max(len(buffer) - start, 1))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    pieces: list[bytes] = []
    size = 0
    pending: Buffer = buffer[start:]
    try:
        while pending and not inflater.eof:
            piece = inflater.decompress(pending, _INFLATE_CHUNK_BYTES)
            pending = inflater.unconsumed_tail
            pieces.append(piece)
            size += len(piece)
            if size > largest:
                raise InvalidInstanceError(
                    f"the deflated data set grows beyond {largest} bytes", offset=start
                )
    except zlib.error as error:
        raise InvalidInstanceError(
            f"the transfer syntax says the data set is deflated, but it cannot be inflated: "
            f"{error}",
            offset=start,
        ) from error
    if not inflater.eof:
        raise InvalidInstanceError(
            "the deflated data set has no end: the object is truncated", offset=len(buffer)
        )
    return b"".join(pieces)


def _with_character_set(walk: Walk) -> Attributes:
    # The JSON is UTF-8, and says so where that matters (PS3.18 §F.2.1).
    attributes = walk.attributes
    if walk.has_text_beyond_ascii and "00080005" not in attributes:
        attributes["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
        attributes = dict(sorted(attributes.items()))
    return attributes


def _required_uid(attributes: Attributes, tag: str, name: str) -> str:
    values = attributes.get(tag, {}).get("Value") or [""]
    value = values[0] if isinstance(values[0], str) else ""
    if not value:
        missing = "is empty" if tag in attributes else "is missing"
        raise IdentifierError(
            f"{name} {missing}: without it the instance cannot be filed", tag=tag
        )
    if not is_uid(value):
        shown = value if len(value) <= MAX_UID_LENGTH else f"{value[:MAX_UID_LENGTH]}..."
        raise IdentifierError(
            f"{name} {shown!r} is not a UID: expected digits and dots, at most "
            f"{MAX_UID_LENGTH} characters (PS3.5 §9.1)",
            tag=tag,
        )
    return value


def _frames(
    data: Buffer, walk: Walk, attributes: Attributes, syntax: TransferSyntax
) -> tuple[PixelDescription | None, FrameTable | None, str]:
    element = walk.pixels
    if element is None:
        return None, None, ""
    description = describe_pixels(attributes)
    if element.length is not None:
        table, remark = native_frames(element, description, inflated=syntax.deflated)
    else:
        offsets = extended_offsets(data, attributes, walk.bulk)
        table, remark = encapsulated_frames(data, element, description, syntax, offsets)
    return description, table, remark
