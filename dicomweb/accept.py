"""Media types as requests state them: one reader for Accept and Content-Type (PS3.18 §8.7).

Liberal in what is read: parameters quoted or not, in any order, with blanks or without;
unknown ones are kept and mind nobody (RFC 9110 §8.3, §12.5.1). The time a text takes grows
with its length and no faster, whatever it holds.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import Final

_NAME: Final = re.compile(r"[!#$%&'+.^_`|~0-9a-z-]+/[!#$%&'+.^_`|~0-9a-z-]+|"
                          r"[!#$%&'+.^_`|~0-9a-z-]+/\*|\*/\*")  # fmt: skip
# A quoted string that is never closed goes on to the end: nothing is looked at twice.
_PIECE: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[^",;]+|.', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_QUALITY: Final = re.compile(r"\d{0,9}\.?\d{0,9}")
_SYNTAXES: Final = re.compile(r"[\s,\\]+")
_LONGEST: Final = 16384
_REMEMBERED: Final = 512
_MOST_RANGES: Final = 64


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type or range.

    Parameters
    ----------
    name
        Lower case, e.g. ``multipart/related``; ``*`` stands for either half or both.
    parameters
        Lower-case names to values as written; several ``transfer-syntax`` are joined by commas.
    quality
        Weight, 0 to 1.
    refused
        Ranges of the same header with weight 0, which take out of this one what they name.
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    quality: float = 1.0
    refused: tuple["MediaType", ...] = ()

    @property
    def part_type(self) -> str:
        """The ``type`` parameter, lower case, without parameters of its own."""
        return self.parameters.get("type", "").partition(";")[0].strip().lower()

    @property
    def transfer_syntaxes(self) -> tuple[str, ...]:
        """The ``transfer-syntax`` parameters, in order."""
        text = self.parameters.get("transfer-syntax", "")
        return tuple(uid for uid in _SYNTAXES.split(text) if uid)

    @property
    def transfer_syntax(self) -> str:
        """The first ``transfer-syntax`` parameter, "" when there is none."""
        return next(iter(self.transfer_syntaxes), "")

    @property
    def precision(self) -> tuple[int, int, int]:
        """How much it says: greater is more specific (RFC 9110 §12.5.1)."""
        part = _name_precision(self.part_type) if self.part_type else 0
        return _name_precision(self.name), part, len(self.transfer_syntaxes)

    def covers(self, name: str, part_type: str = "", transfer_syntax: str = "") -> bool:
        """Tell whether a representation is in this range, and not refused beside it.

        Parameters
        ----------
        name
            Its media type.
        part_type, transfer_syntax
            Of its parts, and its encoding, where refusals may name them.
        """
        if not _within(self.name, name):
            return False
        return not any(
            refusal.precision >= self.precision
            and refusal.takes_out(name, part_type, transfer_syntax)
            for refusal in self.refused
        )

    def takes_out(self, name: str, part_type: str, transfer_syntax: str) -> bool:
        """Tell whether this range, taken by itself, names that representation."""
        if not _within(self.name, name):
            return False
        if self.part_type and not (part_type and _within(self.part_type, part_type)):
            return False
        syntaxes = self.transfer_syntaxes
        return not syntaxes or "*" in syntaxes or transfer_syntax in syntaxes


def _within(range_: str, name: str) -> bool:
    mine, _, sub = range_.partition("/")
    kind, _, theirs = name.partition("/")
    return mine in ("*", kind) and sub in ("*", theirs)


def _name_precision(name: str) -> int:
    return 0 if name == "*/*" else 1 if name.endswith("/*") else 2


def parse_media_type(text: str) -> MediaType:
    """Read one media type; what cannot be read has the name ``""``."""
    return _media_type(next(_divided(text[:_LONGEST]), []))


def parse_accept(headers: Iterable[str]) -> list[MediaType]:
    """Read Accept headers: most wanted first, and at the same weight the more specific.

    What is refused (``q=0``) is left out, and out of what remains. No header, an empty one
    or one that cannot be read accepts everything.
    """
    return read_ranges(headers) or [MediaType("*/*")]


def read_ranges(headers: Iterable[str]) -> list[MediaType]:
    """Read as `parse_accept` does, but return nothing where nothing can be read.

    When all that can be read is refused, one range without a name covers nothing.
    """
    text = ",".join(headers)[:_LONGEST]
    return list(_remembered(text) if len(text) <= _REMEMBERED else _read_ranges(text))


def _read_ranges(text: str) -> list[MediaType]:
    read = (range_ for pieces in _divided(text) if (range_ := _media_type(pieces)).name)
    ranges = list(islice(read, _MOST_RANGES))
    refused = tuple(range_ for range_ in ranges if range_.quality == 0)
    wanted = [replace(range_, refused=refused) for range_ in ranges if range_.quality > 0]
    if ranges and not wanted:
        return [MediaType("")]
    return sorted(wanted, key=lambda range_: (-range_.quality, -_name_precision(range_.name)))


# Each program asks with the same few headers, again and again.
_remembered = lru_cache(maxsize=256)(_read_ranges)


def _divided(text: str) -> Iterator[list[str]]:
    """Yield the media types of a list, each as its name and its parameters."""
    pieces = [""]
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece == ",":
            yield pieces
            pieces = [""]
        elif piece == ";":
            pieces.append("")
        else:
            pieces[-1] += piece
    yield pieces


def _media_type(pieces: list[str]) -> MediaType:
    if not pieces:
        return MediaType("")
    name = pieces[0].strip().lower()
    name = "*/*" if name == "*" else name
    if _NAME.fullmatch(name) is None:
        return MediaType("")
    parameters: dict[str, str] = {}
    for piece in pieces[1:]:
        key, _, value = piece.partition("=")
        if key.strip():
            _add(parameters, key.strip().lower(), _unquoted(value.strip()))
    quality = _quality(parameters.pop("q", "1"))
    if ";" in parameters.get("type", ""):
        # Some put the parameters of the parts inside the quotes of the type.
        for key, value in parse_media_type(parameters["type"]).parameters.items():
            parameters.setdefault(key, value)
    return MediaType(name, parameters, quality)


def _add(parameters: dict[str, str], name: str, value: str) -> None:
    if name == "transfer-syntax" and name in parameters:
        parameters[name] += f",{value}"
    else:
        parameters.setdefault(name, value)


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    return _ESCAPED.sub(r"\1", value[1:-1] if value.endswith('"') else value[1:]).strip()


def _quality(text: str) -> float:
    if _QUALITY.fullmatch(text) is None or text in ("", "."):
        return 1.0
    return min(float(text), 1.0)
