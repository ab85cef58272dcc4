"""What was read a moment ago: most elements of an instance are those of the one before it.

An element whose bytes were read before, under the same character set, byte order and kind of
VR, comes to the same JSON, which is then shared: nothing may change it afterwards. Nothing is
remembered that raised a warning, that refers to bytes of its instance, or that is large.
"""

from functools import lru_cache
from typing import Final

from archive.dicom.charset import Decoder
from archive.dicom.instance import Attribute
from archive.dicom.part10 import Buffer

LONGEST_ELEMENT: Final = 72
_LONGEST_SEQUENCE: Final = 8192
_MOST_ELEMENTS: Final = 4096
_MOST_SEQUENCES: Final = 512
_VARIANTS: Final = 4


class Memory:
    """Elements of one kind of data set that were read before."""

    def __init__(self) -> None:
        self.elements: dict[bytes, tuple[str, Attribute]] = {}
        self._sequences: dict[int, list[tuple[bytes, Attribute]]] = {}

    def keep(self, raw: bytes, name: str, element: Attribute) -> None:
        """Remember a plain element by all its bytes, header first."""
        if len(self.elements) >= _MOST_ELEMENTS:
            self.elements.clear()
        self.elements[raw] = (name, element)

    def sequence(self, tag: int, buffer: Buffer, at: int) -> tuple[int, Attribute] | None:
        """Return the length and the JSON of a sequence that stands at ``at`` and is known."""
        for raw, element in self._sequences.get(tag, ()):
            # A view would be compared item by item.
            if bytes(buffer[at : at + len(raw)]) == raw:
                return len(raw), element
        return None

    def keep_sequence(self, tag: int, raw: bytes, element: Attribute) -> None:
        """Remember a sequence by all its bytes; the few latest of each attribute are kept."""
        if len(raw) > _LONGEST_SEQUENCE:
            return
        if len(self._sequences) >= _MOST_SEQUENCES:
            self._sequences.clear()
        latest = self._sequences.get(tag, [])[: _VARIANTS - 1]
        self._sequences[tag] = [(raw, element), *latest]


@lru_cache(maxsize=32)
def memory_of(_decode: Decoder, _order: str, _implicit: bool, _signed: bool) -> Memory:
    """Return the one memory of all data sets that are read alike."""
    return Memory()
