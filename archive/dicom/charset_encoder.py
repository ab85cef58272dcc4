"""Text as characters to text as bytes, in the character set of who asked (PS3.5 §6.1)."""

import contextlib
import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from pydicom.charset import convert_encodings, encode_string

from archive.dicom.charset import G1, codec_of, decoder, is_known

# Characters, and whether they are a person name's, to bytes; raises UnicodeEncodeError when
# something would be lost.
Encoder = Callable[[str, bool], bytes]

_NAME_DELIMITERS: Final = re.compile(r"([\^=\\\r\n\t\f])")
_TEXT_DELIMITERS: Final = re.compile(r"([\\\r\n\t\f])")
# One term of these is encoded by Python's codec alone. JIS X 0201 has no codec of its own, and
# the sets of two bytes need their escape sequences.
_EXTENDED: Final = frozenset({"shift_jis", "iso2022_jp", "iso2022_jp_2", "euc_kr", "gb2312"})

_GB2312: Final = b"\x1b$)A"


@lru_cache(maxsize=256)
def encoder(terms: tuple[str, ...]) -> Encoder | None:
    """Return what encodes text under these terms of Specific Character Set.

    None when a term is unknown: text cannot be written in what is not understood.
    """
    if not is_known(terms):
        return None
    codecs = [codec_of(term) or "ascii" for term in terms] or ["ascii"]
    if len(codecs) == 1 and codecs[0] not in _EXTENDED:
        codec = codecs[0]
        return lambda text, _is_name: text.encode(codec)
    return _Extended(terms)


class _Extended:
    """Encodes with escape sequences (PS3.5 §6.1.2.5), and reads back what it has written."""

    def __init__(self, terms: tuple[str, ...]) -> None:
        self._decode = decoder(terms)
        first = codec_of(terms[0]) if terms else None
        self._back = next((escape for escape, codec in G1.items() if codec == first), b"")
        self._knows_gb2312 = "gb2312" in [codec_of(term) for term in terms[1:]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._encodings = convert_encodings(list(terms))

    def __call__(self, text: str, is_name: bool) -> bytes:
        if text.isascii():
            return text.encode("ascii")
        delimiters = _NAME_DELIMITERS if is_name else _TEXT_DELIMITERS
        # A delimiter ends the reach of an escape sequence: each part stands for itself.
        encoded = b"".join(map(self._part, delimiters.split(text)))
        if self._decode(encoded, is_name) != (text, True):
            raise UnicodeEncodeError("dicom", text, 0, len(text), "not in the character set")
        return encoded

    def _part(self, part: str) -> bytes:
        if part.isascii():
            return part.encode("ascii")
        if self._knows_gb2312:
            # pydicom leaves this one escape sequence to a codec that does not write it.
            with contextlib.suppress(UnicodeEncodeError):
                return _GB2312 + part.encode("gb2312")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encoded = bytes(encode_string(part, self._encodings))
        # The first set shall be active again before a delimiter (§6.1.2.5.3): readers there are
        # that do not know it is.
        return encoded + self._back if encoded.startswith(b"\x1b-") else encoded
