"""The content tree of a structured report, as rows of text (PS3.3 §C.17.3)."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from archive.identity import InstanceRef
from archive.render.annotations import date_text, person_name
from archive.render.attributes import Attributes, first_item, items, text, values
from archive.render.subject import evidence

# A report that nests deeper or is longer than any real one is cut, and says so.
_DEEPEST: Final = 40
_MOST_ITEMS: Final = 50_000
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff\ud800-\udfff]")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
_LANGUAGE_CONCEPT: Final = "121049"
# RFC 5646 has the two letters of ISO 639-1 where there are two; reports have three.
_SHORTER: Final = {
    "eng": "en",
    "deu": "de",
    "ger": "de",
    "fra": "fr",
    "fre": "fr",
    "spa": "es",
    "ita": "it",
    "por": "pt",
    "nld": "nl",
    "dut": "nl",
    "rus": "ru",
    "jpn": "ja",
    "kor": "ko",
    "zho": "zh",
    "chi": "zh",
}
_REFERENCES: Final = frozenset({"IMAGE", "COMPOSITE", "WAVEFORM"})
_FLAGS: Final = (("0040A491", "Completion"), ("0040A493", "Verification"))
_SUMMARY: Final = (
    ("00100010", "Patient"),
    ("00100020", "Patient ID"),
    ("00100030", "Birth date"),
    ("00100040", "Sex"),
    ("00080020", "Study date"),
    ("00081030", "Study"),
    ("00080050", "Accession number"),
    ("00080023", "Report date"),
    ("00080080", "Institution"),
)


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance a report refers to.

    Parameters
    ----------
    ref
        None when the report does not say in which study and series it lies.
    frames
        1-based; empty for all of it.
    """

    sop_instance_uid: str
    ref: InstanceRef | None
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ContentItem:
    """One node of the content tree.

    Parameters
    ----------
    value_type
        Value Type (0040,A040), e.g. "CONTAINER", "NUM".
    name
        Meaning of its concept name; may be empty.
    value
        As text; empty for containers.
    unit
        Of a number.
    """

    value_type: str
    name: str
    value: str = ""
    unit: str = ""
    reference: Reference | None = None
    children: tuple["ContentItem", ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A report, ready to be written in some media type.

    Parameters
    ----------
    title
        Meaning of the concept name of the root.
    language
        As in RFC 5646; empty when the report does not say.
    summary
        Names and values of what stands at its head.
    items
        What the root contains.
    is_cut
        Whether there is more than is here.
    """

    title: str
    language: str
    summary: tuple[tuple[str, str], ...]
    items: tuple[ContentItem, ...]
    is_cut: bool = False


def read_report(attributes: Attributes) -> Report:
    """Read the report that an instance's metadata holds; what cannot be read is left out."""
    reader = _Reader(evidence(attributes))
    content = reader.children(attributes, depth=0)
    title = _meaning(first_item(attributes, "0040A043"))
    return Report(
        title=title or _clean(text(attributes, "0008103E")) or "Structured report",
        language=_language(attributes),
        summary=tuple(_summary(attributes)),
        items=content,
        is_cut=reader.is_cut,
    )


def _summary(attributes: Attributes) -> Iterator[tuple[str, str]]:
    for tag, label in (*_SUMMARY, *_FLAGS):
        found = values(attributes, tag)
        if not found or found[0] in (None, ""):
            continue
        shown = person_name(found[0]) if isinstance(found[0], Mapping) else str(found[0])
        if label.endswith("date"):
            shown = date_text(shown)
        if shown:
            yield label, _clean(shown)


def _language(attributes: Attributes) -> str:
    codes = [first_item(attributes, "00080006")]
    codes += [
        first_item(child, "0040A168")
        for child in items(attributes, "0040A730")
        if text(first_item(child, "0040A043"), "00080100") == _LANGUAGE_CONCEPT
    ]
    for code in codes:
        value = text(code, "00080100")
        if _LANGUAGE.fullmatch(value):
            return _SHORTER.get(value.lower(), value)
    return ""


@dataclass(slots=True)
class _Reader:
    where: Mapping[str, InstanceRef]
    is_cut: bool = False
    count: int = field(default=0)

    def children(self, parent: Attributes, *, depth: int) -> tuple[ContentItem, ...]:
        found = items(parent, "0040A730")
        if found and depth > _DEEPEST:
            self.is_cut = True
            return ()
        read: list[ContentItem] = []
        for item in found:
            self.count += 1
            if self.count > _MOST_ITEMS:
                self.is_cut = True
                break
            read.append(self._item(item, depth))
        return tuple(read)

    def _item(self, item: Attributes, depth: int) -> ContentItem:
        kind = text(item, "0040A040").upper()
        value, unit = _value(kind, item)
        target = values(item, "0040DB73")
        if not kind and target:
            value = "see item " + ".".join(str(part) for part in target)
        return ContentItem(
            value_type=kind,
            name=_meaning(first_item(item, "0040A043")),
            value=_clean(value),
            unit=_clean(unit),
            reference=self._reference(item) if kind in _REFERENCES else None,
            children=self.children(item, depth=depth + 1),
        )

    def _reference(self, item: Attributes) -> Reference | None:
        referenced = first_item(item, "00081199")
        uid = text(referenced, "00081155")
        if not uid:
            return None
        frames = values(referenced, "00081160")
        numbers = tuple(int(frame) for frame in frames if str(frame).strip().isdigit())
        return Reference(_clean(uid), self.where.get(uid), numbers)


def _value(kind: str, item: Attributes) -> tuple[str, str]:
    if kind == "NUM":
        return _number(item)
    shown = _SHOWN.get(kind)
    return (shown(item) if shown else ""), ""


def _number(item: Attributes) -> tuple[str, str]:
    measured = first_item(item, "0040A300")
    if not measured:
        return _meaning(first_item(item, "0040A301")) or "no value", ""
    shown = ", ".join(_decimal_text(value) for value in values(measured, "0040A30A"))
    unit = first_item(measured, "004008EA")
    # Unity is no unit that anybody writes.
    name = "" if text(unit, "00080100") == "1" else _meaning(unit)
    return shown, name


def _decimal_text(value: object) -> str:
    # 128 was written, and came out of the JSON as 128.0.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _coordinates(item: Attributes) -> str:
    kind = text(item, "00700023") or text(item, "0040A130")
    points = values(item, "00700022")
    return f"{kind}, {len(points) // 2} points" if points else kind


def _time_text(value: str) -> str:
    digits = value.partition(".")[0]
    if digits.isdigit() and len(digits) in (4, 6):
        return ":".join(digits[index : index + 2] for index in range(0, len(digits), 2))
    return value


def _date_time_text(value: str) -> str:
    return f"{date_text(value[:8])} {_time_text(value[8:14])}".strip()


def _names(item: Attributes) -> str:
    return ", ".join(person_name(name) for name in values(item, "0040A123"))


def _meaning(code: Mapping[str, Any]) -> str:
    return _clean(text(code, "00080104") or text(code, "00080100"))


def _clean(value: str) -> str:
    # What XML forbids, and a carriage return that is only half of a line's end.
    return _CONTROLS.sub("", value.replace("\r\n", "\n").replace("\r", "\n")).strip()


_SHOWN: Final[dict[str, Callable[[Attributes], str]]] = {
    "TEXT": lambda item: text(item, "0040A160"),
    "CODE": lambda item: _meaning(first_item(item, "0040A168")),
    "PNAME": _names,
    "DATE": lambda item: date_text(text(item, "0040A121")),
    "TIME": lambda item: _time_text(text(item, "0040A122")),
    "DATETIME": lambda item: _date_time_text(text(item, "0040A120")),
    "UIDREF": lambda item: text(item, "0040A124"),
    "SCOORD": _coordinates,
    "SCOORD3D": _coordinates,
    "TCOORD": _coordinates,
}
