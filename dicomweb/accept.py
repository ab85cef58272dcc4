"""Media types as requests state them: one reader for Accept and Content-Type (PS3.18 §8.7).

Liberal in what is read: parameters quoted or not, in any order, with blanks or without;
unknown ones are kept and mind nobody (RFC 9110 §8.3, §12.5.1).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_CHARACTERS: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z/-]+"
_PARAMETER: Final = re.compile(
    rf";\s*(?:(?P<name>{_CHARACTERS})\s*=\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<plain>[^;,\s]*)))?\s*"
)
_ESCAPED: Final = re.compile(r"\\(.)")
_LONGEST: Final = 8192


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type or range.

    Parameters
    ----------
    name
        Lower case, e.g. ``multipart/related``; ``*`` stands for either half or both.
    parameters
        Lower-case names to values as written.
    quality
        Weight, 0 to 1.
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    quality: float = 1.0

    @property
    def part_type(self) -> str:
        """The ``type`` parameter, lower case, without parameters of its own."""
        return self.parameters.get("type", "").partition(";")[0].strip().lower()

    @property
    def transfer_syntax(self) -> str:
        """The ``transfer-syntax`` parameter, "" when there is none."""
        return self.parameters.get("transfer-syntax", "").strip()

    def covers(self, name: str) -> bool:
        """Tell whether ``name`` is in this range."""
        mine, _, sub = self.name.partition("/")
        kind, _, theirs = name.partition("/")
        return mine in ("*", kind) and sub in ("*", theirs)


def parse_media_type(text: str) -> MediaType:
    """Read one media type; what cannot be read has the name ``""``."""
    return _parse(text[:_LONGEST], 0)[0]


def parse_accept(headers: Iterable[str]) -> list[MediaType]:
    """Read Accept headers; most wanted first, what is refused (``q=0``) left out.

    No header, or an empty one, accepts everything.
    """
    text = ",".join(headers)[:_LONGEST]
    ranges: list[MediaType] = []
    position = 0
    while position < len(text):
        media_type, position = _parse(text, position)
        if media_type.name:
            ranges.append(media_type)
        position = max(text.find(",", position), position)
        if position < len(text) and text[position] != ",":
            break
        position += 1
    if not ranges:
        return [MediaType("*/*")]
    wanted = [media_type for media_type in ranges if media_type.quality > 0]
    return sorted(wanted, key=lambda media_type: -media_type.quality)


def _parse(text: str, start: int) -> tuple[MediaType, int]:
    name = re.compile(rf"\s*({_CHARACTERS})?\s*").match(text, start)
    position = name.end() if name else start
    parameters: dict[str, str] = {}
    while (match := _PARAMETER.match(text, position)) is not None:
        position = match.end()
        if match["name"]:
            quoted = match["quoted"]
            value = match["plain"] if quoted is None else _ESCAPED.sub(r"\1", quoted)
            parameters.setdefault(match["name"].lower(), value or "")
    found = (name[1] if name and name[1] else "").lower()
    if "/" not in found:
        found = "*/*" if found == "*" else ""
    quality = _quality(parameters.pop("q", "1"))
    return MediaType(found, parameters, quality), position


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 1.0
