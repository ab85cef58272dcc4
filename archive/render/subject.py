"""What an instance can be shown as: its category and media types (PS3.18 §8.7.2, §8.7.4)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from archive.dicom.frame_table import FrameTable
from archive.dicom.transfer_syntax import transfer_syntax
from archive.identity import InstanceRef
from archive.render.attributes import Attributes, integer, items, number, numbers, text
from archive.render.options import RENDERED_MEDIA_TYPES
from archive.render.pixels import Pixels
from archive.render.presentation import pixel_description
from archive.retrieve.values import StoredInstance

DOCUMENT: Final = "00420011"
_DOCUMENT_TYPE: Final = "00420012"
_DOCUMENT_LENGTH: Final = "00420015"
_CONTENT: Final = "0040A730"
_VALUE_TYPE: Final = "0040A040"
_FIXED_TYPES: Final = {
    "1.2.840.10008.5.1.4.1.1.104.1": "application/pdf",
    "1.2.840.10008.5.1.4.1.1.104.2": "text/xml",
    "1.2.840.10008.5.1.4.1.1.104.3": "model/stl",
    "1.2.840.10008.5.1.4.1.1.104.4": "model/obj",
    "1.2.840.10008.5.1.4.1.1.104.5": "model/mtl",
}
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}")
REPORT_TYPES: Final = ("text/html", "text/plain", "text/xml")
_DEFAULT_FRAME_MS: Final = 100.0
# Slower than this, somebody wrote seconds or nonsense: nobody waits for it.
_LONGEST_FRAME_MS: Final = 10_000.0


class Category(Enum):
    """Resource categories of PS3.18 §8.7.2, Text told apart by what it consists of."""

    IMAGE = "image"
    VIDEO = "video"
    REPORT = "report"
    DOCUMENT = "document"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Subject:
    """One instance that is to be shown.

    Parameters
    ----------
    media_types
        What it can be shown as, the default first; empty when it cannot be.
    pixels
        Its frames, where it is an image.
    """

    stored: StoredInstance
    attributes: dict[str, Any]
    category: Category
    media_types: tuple[str, ...]
    pixels: Pixels | None = None

    @property
    def ref(self) -> InstanceRef:
        """Its UIDs."""
        return ref_of(self.stored)

    @property
    def number_of_frames(self) -> int:
        """How many images it has, 0 for what has none."""
        return self.pixels.table.number_of_frames if self.pixels else 0

    @property
    def representative_frame(self) -> int:
        """The frame in the middle, 1-based, which shows most."""
        return (self.number_of_frames + 1) // 2

    @property
    def label(self) -> str:
        """A few letters that say what it is."""
        if self.category is Category.VIDEO:
            return "VIDEO"
        if self.media_types[:1] == ("application/pdf",):
            return "PDF"
        return text(self.attributes, "00080060")[:6].upper() or "DICOM"

    @property
    def what(self) -> str:
        """What it is, for people who cannot be shown it."""
        name = transfer_syntax(self.stored.transfer_syntax_uid).name
        kind = text(self.attributes, "00080060") or "unknown modality"
        return f"{kind}, SOP class {self.stored.sop_class_uid}, {name}"


def ref_of(stored: StoredInstance) -> InstanceRef:
    """Return the UIDs of a stored instance."""
    return InstanceRef(
        stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
    )


def subject_of(
    stored: StoredInstance, attributes: dict[str, Any], table: FrameTable | None
) -> Subject:
    """Tell what an instance is by what is in it, not by its SOP class, which may be private."""
    syntax = transfer_syntax(stored.transfer_syntax_uid)
    description = pixel_description(attributes)
    if syntax.video and "7FE00010" in attributes:
        # A type outside the standard's list is matched without regard to case.
        return Subject(stored, attributes, Category.VIDEO, (syntax.media_type,))
    if table is not None and description is not None:
        pixels = Pixels(stored, attributes, table, description)
        return Subject(stored, attributes, Category.IMAGE, RENDERED_MEDIA_TYPES, pixels)
    if DOCUMENT in attributes:
        types = document_types(attributes, stored.sop_class_uid)
        return Subject(stored, attributes, Category.DOCUMENT, types)
    if _CONTENT in attributes or text(attributes, _VALUE_TYPE) == "CONTAINER":
        return Subject(stored, attributes, Category.REPORT, REPORT_TYPES)
    return Subject(stored, attributes, Category.OTHER, ())


# -- encapsulated documents --------------------------------------------------------------------


def document_types(attributes: Attributes, sop_class_uid: str) -> tuple[str, ...]:
    """Return the media types of an encapsulated document (PS3.3 §C.24.2), its own first."""
    said = text(attributes, _DOCUMENT_TYPE).partition(";")[0].strip().lower()
    if not _MEDIA_TYPE.fullmatch(said):
        said = _FIXED_TYPES.get(sop_class_uid, "application/octet-stream")
    if said in ("text/xml", "application/xml"):
        # Source text is readable, and XML has two names.
        return ("text/xml", "application/xml", "text/plain")
    return (said,)


def document_length(attributes: Attributes, stored_length: int, last_byte: bytes) -> int:
    """Return how long a document is without the byte that pads it to even length.

    Parameters
    ----------
    stored_length
        Length of the value in bytes.
    last_byte
        Its last byte.
    """
    said = integer(attributes, _DOCUMENT_LENGTH)
    if said is not None and said == stored_length - 1:
        return said
    return stored_length - 1 if last_byte == b"\0" and said is None else stored_length


# -- cine --------------------------------------------------------------------------------------


def frame_durations(attributes: Attributes, frame_numbers: list[int]) -> tuple[float, ...]:
    """Return how long each frame is to be shown, in milliseconds (PS3.3 §C.7.6.5).

    Frame Time, else the frame's place in Frame Time Vector, else a rate; a tenth of a second
    where nothing is said.
    """
    vector = numbers(attributes, "00181065")
    constant = _constant_duration(attributes)
    if constant is None and len(vector) > 1:
        # The vector holds the time before each frame: that of the next is how long this stays.
        following = [*vector[1:], sum(vector[1:]) / (len(vector) - 1)]
        return tuple(
            _bounded(following[min(frame_number, len(following)) - 1])
            for frame_number in frame_numbers
        )
    return (_bounded(constant or _DEFAULT_FRAME_MS),) * len(frame_numbers)


def _constant_duration(attributes: Attributes) -> float | None:
    frame_time = number(attributes, "00181063")
    if frame_time is not None and frame_time > 0:
        return frame_time
    for tag in ("00082144", "00180040"):  # Recommended Display Frame Rate, Cine Rate
        rate = number(attributes, tag)
        if rate is not None and rate > 0:
            return 1000 / rate
    return None


def _bounded(duration_ms: float) -> float:
    return min(duration_ms, _LONGEST_FRAME_MS) if duration_ms > 0 else _DEFAULT_FRAME_MS


# -- references --------------------------------------------------------------------------------


def evidence(attributes: Attributes) -> Mapping[str, InstanceRef]:
    """Return where the instances lie that a report refers to (PS3.3 §C.17.2)."""
    found: dict[str, InstanceRef] = {}
    for tag in ("0040A375", "0040A385", "0040A525"):
        for study in items(attributes, tag):
            for series in items(study, "00081115"):
                for instance in items(series, "00081199"):
                    uid = text(instance, "00081155")
                    study_uid, series_uid = text(study, "0020000D"), text(series, "0020000E")
                    if uid and study_uid and series_uid:
                        found[uid] = InstanceRef(study_uid, series_uid, uid)
    return found
