"""What retrieval hands to the faces: places of bytes, never the bytes themselves."""

from dataclasses import dataclass
from datetime import datetime

from archive.dicom.compression import decompress
from archive.dicom.frame_table import FrameTable, Span
from storage.index.rows import StoredInstance

__all__ = ["DescribedInstance", "ResourceState", "StoredBulk", "StoredFrame", "StoredInstance"]


@dataclass(frozen=True, slots=True)
class DescribedInstance:
    """A stored instance with what ingest worked out for it.

    Parameters
    ----------
    metadata
        Its DICOM JSON, compressed (zstd).
    table
        Where its frames lie; None when it has none that could be told apart.
    """

    stored: StoredInstance
    metadata: bytes
    table: FrameTable | None

    def json(self) -> bytes:
        """Return its DICOM JSON; bulk values are left out of it."""
        return decompress(self.metadata)


@dataclass(frozen=True, slots=True)
class ResourceState:
    """Which state of a study, series or instance is shown.

    Parameters
    ----------
    change
        Grows whenever what is shown changes.
    modified
        When it last did; None when that is no longer known.
    """

    change: int
    modified: datetime | None


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """One frame of a stored instance, in the syntax it was stored in.

    Parameters
    ----------
    frame_number
        1-based, as on the wire (PS3.18 §10.4.1.1.6).
    spans
        Where its fragments lie: offset and length in bytes, in the object or, for a deflated
        instance, in its inflated data set.
    bit_offset
        For 1-bit native frames: how many bits of the first byte belong to the frame before.
    inflated
        Offsets count in the inflated data set (PS3.5 §A.5).
    whole_bytes
        It shares no byte with the frames beside it.
    """

    frame_number: int
    spans: tuple[Span, ...]
    bit_offset: int = 0
    inflated: bool = False
    whole_bytes: bool = True

    @property
    def length_bytes(self) -> int:
        """Length of the frame."""
        return sum(length for _, length in self.spans)


@dataclass(frozen=True, slots=True)
class StoredBulk:
    """One bulk value of a stored instance (PS3.18 §10.4.1.1.5).

    Parameters
    ----------
    vr
        Its value representation.
    spans
        Where it lies, as for `StoredFrame`; fragments of encapsulated data without their item
        headers.
    media_type
        What the bytes are.
    transfer_syntax_uid
        The syntax the bytes are in.
    number_of_frames
        For encapsulated pixel data: how many frames ``spans`` hold, 1 for a video; else 0.
    word_bytes
        Length of the words that lie in big endian order and leave in little endian; else 1.
    """

    stored: StoredInstance
    path: str
    vr: str
    spans: tuple[Span, ...]
    media_type: str
    transfer_syntax_uid: str
    inflated: bool = False
    number_of_frames: int = 0
    word_bytes: int = 1

    @property
    def length_bytes(self) -> int:
        """Length of the value."""
        return sum(length for _, length in self.spans)
