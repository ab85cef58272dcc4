# ruff: noqa: E501 - rows of a table
"""The transfer syntaxes of the standard (PS3.5 §10, PS3.6 Annex A, PS3.18 §8.7.3)."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """How a data set is encoded.

    Parameters
    ----------
    encapsulated
        Pixel data lies in fragments (PS3.5 §A.4).
    video
        The fragments together are one stream, not one a frame.
    lossless
        Decoding gives back the pixels that were encoded.
    media_type
        What a frame of it is called over HTTP.
    """

    uid: str
    name: str
    implicit: bool = False
    big_endian: bool = False
    deflated: bool = False
    encapsulated: bool = False
    video: bool = False
    lossless: bool = True
    media_type: str = "application/octet-stream"


IMPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"
ENCAPSULATED_UNCOMPRESSED: Final = "1.2.840.10008.1.2.1.98"
EXPLICIT_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

_NATIVE = (
    TransferSyntax(IMPLICIT_LITTLE_ENDIAN, "Implicit VR Little Endian", implicit=True),
    TransferSyntax(EXPLICIT_LITTLE_ENDIAN, "Explicit VR Little Endian"),
    TransferSyntax(DEFLATED_LITTLE_ENDIAN, "Deflated Explicit VR Little Endian", deflated=True),
    TransferSyntax(EXPLICIT_BIG_ENDIAN, "Explicit VR Big Endian", big_endian=True),
    TransferSyntax("1.2.840.10008.1.20", "Papyrus 3 Implicit VR Little Endian", implicit=True),
)

# UID behind 1.2.840.10008.1.2., name, media type, lossless
_ENCAPSULATED = (
    ("1.98", "Encapsulated Uncompressed Explicit VR Little Endian", "application/octet-stream", True),
    ("5", "RLE Lossless", "image/dicom-rle", True),
    ("4.50", "JPEG Baseline (Process 1)", "image/jpeg", False),
    ("4.51", "JPEG Extended (Process 2 and 4)", "image/jpeg", False),
    ("4.52", "JPEG Extended (Process 3 and 5)", "image/jpeg", False),
    ("4.53", "JPEG Spectral Selection (Process 6 and 8)", "image/jpeg", False),
    ("4.54", "JPEG Spectral Selection (Process 7 and 9)", "image/jpeg", False),
    ("4.55", "JPEG Full Progression (Process 10 and 12)", "image/jpeg", False),
    ("4.56", "JPEG Full Progression (Process 11 and 13)", "image/jpeg", False),
    ("4.57", "JPEG Lossless (Process 14)", "image/jpeg", True),
    ("4.58", "JPEG Lossless (Process 15)", "image/jpeg", True),
    ("4.59", "JPEG Extended Hierarchical (Process 16 and 18)", "image/jpeg", False),
    ("4.60", "JPEG Extended Hierarchical (Process 17 and 19)", "image/jpeg", False),
    ("4.61", "JPEG Spectral Selection Hierarchical (Process 20 and 22)", "image/jpeg", False),
    ("4.62", "JPEG Spectral Selection Hierarchical (Process 21 and 23)", "image/jpeg", False),
    ("4.63", "JPEG Full Progression Hierarchical (Process 24 and 26)", "image/jpeg", False),
    ("4.64", "JPEG Full Progression Hierarchical (Process 25 and 27)", "image/jpeg", False),
    ("4.65", "JPEG Lossless Hierarchical (Process 28)", "image/jpeg", True),
    ("4.66", "JPEG Lossless Hierarchical (Process 29)", "image/jpeg", True),
    ("4.70", "JPEG Lossless, First-Order Prediction (Process 14, Selection Value 1)", "image/jpeg", True),
    ("4.80", "JPEG-LS Lossless", "image/jls", True),
    ("4.81", "JPEG-LS Near-Lossless", "image/jls", False),
    ("4.90", "JPEG 2000 Lossless", "image/jp2", True),
    ("4.91", "JPEG 2000", "image/jp2", False),
    ("4.92", "JPEG 2000 Multi-component Lossless", "image/jpx", True),
    ("4.93", "JPEG 2000 Multi-component", "image/jpx", False),
    ("4.94", "JPIP Referenced", "application/octet-stream", False),
    ("4.95", "JPIP Referenced Deflate", "application/octet-stream", False),
    ("4.110", "JPEG XL Lossless", "image/jxl", True),
    ("4.111", "JPEG XL JPEG Recompression", "image/jxl", False),
    ("4.112", "JPEG XL", "image/jxl", False),
    ("4.201", "High-Throughput JPEG 2000 Lossless", "image/jphc", True),
    ("4.202", "High-Throughput JPEG 2000 with RPCL Options Lossless", "image/jphc", True),
    ("4.203", "High-Throughput JPEG 2000", "image/jphc", False),
    ("4.204", "JPIP HTJ2K Referenced", "application/octet-stream", False),
    ("4.205", "JPIP HTJ2K Referenced Deflate", "application/octet-stream", False),
    ("6.1", "RFC 2557 MIME Encapsulation", "application/octet-stream", True),
    ("6.2", "XML Encoding", "application/octet-stream", True),
    ("8.1", "Deflated Image Frame Compression", "application/octet-stream", True),
)  # fmt: skip

_VIDEO = (
    ("4.100", "MPEG2 Main Profile / Main Level", "video/mpeg"),
    ("4.100.1", "Fragmentable MPEG2 Main Profile / Main Level", "video/mpeg"),
    ("4.101", "MPEG2 Main Profile / High Level", "video/mpeg"),
    ("4.101.1", "Fragmentable MPEG2 Main Profile / High Level", "video/mpeg"),
    ("4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1", "video/mp4"),
    ("4.102.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1", "video/mp4"),
    ("4.103", "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", "video/mp4"),
    ("4.103.1", "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", "video/mp4"),
    ("4.104", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video", "video/mp4"),
    ("4.104.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video", "video/mp4"),
    ("4.105", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", "video/mp4"),
    ("4.105.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", "video/mp4"),
    ("4.106", "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", "video/mp4"),
    ("4.106.1", "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", "video/mp4"),
    ("4.107", "HEVC/H.265 Main Profile / Level 5.1", "video/H265"),
    ("4.108", "HEVC/H.265 Main 10 Profile / Level 5.1", "video/H265"),
)  # fmt: skip

_JPIP = frozenset({"4.94", "4.95", "4.204", "4.205"})
_ROOT = "1.2.840.10008.1.2."

TRANSFER_SYNTAXES: Final[dict[str, TransferSyntax]] = {
    syntax.uid: syntax
    for syntax in (
        *_NATIVE,
        *(
            TransferSyntax(
                _ROOT + arc,
                name,
                encapsulated=arc not in _JPIP,
                # The referenced pixel data aside, these are explicit data sets, deflated or not.
                deflated=arc in {"4.95", "4.205"},
                lossless=lossless,
                media_type=media_type,
            )
            for arc, name, media_type, lossless in _ENCAPSULATED
        ),
        *(
            TransferSyntax(
                _ROOT + arc,
                name,
                encapsulated=True,
                video=True,
                lossless=False,
                media_type=media_type,
            )
            for arc, name, media_type in _VIDEO
        ),
    )
}


def transfer_syntax(uid: str) -> TransferSyntax:
    """Return the entry of ``uid``.

    One that the standard does not know is taken for explicit little endian with encapsulated
    pixel data, which is what every private one that was met is: the bytes are kept as they
    are, and nobody is promised that they can be decoded.
    """
    known = TRANSFER_SYNTAXES.get(uid)
    if known is not None:
        return known
    return TransferSyntax(uid, f"Unknown ({uid})", encapsulated=True, lossless=False)


def is_transfer_syntax(uid: str) -> bool:
    """Tell whether a UID may be a transfer syntax: a private one, or one of the standard's."""
    # Here, since who asks what can be transcoded needs no numpy, which pydicom brings along.
    from pydicom._uid_dict import UID_dictionary  # noqa: PLC0415

    known = UID_dictionary.get(uid)
    return known is None or known[1] == "Transfer Syntax"
