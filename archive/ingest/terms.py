"""What the index keeps of attributes that have no column: paths and values, for searches.

They only narrow a search; the stored JSON decides. So values that are long, or many, need not
be listed: a mark says that the instance must be looked at.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from archive.dicom.normalise import term_value
from archive.dicom.phonetic import sound_terms
from archive.ingest.columns import COLUMN_TAGS
from storage.index.rows import UNLISTED, Terms

_LONGEST_VALUE: Final = 128
_MOST_VALUES: Final = 32
_MOST_ITEMS: Final = 32
_MOST_PAIRS: Final = 2000
_DEEPEST: Final = 8
_Pair = tuple[str, str]
# Where the sounds of a person name stand, so that no key can be taken for them.
SOUND_PREFIX: Final = "~"


Attributes = Mapping[str, Mapping[str, Any]]
_last = threading.local()


def terms_of(attributes: Attributes) -> Terms:
    """Return the terms of an instance, by tag.

    Most attributes of an instance are those of the one before it in the series: comparing
    them costs a fifth of working their terms out again.

    Parameters
    ----------
    attributes
        DICOM JSON of the instance (PS3.18 Annex F).
    """
    before: Attributes = getattr(_last, "attributes", {})
    terms = _terms(attributes, before, getattr(_last, "terms", {}))
    _last.attributes, _last.terms = attributes, terms
    return terms


def _terms(attributes: Attributes, before: Attributes, known: Terms) -> Terms:
    terms: dict[str, tuple[_Pair, ...]] = {}
    left = _MOST_PAIRS
    for tag, element in attributes.items():
        same = before.get(tag)
        if same is element or same == element:
            pairs = known.get(tag, ())
        elif "Value" not in element or (tag in COLUMN_TAGS and element["vr"] != "PN"):
            continue
        else:
            pairs = tuple(dict.fromkeys(_pairs(tag, element, 0)))
        if len(pairs) > left:
            pairs = ((tag, UNLISTED),)
        left -= len(pairs)
        if pairs:
            terms[tag] = pairs
    return terms


def _pairs(path: str, element: Mapping[str, Any], depth: int) -> Iterator[_Pair]:
    found = element.get("Value") or ()
    vr = element["vr"]
    if vr == "SQ":
        if len(found) > _MOST_ITEMS or depth >= _DEEPEST:
            yield path, UNLISTED
            return
        for item in found:
            for tag, inner in item.items():
                yield from _pairs(f"{path}.{tag}", inner, depth + 1)
        return
    if len(found) > _MOST_VALUES:
        yield path, UNLISTED
        return
    for value in found:
        yield from _value_pairs(path, vr, term_value(value, vr))


def _value_pairs(path: str, vr: str, text: str) -> Iterator[_Pair]:
    if not text:
        return
    if len(text) > _LONGEST_VALUE:
        yield path, UNLISTED
        return
    if path not in COLUMN_TAGS:
        yield path, text
    if vr == "PN":
        for sound in sound_terms(text):
            yield SOUND_PREFIX + path, sound
