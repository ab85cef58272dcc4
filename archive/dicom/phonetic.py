"""How person names sound, for fuzzy matching (PS3.4 §C.2.2.2.1.1).

A word of a name matches a word that was asked for when it begins with it, or sounds like it by
Soundex or Metaphone; order and the component a word stands in do not matter. Names in scripts
other than Latin are compared by their beginning alone.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import jellyfish

_WORD: Final = re.compile(r"[^\s^=,.*?'\-]+")
_SHORTEST_PREFIX: Final = 2


def name_words(key: str) -> tuple[str, ...]:
    """Return the words of a name key (`archive.dicom.normalise.name_key`), wildcards aside."""
    return tuple(dict.fromkeys(_WORD.findall(key)))


@lru_cache(maxsize=65536)
def sounds(word: str) -> tuple[str, ...]:
    """Return the codes of a normalised word; none for a word that is not of Latin letters."""
    if not (word.isascii() and word.isalpha()):
        return ()
    codes = (f"s:{jellyfish.soundex(word)}", f"m:{jellyfish.metaphone(word)}")
    return tuple(code for code in codes if len(code) > 2)


def sound_terms(key: str) -> Iterable[str]:
    """Yield what the index keeps of a name key: its words and how they sound."""
    for word in name_words(key):
        yield f"w:{word}"
        yield from sounds(word)


def matches_fuzzily(asked: str, key: str) -> bool:
    """Tell whether every word of ``asked`` has a word of the name ``key`` that it may mean."""
    words = name_words(key)
    wanted = name_words(asked)
    return bool(wanted) and all(any(_alike(one, word) for word in words) for one in wanted)


def is_prefix(word: str) -> bool:
    """Tell whether a word is long enough to stand for all that begin with it."""
    return len(word) >= _SHORTEST_PREFIX or not word.isascii()


def _alike(asked: str, word: str) -> bool:
    if asked == word or (is_prefix(asked) and word.startswith(asked)):
        return True
    return not set(sounds(asked)).isdisjoint(sounds(word))
