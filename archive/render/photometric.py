"""What colour space decoded pixels are in (PS3.3 §C.7.6.3.1.2, PS3.5 §8.2)."""

from typing import Final

from archive.dicom.instance import PixelDescription

_JPEG_XL: Final = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112))
# Decoders of JPEG 2000 undo its own transforms, those of JPEG interpolate the chroma.
_DECODED: Final = {
    "YBR_RCT": "RGB",
    "YBR_ICT": "RGB",
    "YBR_FULL_422": "YBR_FULL",
    "YBR_PARTIAL_422": "YBR_FULL",
    "YBR_PARTIAL_420": "YBR_FULL",
}


def decoded_photometric(transfer_syntax_uid: str, description: PixelDescription) -> str:
    """Return the Photometric Interpretation of one sample a pixel and component.

    Parameters
    ----------
    transfer_syntax_uid
        How the frames are stored.
    description
        What the data set says of them.
    """
    if transfer_syntax_uid in _JPEG_XL and description.samples_per_pixel == 3:
        return "RGB"
    stored = description.photometric_interpretation
    return _DECODED.get(stored, stored)
