"""Text that is written into rendered images (PS3.18 §8.3.5.1.1)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from archive.render.attributes import Attributes, first_item, items, numbers, values
from archive.render.options import Annotation

Lines = tuple[str, ...]

_LONGEST: Final = 64
_PLANE_POSITION: Final = "00209113"
_PER_FRAME_GROUPS: Final = "52009230"


def person_name(value: object) -> str:
    """Return a person name of DICOM JSON as one line of text, "" when it is none.

    The alphabetic group, else the ideographic, else the phonetic one; its components with
    blanks between, the family name first.
    """
    if not isinstance(value, Mapping):
        return ""
    for group in ("Alphabetic", "Ideographic", "Phonetic"):
        name = value.get(group)
        if isinstance(name, str) and name.strip("^ "):
            return " ".join(part.strip() for part in name.split("^") if part.strip())
    return ""


def date_text(value: object) -> str:
    """Return a DA value as ISO 8601; what is no date, as it is."""
    text = str(value).strip()
    if len(text) == 8 and text.isdigit():
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return text


def annotation_lines(
    attributes: Attributes, frame_index: int, wanted: Sequence[Annotation]
) -> tuple[Lines, Lines]:
    """Return the lines for the upper left and the upper right corner of one frame.

    Parameters
    ----------
    frame_index
        0-based.
    wanted
        Who the patient is goes to the left, how the image was made to the right.
    """
    left = _patient(attributes) if "patient" in wanted else []
    right = _technique(attributes, frame_index) if "technique" in wanted else []
    return _cut(left), _cut(right)


def _cut(lines: list[str]) -> Lines:
    return tuple(line[:_LONGEST] for line in lines if line)


def _patient(attributes: Attributes) -> list[str]:
    born = _first(attributes, "00100030", date_text)
    return [
        _first(attributes, "00100010", person_name),
        _first(attributes, "00100020"),
        " ".join(part for part in (f"* {born}" if born else "", _first(attributes, "00100040"))
                 if part),
    ]  # fmt: skip


def _technique(attributes: Attributes, frame_index: int) -> list[str]:
    frames = _first(attributes, "00280008")
    return [
        _joined(attributes, ("00080060", "00081030")),
        _joined(attributes, ("0008103E",)),
        _first(attributes, "00080020", date_text),
        _labelled("Se", attributes, "00200011"),
        _labelled("Im", attributes, "00200013"),
        f"Fr {frame_index + 1}/{frames}" if frames.isdigit() and int(frames) > 1 else "",
        _position(attributes, frame_index),
    ]


def _position(attributes: Attributes, frame_index: int) -> str:
    frame = items(attributes, _PER_FRAME_GROUPS)[frame_index : frame_index + 1]
    source = first_item(frame[0], _PLANE_POSITION) if frame else attributes
    position = numbers(source, "00200032")
    return "Pos " + " ".join(f"{value:g}" for value in position) if position else ""


def _labelled(label: str, attributes: Attributes, tag: str) -> str:
    value = _first(attributes, tag)
    return f"{label} {value}" if value else ""


def _joined(attributes: Attributes, tags: Sequence[str]) -> str:
    return " ".join(value for tag in tags if (value := _first(attributes, tag)))


def _first(attributes: Attributes, tag: str, shown: Callable[[object], str] = str) -> str:
    found = values(attributes, tag)
    return shown(found[0]).strip() if found and found[0] is not None else ""
