"""Which representation of frames and instances answers an Accept (PS3.18 §8.7)."""

from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from archive.dicom.transfer_syntax import (
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    TransferSyntax,
    transfer_syntax,
)
from archive.errors import NotAcceptableError
from dicomweb.accept import MediaType, parse_accept

DICOM: Final = "application/dicom"
OCTETS: Final = "application/octet-stream"
MULTIPART: Final = "multipart/related"
# What browsers' decoders read: sent as stored to whoever does not say what they want.
_VIEWER_SAFE: Final = frozenset(
    EXPLICIT_LITTLE_ENDIAN[:-1] + arc
    for arc in [
        "1",
        "5",
        "4.50",
        "4.51",
        "4.57",
        "4.70",
        "4.80",
        "4.81",
        "4.90",
        "4.91",
        "4.201",
        "4.202",
        "4.203",
    ]
)
# Two names are in use for RLE, and for JPEG-LS and JPEG 2000 their older ones.
_ALIASES: Final = {
    "image/x-dicom-rle": "image/dicom-rle",
    "image/x-jls": "image/jls",
    "image/jpx": "image/jp2",
}
# Frames of these are sent in explicit little endian: the bytes differ only for big endian.
NATIVE_AS_STORED: Final = frozenset({EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN})


@dataclass(frozen=True, slots=True)
class Choice:
    """How to answer.

    Parameters
    ----------
    multipart
        Parts, rather than one body.
    transfer_syntax_uid
        Of the answer; "*" for whatever each instance is stored in.
    """

    multipart: bool
    transfer_syntax_uid: str


def accepted(request: Request) -> list[MediaType]:
    """Return what is accepted, most wanted first; ``accept=`` wins over the header."""
    wanted = request.query_params.getlist("accept")
    return parse_accept(wanted or request.headers.getlist("accept"))


def choose_instances(request: Request, *, single_allowed: bool) -> Choice:
    """Choose for instances (PS3.18 §8.7.4, Table 10.4.4-1).

    Raises
    ------
    NotAcceptableError
        If nothing that is accepted can be made.
    """
    for wanted in accepted(request):
        syntax = wanted.transfer_syntax or EXPLICIT_LITTLE_ENDIAN
        if wanted.covers(MULTIPART) and wanted.part_type in ("", DICOM, "*/*", "application/*"):
            return Choice(multipart=True, transfer_syntax_uid=syntax)
        if wanted.name == DICOM and single_allowed:
            return Choice(multipart=False, transfer_syntax_uid=syntax)
    single = f", {DICOM}" if single_allowed else ""
    raise NotAcceptableError(
        f'available: {MULTIPART}; type="{DICOM}"{single}, each with transfer-syntax=* '
        "for instances as they are stored"
    )


def choose_frames(request: Request, stored: TransferSyntax, *, single_allowed: bool) -> Choice:
    """Choose for frames of an instance stored in ``stored`` (PS3.18 §8.7.3).

    Raises
    ------
    NotAcceptableError
        If nothing that is accepted can be made.
    """
    for wanted in accepted(request):
        multipart = wanted.covers(MULTIPART)
        kind = (
            (wanted.part_type or "*/*") if multipart and wanted.name != "*/*" else wanted.name
        )
        if not multipart and not single_allowed:
            continue
        syntax = _frame_syntax(_ALIASES.get(kind, kind), wanted.transfer_syntax, stored)
        if syntax is not None:
            return Choice(multipart=multipart, transfer_syntax_uid=syntax)
    raise NotAcceptableError(
        f"available: {MULTIPART} of {OCTETS} (explicit little endian), or "
        f"{stored.media_type}; transfer-syntax={stored.uid} as stored"
    )


def _frame_syntax(kind: str, syntax: str, stored: TransferSyntax) -> str | None:
    """Return the transfer syntax that answers one media range; None if none does."""
    as_stored = stored.uid if stored.encapsulated else EXPLICIT_LITTLE_ENDIAN
    if syntax == "*":
        return as_stored
    if kind == OCTETS:
        return syntax or EXPLICIT_LITTLE_ENDIAN
    if syntax:
        return syntax if MediaType(kind).covers(transfer_syntax(syntax).media_type) else None
    if kind in ("*/*", "application/*"):
        as_it_is = as_stored in _VIEWER_SAFE or stored.video
        return as_stored if as_it_is else EXPLICIT_LITTLE_ENDIAN
    if MediaType(kind).covers(stored.media_type) and stored.encapsulated:
        return stored.uid
    return None


def part_type(transfer_syntax_uid: str) -> str:
    """Return the Content-Type of a frame in a transfer syntax."""
    media_type = transfer_syntax(transfer_syntax_uid).media_type
    return f"{media_type}; transfer-syntax={transfer_syntax_uid}"
