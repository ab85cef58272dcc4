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
_BY_NAME: Final = {
    "GB18030": "gb18030",
    "GBK": "gbk",
    "GB2312": "gb2312",
    "UTF-8": "utf_8",
    "UTF8": "utf_8",
}
# What an escape sequence puts where (PS3.3 Tables C.12-3, C.12-4): characters of seven bits
# into G0, of eight into G1.
_G0: Final = {
    b"\x1b(B": "ascii",
    b"\x1b(J": "shift_jis",
    b"\x1b$B": "iso2022_jp",
    b"\x1b$@": "iso2022_jp",
    b"\x1b$(D": "iso2022_jp_2",
}
G1: Final = {
    b"\x1b-A": "latin_1",
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
    b"\x1b)I": "shift_jis",
    b"\x1b$)C": "euc_kr",
    b"\x1b$)A": "gb2312",
}
# Two bytes a character in G0: what looks like a delimiter there is half of one.
_TWO_BYTES: Final = {"iso2022_jp": b"\x1b$B", "iso2022_jp_2": b"\x1b$(D"}
# These fill all eight bits and know no escape sequences (PS3.3 §C.12.1.1.2).
_WITHOUT_EXTENSIONS: Final = frozenset({"utf_8", "gb18030", "gbk"})
_ESCAPE = re.compile(rb"(\x1b(?:\$\([A-Z]|\$\)[A-Z]|\$[@A-Z]|[()\-][A-Za-z]))")
_TERM = re.compile(r"ISO[ _-]?(?:2022[ _-]?)?IR[ _-]?(\d+)")
_RUNS = re.compile(rb"[\x00-\x7f]+|[\x80-\xff]+")
_NAME_DELIMITERS = re.compile(rb"[\^=\\\r\n\t\f]")
_TEXT_DELIMITERS = re.compile(rb"[\\\r\n\t\f]")
_LINE_ENDS = re.compile(rb"[\r\n\f]")


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
    first = "ascii" if codecs[0] in _TWO_BYTES else codecs[0]

    def decode(raw: bytes, is_name: bool) -> tuple[str, bool]:
        if b"\x1b" in raw and first not in _WITHOUT_EXTENSIONS:
            return _decode_extended(raw, first, is_name=is_name)
        return _decode(raw, first)

    return decode


def _decode(raw: bytes, codec: str) -> tuple[str, bool]:
    try:
        return raw.decode(codec), True
    except UnicodeDecodeError:
        pass
    if codec != "ascii":
        return raw.decode(codec, "replace"), False
    try:
        # Undeclared UTF-8 is what most bytes outside the declared set turn out to be.
        return raw.decode("utf_8"), False
    except UnicodeDecodeError:
        return raw.decode("latin_1"), False  # and what is none, Latin-1


def _decode_extended(raw: bytes, first: str, *, is_name: bool) -> tuple[str, bool]:
    """Decode text with escape sequences (PS3.5 §6.1.2.5, ISO/IEC 2022)."""
    delimiters = _NAME_DELIMITERS if is_name else _TEXT_DELIMITERS
    g0, g1 = initial = ("shift_jis" if first == "shift_jis" else "ascii", first)
    decoded: list[tuple[str, bool]] = []
    for index, part in enumerate(_ESCAPE.split(raw)):
        if index % 2:  # an escape sequence
            g0, g1 = _G0.get(part, g0), G1.get(part, g1)
            decoded.append(("", part in _G0 or part in G1))
        else:
            # A delimiter ends the reach of an escape sequence (PS3.5 §6.1.2.5.3).
            ends = _LINE_ENDS if g0 in _TWO_BYTES else delimiters
            cut = ends.search(part)
            reach = len(part) if cut is None else cut.start()
            decoded += _decode_runs(part[:reach], g0, g1)
            if cut is not None:
                g0, g1 = initial
                decoded += _decode_runs(part[reach:], g0, g1)
    return "".join(text for text, _ in decoded), all(whole for _, whole in decoded)


def _decode_runs(raw: bytes, g0: str, g1: str) -> list[tuple[str, bool]]:
    if g0 == "ascii" and g1 != "ascii":
        return [_decode(raw, g1)]  # each of these has ASCII below
    return [
        _decode(run, g1) if run[0] & 0x80 else _decode(_TWO_BYTES.get(g0, b"") + run, g0)
        for run in _RUNS.findall(raw)
    ]
