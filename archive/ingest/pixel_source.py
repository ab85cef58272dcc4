"""Pixel data that was sent as bulk data: what becomes of it, and what it says of itself.

Compressed frames are stored as they came, in the transfer syntax that is theirs; PNG and GIF,
which have none, without compression (PS3.18 Table 10.5.2-1).
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from archive.dicom.codestream import (
    ImageHeader,
    codestream_span,
    read_image_header,
    split_frames,
)
from archive.dicom.film import read_film_header
from archive.dicom.frame_ends import split_deflated, split_rle
from archive.dicom.instance import Attributes, AttributeWarning
from archive.dicom.part10 import Buffer
from archive.dicom.transfer_syntax import (
    DEFLATED_FRAMES,
    ENCAPSULATED_UNCOMPRESSED,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    transfer_syntax,
)
from archive.dicom.writer import Content, Sink
from archive.errors import InvalidInstanceError
from archive.identity import is_uid
from archive.ingest.bulk_parts import BulkPart, BulkParts
from archive.ingest.growing import Growing
from storage.objects.base import Spool

PIXEL_DATA: Final = ("7FE00010", "7FE00008", "7FE00009")
NATIVE_TYPES: Final = frozenset({"", "application/octet-stream"})
_RASTER_TYPES: Final = frozenset({"image/png", "image/gif"})
_FILM_TYPES: Final = frozenset({"video/mp4", "video/mpeg", "video/mpeg2", "video/h265"})
_BY_TYPE: Final = {
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "image/x-dicom-rle": "1.2.840.10008.1.2.5",
    "image/jxl": "1.2.840.10008.1.2.4.112",
}
# Lossy Image Compression Method (0028,2114) of what a derived description needs it for.
_METHODS: Final = (("4.5", "ISO_10918_1"), ("4.8", "ISO_14495_1"), ("4.9", "ISO_15444_1"))
_IMAGE: Final = ("00280010", "00280011", "00280002", "00280004", "00280100", "00280101")

_CHUNK_BYTES: Final = 1 << 20

Piece = tuple[BulkPart, int, int]


@dataclass(frozen=True, slots=True)
class PixelSource:
    """What to write for pixel data.

    Parameters
    ----------
    transfer_syntax_uid
        Of the instance.
    content
        The bytes; None where they are in the metadata, or there are none.
    derived
        Attributes that the metadata left out (PS3.18 §10.5.2).
    in_doubt
        Where the metadata say something else than the frames.
    discard
        Removes what was made on the way.
    """

    transfer_syntax_uid: str = EXPLICIT_LITTLE_ENDIAN
    content: Content | None = None
    derived: Attributes = field(default_factory=dict)
    in_doubt: tuple[AttributeWarning, ...] = ()
    discard: Callable[[], None] = lambda: None


def pixel_source(
    attributes: Attributes,
    tag: str,
    found: Sequence[BulkPart],
    *,
    claimed_syntax: str,
    parts: BulkParts,
    new_spool: Callable[[], Spool],
) -> PixelSource:
    """Decide how the parts that pixel data points to are stored.

    Parameters
    ----------
    tag
        Pixel Data, or one of its floating point sisters.
    claimed_syntax
        Transfer Syntax UID (0002,0010) in the metadata; "" where there is none.

    Raises
    ------
    InvalidInstanceError
        If they cannot be.
    """
    reader = _Reader(attributes, tag, found, parts)
    media_type = found[0].media_type
    stated = found[0].transfer_syntax_uid.strip()
    if stated == EXPLICIT_BIG_ENDIAN:
        raise InvalidInstanceError("bulk data is sent little endian (PS3.18 §8.7.3)", tag=tag)
    if media_type in _RASTER_TYPES:
        return reader.decoded(new_spool)
    if media_type in NATIVE_TYPES:
        encapsulated = [
            uid for uid in (stated, claimed_syntax) if uid and transfer_syntax(uid).encapsulated
        ]
        # A transfer syntax in the metadata may be that of another representation.
        if not encapsulated or (not stated and reader.header() is None):
            return PixelSource(content=joined(parts, found))
        return reader.encapsulated(encapsulated[0])
    if not media_type.startswith(("image/", "video/")):
        raise InvalidInstanceError(f"pixel data of type {media_type} is not stored", tag=tag)
    return reader.encapsulated(stated or claimed_syntax)


def joined(parts: BulkParts, found: Sequence[BulkPart]) -> Content:
    """Return parts one behind the other as one native value."""

    def copy(sink: Sink, _frame: int | None) -> None:
        for part in found:
            parts.copy(part, sink, 0, part.length)

    return Content(sum(part.length for part in found), copy)


def inline_source(attributes: Attributes, raw: bytes, claimed_syntax: str) -> PixelSource:
    """Return a frame that the metadata hold themselves; native where it is no such frame."""
    try:
        header = read_image_header(raw, "InlineBinary")
    except ValueError:
        header = None
    if header is None:
        return PixelSource()
    allowed = header.transfer_syntaxes
    uid = claimed_syntax if claimed_syntax in allowed else allowed[0]
    derived, in_doubt = _described(attributes, header, "InlineBinary", 1)
    start, end = codestream_span(raw)
    content = Content(end - start, lambda sink, _frame: sink(raw[start:end]), (end - start,))
    return PixelSource(uid, content, derived, in_doubt)


class _Reader:
    """Looks into the parts of one instance's pixel data."""

    def __init__(
        self, attributes: Attributes, tag: str, found: Sequence[BulkPart], parts: BulkParts
    ) -> None:
        self._attributes = attributes
        self._tag = tag
        self._found = found
        self._parts = parts
        self._media_type = found[0].media_type

    def header(self) -> ImageHeader | None:
        view = self._parts.view(self._found[0])
        try:
            if self._media_type in _FILM_TYPES:
                return read_film_header(view)
            return read_image_header(view, self._media_type)
        except ValueError as error:
            raise InvalidInstanceError(str(error), tag=self._tag) from error
        finally:
            view.release()

    def _header_if_needed(self, stated: str) -> ImageHeader | None:
        try:
            return self.header()
        except InvalidInstanceError:
            # Broken frames are kept like any others where nothing has to be read from them.
            told = all(_first(self._attributes, tag) is not None for tag in _IMAGE)
            if told and transfer_syntax(stated).encapsulated and is_uid(stated):
                return None
            raise

    def encapsulated(self, stated: str) -> PixelSource:
        header = self._header_if_needed(stated)
        pieces = self._pieces(stated)
        derived, in_doubt = _described(self._attributes, header, self._media_type, len(pieces))
        uid = self._syntax(header, stated)
        if derived and not transfer_syntax(uid).lossless:
            derived |= _lossy(uid)

        def copy(sink: Sink, frame: int | None) -> None:
            part, start, end = pieces[frame or 0]
            self._parts.copy(part, sink, start, end)

        frames = tuple(end - start for _, start, end in pieces)
        return PixelSource(uid, Content(sum(frames), copy, frames), derived, in_doubt)

    def decoded(self, new_spool: Callable[[], Spool]) -> PixelSource:
        """Return PNG or GIF without compression."""
        if len(self._found) > 1:
            raise InvalidInstanceError(
                f"several parts of type {self._media_type} are not stored as one instance",
                tag=self._tag,
            )
        target = Growing(new_spool)
        view = self._parts.view(self._found[0])
        try:
            header = _decode_raster(view, target.write)
        except ValueError as error:
            target.discard()
            raise InvalidInstanceError(str(error), tag=self._tag) from error
        finally:
            view.release()
        derived, in_doubt = _described(
            self._attributes, header, self._media_type, header.number_of_frames
        )
        size, body = target.size_bytes, target.finish()

        def copy(sink: Sink, _frame: int | None) -> None:
            if isinstance(body, memoryview):
                sink(body)
                return
            for at in range(0, size, _CHUNK_BYTES):
                sink(body.read(at, _CHUNK_BYTES))

        return PixelSource(
            EXPLICIT_LITTLE_ENDIAN, Content(size, copy), derived, in_doubt, target.discard
        )

    def _syntax(self, header: ImageHeader | None, stated: str) -> str:
        """Return the transfer syntax: what is stated, where the frames can be of it."""
        if header is not None:
            allowed = header.transfer_syntaxes
            return stated if stated in allowed else allowed[0]
        if stated and transfer_syntax(stated).encapsulated:
            return stated
        if self._media_type in _BY_TYPE:
            return _BY_TYPE[self._media_type]
        raise InvalidInstanceError(
            f"the transfer syntax of {self._media_type} cannot be told: say it with the "
            "parameter transfer-syntax",
            tag=self._tag,
        )

    # -- frames ----------------------------------------------------------------------------

    def _pieces(self, stated: str) -> list[Piece]:
        if len(self._found) > 1:
            return [self._unboxed(part) for part in self._found]
        part = self._found[0]
        wanted = _number(self._attributes, "00280008") or 1
        if wanted == 1 or self._media_type in _FILM_TYPES:
            return [self._unboxed(part)]
        view = self._parts.view(part)
        try:
            spans = self._spans(view, wanted, stated)
        except ValueError as error:
            raise InvalidInstanceError(
                f"Number of Frames is {wanted}, but one part holds them and cannot be divided: "
                f"{error}; send each frame as a part",
                tag=self._tag,
            ) from error
        finally:
            view.release()
        return [(part, start, end) for start, end in spans]

    def _spans(self, view: memoryview, wanted: int, stated: str) -> list[tuple[int, int]]:
        pixels = _number(self._attributes, "00280010") * _number(self._attributes, "00280011")
        bits = _number(self._attributes, "00280100")
        if self._media_type.endswith("dicom-rle"):
            return split_rle(view, (pixels + 7) // 8 if bits == 1 else pixels)
        if stated == ENCAPSULATED_UNCOMPRESSED:
            length = (pixels * bits * (_number(self._attributes, "00280002") or 1) + 7) // 8
            step = length + length % 2
            return [(at, min(at + step, len(view))) for at in range(0, wanted * step, step)]
        if stated == DEFLATED_FRAMES:
            return split_deflated(view)
        return split_frames(view)

    def _unboxed(self, part: BulkPart) -> Piece:
        view = self._parts.view(part)
        try:
            return part, *codestream_span(view)
        except ValueError as error:
            raise InvalidInstanceError(str(error), tag=self._tag) from error
        finally:
            view.release()


def _decode_raster(data: Buffer, sink: Callable[[bytes], None]) -> ImageHeader:
    # Hardly anybody sends PNG or GIF: the library for them is loaded for who does.
    raster = importlib.import_module("archive.dicom.raster")
    header: ImageHeader = raster.decode_raster(data, sink)
    return header


def _described(
    attributes: Attributes, header: ImageHeader | None, media_type: str, frames: int
) -> tuple[Attributes, tuple[AttributeWarning, ...]]:
    """Return what the metadata leave out, and what they say otherwise than the frames."""
    missing = [tag for tag in _IMAGE if _first(attributes, tag) is None]
    if header is None:
        if missing:
            raise InvalidInstanceError(
                f"the metadata leave it out, and it cannot be read from {media_type}",
                tag=missing[0],
            )
        return {}, ()
    derived = {
        tag: element
        for tag, element in description(header, frames).items()
        if _first(attributes, tag) is None
    }
    doubts = tuple(
        AttributeWarning(tag, "the frames say something else")
        for tag, actual in (
            ("00280010", header.rows),
            ("00280011", header.columns),
            ("00280002", header.samples_per_pixel),
        )
        if (_number(attributes, tag) or actual) != actual
    )
    return derived if missing else {}, doubts


def description(header: ImageHeader, frames: int) -> Attributes:
    """Return the Image Pixel Description Macro as attributes (PS3.3 Table C.7-11c)."""
    described: Attributes = {
        "00280002": {"vr": "US", "Value": [header.samples_per_pixel]},
        "00280004": {"vr": "CS", "Value": [header.photometric_interpretation]},
        "00280010": {"vr": "US", "Value": [header.rows]},
        "00280011": {"vr": "US", "Value": [header.columns]},
        "00280100": {"vr": "US", "Value": [header.bits_allocated]},
        "00280101": {"vr": "US", "Value": [header.bits_stored]},
        "00280102": {"vr": "US", "Value": [header.bits_stored - 1]},
        "00280103": {"vr": "US", "Value": [int(header.is_signed)]},
    }
    if header.samples_per_pixel > 1:
        described["00280006"] = {"vr": "US", "Value": [0]}
    count = max(header.number_of_frames, frames)
    if count > 1:
        described["00280008"] = {"vr": "IS", "Value": [count]}
    if header.frame_time_ms and count > 1:  # Multi-frame and Cine Modules (PS3.3 §C.7.6.5, 6)
        described["00181063"] = {"vr": "DS", "Value": [round(header.frame_time_ms, 6)]}
        described["00280009"] = {"vr": "AT", "Value": ["00181063"]}
    return described


def _lossy(uid: str) -> Attributes:
    arc = uid.removeprefix("1.2.840.10008.1.2.")
    method = next((name for start, name in _METHODS if arc.startswith(start)), "")
    lossy: Attributes = {"00282110": {"vr": "CS", "Value": ["01"]}}
    if method:
        lossy["00282114"] = {"vr": "CS", "Value": [method]}
    return lossy


def _first(attributes: Attributes, tag: str) -> Any:  # noqa: ANN401 - a JSON value
    values = attributes.get(tag, {}).get("Value")
    return values[0] if isinstance(values, list) and values else None


def _number(attributes: Attributes, tag: str) -> int:
    value = _first(attributes, tag)
    try:
        return max(int(value), 0) if isinstance(value, int | str) else 0
    except ValueError:
        return 0
