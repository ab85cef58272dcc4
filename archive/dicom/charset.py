"""Text as bytes to text as characters (PS3.5 §6.1, PS3.3 §C.12.1.1.2)."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

# One decoder a data set: bytes, whether "^" and "=" end an escape sequence's reach, to text
# and whether every byte could be decoded.
Decoder = Callable[[bytes, bool], tuple[str, bool]]

# What follows "ISO_IR " or "ISO 2022 IR ", and the Python codec of its characters.
_BY_NUMBER: Final = {
    "6": "ascii",
    "100": "latin_1",
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "144": "iso8859_5",
    "127": "iso8859_6",
    "126": "iso8859_7",
    "138": "iso8859_8",
    "148": "iso8859_9",
    "203": "iso8859_15",
    "13": "shift_jis",
    "166": "tis_620",
    "192": "utf_8",
    "87": "iso2022_jp",
    "159": "iso2022_jp_2",
    "149": "euc_kr",
    "58": "gb2312",
}
_BY_NAME: Final = {"GB18030": "gb18030", "GBK": "gbk", "GB2312": "gb2312"}
# Escape sequences (Tables C.12-3, C.12-4) to codecs; Python reads those of ISO-2022-JP itself.
_ESCAPES: Final = {
    b"\x1b(B": "ascii",
    b"\x1b-A": "latin_1",
    b"\x1b)I": "shift_jis",
    b"\x1b(J": "shift_jis",
    b"\x1b$B": "iso2022_jp",
    b"\x1b-B": "iso8859_2",
    b"\x1b-C": "iso8859_3",
    b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso8859_7",
    b"\x1b-G": "iso8859_6",
    b"\x1b-H": "iso8859_8",
    b"\x1b-L": "iso8859_5",
    b"\x1b-M": "iso8859_9",
    b"\x1b-b": "iso8859_15",
    b"\x1b-T": "tis_620",
    b"\x1b$(D": "iso2022_jp_2",
    b"\x1b$)C": "euc_kr",
    b"\x1b$)A": "gb2312",
}
_SELF_ESCAPING: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})
_ESCAPE = re.compile(rb"(\x1b(?:\$\([A-Z]|\$\)[A-Z]|\$[A-Z]|[()\-][A-Za-z]))")
_TERM = re.compile(r"ISO[ _-]?(?:2022[ _-]?)?IR[ _-]?(\d+)")
_NAME_DELIMITERS = re.compile(rb"[\^=\\\r\n\t\f]")
_TEXT_DELIMITERS = re.compile(rb"[\\\r\n\t\f]")


def codec_of(term: str) -> str | None:
    """Return the Python codec of a defined term, spelt as senders spell it; None if unknown."""
    spelt = term.strip().upper()
    if not spelt:
        return "ascii"
    if spelt in _BY_NAME:
        return _BY_NAME[spelt]
    match = _TERM.fullmatch(spelt)
    return _BY_NUMBER.get(match[1]) if match else None


def is_known(terms: Sequence[str]) -> bool:
    """Tell whether every term of Specific Character Set (0008,0005) is a known one."""
    return all(codec_of(term) is not None for term in terms)


@lru_cache(maxsize=256)
def decoder(terms: tuple[str, ...]) -> Decoder:
    """Return what decodes text under these terms of Specific Character Set.

    Unknown terms are passed over; without a known one the text is taken for ASCII. What a
    codec cannot decode becomes U+FFFD, and is reported.
    """
    codecs = [codec for term in terms if (codec := codec_of(term)) is not None] or ["ascii"]
    first = codecs[0]
    if first in _SELF_ESCAPING:
        first = "ascii"

    def decode(raw: bytes, is_name: bool) -> tuple[str, bool]:
        if b"\x1b" in raw:
            return _decode_escaped(raw, first, is_name=is_name)
        return _decode(raw, first)

    return decode


def _decode(raw: bytes, codec: str) -> tuple[str, bool]:
    try:
        return raw.decode(codec), True
    except UnicodeDecodeError:
        pass
    try:
        # Undeclared UTF-8 is what most bytes outside the declared set turn out to be.
        return (
            raw.decode("utf_8") if codec == "ascii" else raw.decode(codec, "replace")
        ), False
    except UnicodeDecodeError:
        return raw.decode("ascii", "replace"), False


def _decode_escaped(raw: bytes, first: str, *, is_name: bool) -> tuple[str, bool]:
    delimiters = _NAME_DELIMITERS if is_name else _TEXT_DELIMITERS
    parts = _ESCAPE.split(raw)
    text, whole = _decode(parts[0], first)
    decoded = [text]
    for escape, fragment in zip(parts[1::2], parts[2::2], strict=True):
        codec = _ESCAPES.get(escape)
        # A delimiter ends the reach of an escape sequence (PS3.5 §6.1.2.5.3).
        cut = delimiters.search(fragment) if codec != "iso2022_jp" else None
        reach = fragment if cut is None else fragment[: cut.start()]
        rest = b"" if cut is None else fragment[cut.start() :]
        for piece, its_codec in ((reach, codec or first), (rest, first)):
            prefix = escape if its_codec in _SELF_ESCAPING else b""
            text, ok = _decode(prefix + piece, its_codec)
            whole = whole and ok and codec is not None
            decoded.append(text)
    return "".join(decoded), whole
