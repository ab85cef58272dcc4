"""The directory of a file-set: DICOMDIR (PS3.3 Annex F, PS3.10 §8.6)."""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from archive.dicom.dictionary import public_vr
from archive.dicom.instance import Attributes
from archive.dicom.part10 import build_file_meta
from archive.dicom.transfer_syntax import EXPLICIT_LITTLE_ENDIAN
from archive.dicom.writer import DataSetWriter
from archive.errors import InvalidInstanceError

FILE_NAME: Final = "DICOMDIR"
_SOP_CLASS: Final = "1.2.840.10008.1.3.10"
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
# Keys of each type of record (PS3.3 §F.5); what an instance lacks is left empty.
_PATIENT_KEYS: Final = ("00100010", "00100020")
_STUDY_KEYS: Final = ("00080020", "00080030", "00080050", "00081030", "0020000D", "00200010")
_SERIES_KEYS: Final = ("00080060", "0020000E", "00200011")
_LEAF_KEYS: Final = ("00200013",)
_MORE_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "SR DOCUMENT": ("0040A491", "0040A493", "00080023", "00080033", "0040A043"),
    "KEY OBJECT DOC": ("00080023", "00080033", "0040A043"),
    "PRESENTATION": ("00700080", "00700081", "00700082", "00700083", "00700084"),
    "RT DOSE": ("3004000A",),
    "RT STRUCTURE SET": ("30060002", "30060008", "30060009"),
    "RT PLAN": ("300A0002", "300A0006", "300A0007"),
    "ENCAP DOC": ("00080023", "00080033", "00420010", "0040A043", "00420012"),
    "WAVEFORM": ("00080023", "00080033"),
}
# Types of record by what the SOP class begins with (PS3.3 Table F.4-1); others are images.
_TYPES: Final = (
    (_STORAGE + "88.59", "KEY OBJECT DOC"),
    (_STORAGE + "88", "SR DOCUMENT"),
    (_STORAGE + "11", "PRESENTATION"),
    (_STORAGE + "481.2", "RT DOSE"),
    (_STORAGE + "481.3", "RT STRUCTURE SET"),
    (_STORAGE + "481.5", "RT PLAN"),
    (_STORAGE + "481.8", "RT PLAN"),
    (_STORAGE + "104", "ENCAP DOC"),
    (_STORAGE + "9", "WAVEFORM"),
    (_STORAGE + "66.1", "REGISTRATION"),
    (_STORAGE + "66.2", "FIDUCIAL"),
    (_STORAGE + "67", "VALUE MAP"),
    (_STORAGE + "66", "RAW DATA"),
)
_LINKS: Final = struct.Struct("<HH2sHI")


@dataclass(slots=True)
class _Record:
    """One record, and the records below it."""

    content: bytes
    below: dict[str, "_Record"] = field(default_factory=dict)
    offset: int = 0

    @property
    def length(self) -> int:
        return 8 + _LINKS.size * 2 + 10 + len(self.content)

    def encode(self, following: int) -> bytes:
        """Return the item, its links set (PS3.3 §F.3.2.2)."""
        lower = next(iter(self.below.values())).offset if self.below else 0
        links = (
            _LINKS.pack(0x0004, 0x1400, b"UL", 4, following)
            + struct.pack("<HH2sHH", 0x0004, 0x1410, b"US", 2, 0xFFFF)
            + _LINKS.pack(0x0004, 0x1420, b"UL", 4, lower)
        )
        body = links + self.content
        return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


class Directory:
    """Collects the instances of a file-set, and writes its DICOMDIR."""

    def __init__(self) -> None:
        self._patients: dict[str, _Record] = {}

    def add(self, attributes: Attributes, file_id: Sequence[str], syntax_uid: str) -> None:
        """Note one instance.

        Parameters
        ----------
        attributes
            Its DICOM JSON.
        file_id
            Components of its file name: 1 to 8 of A to Z, 0 to 9 and _ each (PS3.10 §8.2).
        syntax_uid
            The transfer syntax it is written in.
        """
        study, series, instance = (
            _first(attributes, tag) for tag in ("0020000D", "0020000E", "00080018")
        )
        above: tuple[tuple[str, str, tuple[str, ...]], ...] = (
            (_first(attributes, "00100020"), "PATIENT", _PATIENT_KEYS),
            (study, "STUDY", _STUDY_KEYS),
            (series, "SERIES", _SERIES_KEYS),
        )
        place = self._patients
        for key, kind, keys in above:
            if key not in place:
                place[key] = _Record(_content(kind, attributes, keys))
            place = place[key].below
        sop_class = _first(attributes, "00080016")
        leaf = _leaf_type(sop_class)
        reference = {
            "00041500": {"vr": "CS", "Value": list(file_id)},
            "00041510": {"vr": "UI", "Value": [sop_class]},
            "00041511": {"vr": "UI", "Value": [instance]},
            "00041512": {"vr": "UI", "Value": [syntax_uid]},
        }
        of_leaf = _LEAF_KEYS + _MORE_KEYS.get(leaf, ())
        place[instance] = _Record(_content(leaf, attributes, of_leaf, reference))

    def encode(self) -> bytes:
        """Return the DICOMDIR as a Part 10 object."""
        ordered = _flattened(self._patients)
        meta = build_file_meta(
            sop_class_uid=_SOP_CLASS,
            sop_instance_uid=_uid_of(record.content for record, _ in ordered),
            transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        )
        # File-set ID, the two offsets, the flag, and the head of the sequence.
        offset = len(meta) + 8 + 2 * _LINKS.size + 10 + 12
        for record, _ in ordered:
            record.offset = offset
            offset += record.length
        items = b"".join(
            record.encode(0 if after is None else after.offset) for record, after in ordered
        )
        roots = list(self._patients.values())
        return b"".join(
            (
                meta,
                struct.pack("<HH2sH", 0x0004, 0x1130, b"CS", 0),
                _LINKS.pack(0x0004, 0x1200, b"UL", 4, roots[0].offset if roots else 0),
                _LINKS.pack(0x0004, 0x1202, b"UL", 4, roots[-1].offset if roots else 0),
                struct.pack("<HH2sHH", 0x0004, 0x1212, b"US", 2, 0),
                struct.pack("<HH2sHI", 0x0004, 0x1220, b"SQ", 0, len(items)),
                items,
            )
        )


def _uid_of(contents: Iterable[bytes]) -> str:
    """Return a UID that this file-set alone has, and always has (PS3.5 §B.2)."""
    digest = hashlib.blake2s(digest_size=16)
    for content in contents:
        digest.update(content)
    return f"2.25.{int.from_bytes(digest.digest(), 'big')}"


def _flattened(level: dict[str, _Record]) -> list[tuple[_Record, _Record | None]]:
    """Return records depth first, each with the one that follows it on its level."""
    records = list(level.values())
    ordered: list[tuple[_Record, _Record | None]] = []
    for position, record in enumerate(records, 1):
        ordered.append((record, records[position] if position < len(records) else None))
        ordered += _flattened(record.below)
    return ordered


def _content(
    kind: str, attributes: Attributes, keys: Sequence[str], reference: Attributes | None = None
) -> bytes:
    # Readers count on the keys: what an instance lacks is there, and empty.
    own = {tag: attributes.get(tag) or {"vr": public_vr(int(tag, 16))} for tag in keys}
    record: dict[str, Any] = {
        "00041430": {"vr": "CS", "Value": [kind]},
        **(reference or {}),
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        **own,
    }
    written = bytearray()
    DataSetWriter(written.extend, _no_bulk).write(record)
    return bytes(written)


def _no_bulk(path: str, _vr: str, _uri: str) -> NoReturn:
    raise InvalidInstanceError("a key of a directory record is not kept in the index", tag=path)


def _leaf_type(sop_class_uid: str) -> str:
    for start, kind in _TYPES:
        if sop_class_uid == start or sop_class_uid.startswith(start + "."):
            return kind
    return "IMAGE"


def _first(attributes: Attributes, tag: str) -> str:
    found = attributes.get(tag, {}).get("Value") or [""]
    return str(found[0] or "")
