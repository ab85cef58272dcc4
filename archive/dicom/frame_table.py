"""Where every frame of an instance lies, in a form the index keeps (PS3.5 §A.4, §8.1.1)."""

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from archive.dicom.compression import compress, decompress

Span = tuple[int, int]
_HEADER: Final = struct.Struct("<BBIQQ")
_COMPRESS_FROM_BYTES: Final = 512


class FrameKind(IntEnum):
    """How frames lie in the object."""

    NATIVE = 0
    ENCAPSULATED = 1


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Offsets and lengths of frames, in bytes from the start of the object.

    Parameters
    ----------
    kind
        Native frames follow each other and are computed; encapsulated ones are listed.
    number_of_frames
        How many there are.
    start
        Native: where the first begins.
    frame_bits
        Native: how many bits each takes.
    inflated
        Offsets count in the inflated data set of a deflated object (PS3.5 §A.5).
    offsets, lengths
        Encapsulated: each fragment, in order.
    firsts
        Encapsulated: index of each frame's first fragment, and their number at the end; empty
        when every frame has one fragment.
    """

    kind: FrameKind
    number_of_frames: int
    start: int = 0
    frame_bits: int = 0
    inflated: bool = False
    offsets: Sequence[int] = ()
    lengths: Sequence[int] = ()
    firsts: Sequence[int] = ()

    @classmethod
    def native(
        cls, *, start: int, frame_bits: int, number_of_frames: int, inflated: bool
    ) -> Self:
        """Make the table of frames that lie one behind the other."""
        return cls(FrameKind.NATIVE, number_of_frames, start, frame_bits, inflated)

    @classmethod
    def encapsulated(cls, fragments: Sequence[Span], firsts: Sequence[int]) -> Self:
        """Make the table of fragments, of which ``firsts`` begin a frame each."""
        single = list(firsts) == list(range(len(fragments)))
        return cls(
            FrameKind.ENCAPSULATED,
            len(firsts),
            offsets=array("Q", [offset for offset, _ in fragments]),
            lengths=array("Q", [length for _, length in fragments]),
            firsts=() if single else array("I", [*firsts, len(fragments)]),
        )

    def spans(self, frame_index: int) -> tuple[Span, ...]:
        """Return where a frame lies, its fragments in order.

        Parameters
        ----------
        frame_index
            0-based.

        Raises
        ------
        IndexError
            If there is no such frame.
        """
        if not 0 <= frame_index < self.number_of_frames:
            raise IndexError(f"no frame {frame_index} of {self.number_of_frames}")
        if self.kind is FrameKind.NATIVE:
            first_bit = frame_index * self.frame_bits
            first = first_bit // 8
            end = -(-(first_bit + self.frame_bits) // 8)
            return ((self.start + first, end - first),)
        if not self.firsts:
            return ((self.offsets[frame_index], self.lengths[frame_index]),)
        fragments = range(self.firsts[frame_index], self.firsts[frame_index + 1])
        return tuple((self.offsets[n], self.lengths[n]) for n in fragments)

    def bit_offset(self, frame_index: int) -> int:
        """Return how many bits of a frame's first byte belong to the frame before it.

        Only 1-bit native frames may begin inside a byte (PS3.5 §8.1.1); else 0.
        """
        return frame_index * self.frame_bits % 8 if self.kind is FrameKind.NATIVE else 0

    def encode(self) -> bytes:
        """Return what `decode` reads: 22 bytes for native frames, a few a fragment else."""
        header = _HEADER.pack(
            self.kind,
            self.inflated | (bool(self.firsts) << 1),
            self.number_of_frames,
            self.start,
            self.frame_bits,
        )
        if self.kind is FrameKind.NATIVE:
            return header
        body = (
            struct.pack("<I", len(self.offsets))
            + _little_endian("Q", self.offsets)
            + _little_endian("Q", self.lengths)
            + _little_endian("I", self.firsts)
        )
        if len(body) < _COMPRESS_FROM_BYTES:
            return header + b"\0" + body
        return header + b"\1" + compress(body)

    @classmethod
    def decode(cls, encoded: bytes) -> Self:
        """Read what `encode` wrote."""
        kind, flags, number_of_frames, start, frame_bits = _HEADER.unpack_from(encoded)
        if kind == FrameKind.NATIVE:
            return cls(FrameKind.NATIVE, number_of_frames, start, frame_bits, bool(flags & 1))
        body = encoded[_HEADER.size + 1 :]
        if encoded[_HEADER.size]:
            body = decompress(body)
        (count,) = struct.unpack_from("<I", body)
        lengths_at = 4 + 8 * count
        firsts_at = lengths_at + 8 * count
        return cls(
            FrameKind.ENCAPSULATED,
            number_of_frames,
            inflated=bool(flags & 1),
            offsets=_from_little_endian("Q", body[4:lengths_at]),
            lengths=_from_little_endian("Q", body[lengths_at:firsts_at]),
            firsts=_from_little_endian("I", body[firsts_at:]) if flags & 2 else (),
        )


def _little_endian(code: str, values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}{code}", *values)


def _from_little_endian(code: str, raw: bytes) -> Sequence[int]:
    return array(code, struct.unpack(f"<{len(raw) // struct.calcsize('<' + code)}{code}", raw))
