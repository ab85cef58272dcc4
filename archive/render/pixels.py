"""One instance with an image, ready to have its frames made into something."""

from dataclasses import dataclass
from typing import Any

from archive.dicom.frame_table import FrameTable
from archive.dicom.instance import PixelDescription
from archive.dicom.transfer_syntax import transfer_syntax
from archive.render.native import needs_no_decoder
from archive.retrieve.values import StoredInstance


@dataclass(frozen=True, slots=True)
class Pixels:
    """What a job about one of its frames is made from."""

    stored: StoredInstance
    attributes: dict[str, Any]
    table: FrameTable
    description: PixelDescription

    @property
    def needs_no_decoder(self) -> bool:
        """Whether frames are stored as samples, in whatever order."""
        return needs_no_decoder(self.stored.transfer_syntax_uid)

    @property
    def word_bytes(self) -> int:
        """What is swapped at once to make frames little endian; 1 for nothing."""
        if not transfer_syntax(self.stored.transfer_syntax_uid).big_endian:
            return 1
        in_words = self.attributes.get("7FE00010", {}).get("vr") == "OW"
        return max(self.description.bits_allocated // 8, 2 if in_words else 1)
