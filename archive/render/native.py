"""Frames that need no decoder: native, or only lying in fragments (PS3.5 §8.1)."""

import zlib
from collections.abc import Iterator
from typing import Final

from archive.dicom.instance import PixelDescription
from archive.dicom.transfer_syntax import transfer_syntax
from archive.dicom.values import swapped
from archive.errors import InvalidInstanceError

ENCAPSULATED_UNCOMPRESSED: Final = "1.2.840.10008.1.2.1.98"
DEFLATED_FRAME: Final = "1.2.840.10008.1.2.8.1"
SUBSAMPLED: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})
_UNDECODED: Final = frozenset({ENCAPSULATED_UNCOMPRESSED, DEFLATED_FRAME})


def needs_no_decoder(transfer_syntax_uid: str) -> bool:
    """Tell whether frames of this syntax hold samples as they are (PS3.5 §8.1.1, §8.2.16)."""
    return not transfer_syntax(transfer_syntax_uid).encapsulated or (
        transfer_syntax_uid in _UNDECODED
    )


def frame_bits(description: PixelDescription) -> int:
    """Return how many bits a native frame takes (PS3.5 §8.1.1, PS3.3 §C.7.6.3.1.2)."""
    samples = description.samples_per_pixel
    if description.photometric_interpretation in SUBSAMPLED and samples == 3:
        samples = 2  # two chroma samples serve two pixels
    return description.rows * description.columns * samples * description.bits_allocated


def little_endian_frame(
    frame: bytes,
    description: PixelDescription,
    transfer_syntax_uid: str,
    *,
    skipped_bits: int = 0,
    word_bytes: int = 1,
) -> bytes:
    """Return a frame as explicit little endian has it, from a byte's start.

    Parameters
    ----------
    frame
        What lies in the object.
    skipped_bits
        How many bits of ``frame`` come before it.
    word_bytes
        What is swapped at once, before anything is skipped; 1 for nothing.

    Raises
    ------
    InvalidInstanceError
        If it is shorter than the description says, or cannot be inflated.
    """
    wanted = frame_bits(description)
    if transfer_syntax_uid == DEFLATED_FRAME:
        frame = _inflated(frame, -(-wanted // 8))
    frame = swapped(frame, word_bytes)
    if len(frame) * 8 < skipped_bits + wanted:
        raise InvalidInstanceError(
            f"a frame of {-(-wanted // 8)} bytes is expected, {len(frame)} are there"
        )
    if not skipped_bits % 8:
        start = skipped_bits // 8
        frame = frame[start : start + -(-wanted // 8)]
        return _masked(frame, wanted % 8)
    bits = int.from_bytes(frame, "little") >> skipped_bits
    return (bits & ((1 << wanted) - 1)).to_bytes(-(-wanted // 8), "little")


def _masked(frame: bytes, last_bits: int) -> bytes:
    # The bits behind a 1-bit frame belong to the next one.
    if not last_bits:
        return frame
    return frame[:-1] + bytes([frame[-1] & ((1 << last_bits) - 1)])


def _inflated(frame: bytes, wanted: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, wanted)
    except zlib.error as error:
        raise InvalidInstanceError(f"a deflated frame cannot be inflated: {error}") from error


def joined(frames: Iterator[bytes], bits: int) -> Iterator[bytes]:
    """Yield frames as they lie in Pixel Data: one behind the other, without gaps.

    Parameters
    ----------
    frames
        Each from a byte's start.
    bits
        How many bits each has; 1-bit frames may end inside a byte (PS3.5 §8.1.1).
    """
    if not bits % 8:
        yield from frames
        return
    carried, carried_bits = 0, 0
    for frame in frames:
        value = int.from_bytes(frame, "little") & ((1 << bits) - 1)
        value = value << carried_bits | carried
        count = carried_bits + bits
        data = value.to_bytes(-(-count // 8), "little")
        yield data[: count // 8]
        carried_bits = count % 8
        carried = data[-1] if carried_bits else 0
    if carried_bits:
        yield bytes([carried])
