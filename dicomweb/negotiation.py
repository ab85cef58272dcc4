"""Which representation answers an Accept (PS3.18 §8.7.8).

Each accepted range is turned into the representations that could answer it, most fitting
first; the first that can be made is the answer. At the same weight, what is sent as stored
comes before what has to be transcoded.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, groupby
from typing import Final, TypeVar

from starlette.requests import Request

from archive.dicom.transfer_syntax import (
    DEFLATED_LITTLE_ENDIAN,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
    TransferSyntax,
    transfer_syntax,
)
from archive.errors import NotAcceptableError
from dicomweb.accept import MediaType, parse_accept, read_ranges
from dicomweb.context import asker_of

DICOM: Final = "application/dicom"
OCTETS: Final = "application/octet-stream"
MULTIPART: Final = "multipart/related"
ZIP: Final = "application/zip"
AS_STORED: Final = "*"
_ROOT: Final = "1.2.840.10008.1.2."
# What browsers' decoders read: sent as stored to whoever does not say what they want.
_VIEWER_SAFE: Final = frozenset(
    _ROOT + arc
    for arc in ("1", "5", *(f"4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)))
)
# Two names are in use for RLE, and for JPEG-LS and JPEG 2000 their older ones.
_NAMES: Final = {
    "image/dicom-rle": ("image/dicom-rle", "image/x-dicom-rle"),
    "image/jls": ("image/jls", "image/x-jls"),
    "image/jp2": ("image/jp2", "image/jpx"),
    "image/jphc": ("image/jphc", "image/jph"),
    "video/mpeg": ("video/mpeg", "video/mpeg2"),
    "video/H265": ("video/h265", "video/mp4"),
}
# What a media type means that names no transfer syntax (PS3.18 Table 8.7.3-5).
_DEFAULTS: Final = {
    "image/dicom-rle": _ROOT + "5",
    "image/x-dicom-rle": _ROOT + "5",
    "image/jls": _ROOT + "4.80",
    "image/x-jls": _ROOT + "4.80",
    "image/jp2": _ROOT + "4.90",
    "image/jphc": _ROOT + "4.201",
    "image/jph": _ROOT + "4.201",
    "image/jpeg": _ROOT + "4.70",
    "image/*": _ROOT + "4.90",
}
# Shall not be used by web services (PS3.18 §8.7.3); sent only to whoever takes all that is
# stored. Frames have no data set that could be deflated.
_NEVER: Final = frozenset({IMPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN})
# Encapsulated, yet nothing but native pixels: given as those to whoever does not name them.
_NATIVE_INSIDE: Final = frozenset({_ROOT + "1.98", _ROOT + "8.1"})

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Offer:
    """One representation.

    Parameters
    ----------
    multipart
        Parts, rather than one body.
    media_type
        Of the body, or of each part.
    transfer_syntax_uid
        Of the content; "*" for what each instance is stored in, "" where there is none.
    by_default
        The asker named no transfer syntax.
    """

    multipart: bool
    media_type: str
    transfer_syntax_uid: str = ""
    by_default: bool = False

    def __str__(self) -> str:
        """Return what entity tags name it by."""
        return _text_of(self)

    @property
    def content_type(self) -> str:
        """Content-Type of a part."""
        if not self.transfer_syntax_uid:
            return self.media_type
        return f"{self.media_type}; transfer-syntax={self.transfer_syntax_uid}"


# The text of a data class is made anew each time, which takes 8 us.
_text_of: Final = lru_cache(maxsize=256)(repr)


def accepted(request: Request) -> list[MediaType]:
    """Return what is accepted, most wanted first (PS3.18 §8.7.8.1).

    The ``accept`` query parameter comes before the header, which is looked at when nothing
    of the parameter can be made. A ``transfer-syntax`` query parameter completes those media
    types that name none (§8.7.3.7).
    """
    return list(chain.from_iterable(_asked(request)))


def _asked(request: Request) -> list[list[MediaType]]:
    headers = request.headers.getlist("accept")
    # In a query string an unescaped "+" was a blank.
    asked = [
        value.replace("dicom json", "dicom+json").replace("dicom xml", "dicom+xml")
        for value in request.query_params.getlist("accept")
        if value.strip()
    ]
    if asked:
        wanted = [read_ranges(asked), read_ranges(headers) if headers else []]
    else:
        wanted = [parse_accept(headers)]
    syntaxes = request.query_params.getlist("transfer-syntax")
    if not syntaxes:
        return wanted
    more = {"transfer-syntax": ",".join(syntaxes)}
    return [
        [replace(range_, parameters=more | dict(range_.parameters)) for range_ in ranges]
        for ranges in wanted
    ]


def choose(
    request: Request,
    candidates: Callable[[MediaType], Sequence[Offer]],
    make: Callable[[Offer], Made],
    *,
    offered: Sequence[str],
    prefer: Callable[[Offer], bool] = lambda _: False,
    key: Hashable = None,
) -> Made:
    """Return what `make` makes of the first offer that it can make.

    Parameters
    ----------
    candidates
        The offers that answer one range, most fitting first.
    offered
        What is offered, for whoever wants nothing of it.
    prefer
        Whether an offer comes before others that are wanted as much.
    key
        All that ``candidates`` and ``prefer`` depend on, where that is little: then what they
        said of an Accept is remembered.

    Raises
    ------
    NotAcceptableError
        If nothing that is accepted can be made; it says what is offered.
    """
    reason = ""
    for offer in _wanted(request, candidates, prefer, key):
        try:
            return make(offer)
        except NotAcceptableError as error:
            reason = reason or f"{error}; "
    raise NotAcceptableError(f"{reason}available: {', '.join(offered)}", offered=offered)


_offers_of: Final[dict[Hashable, Sequence[Offer]]] = {}
_MOST_REMEMBERED: Final = 512
_LONGEST_REMEMBERED: Final = 512


def _wanted(
    request: Request,
    candidates: Callable[[MediaType], Sequence[Offer]],
    prefer: Callable[[Offer], bool],
    key: Hashable,
) -> Iterable[Offer]:
    accepts = asker_of(request).accepts
    simple = not request.scope["query_string"] and sum(map(len, accepts)) <= _LONGEST_REMEMBERED
    if key is None or not simple:
        return _in_order(_asked(request), candidates, prefer)
    remembered = _offers_of.get((key, accepts))
    if remembered is None:
        remembered = tuple(_in_order(_asked(request), candidates, prefer))
        if len(_offers_of) >= _MOST_REMEMBERED:
            _offers_of.clear()
        _offers_of[key, accepts] = remembered
    return remembered


def _in_order(
    asked: Sequence[Sequence[MediaType]],
    candidates: Callable[[MediaType], Sequence[Offer]],
    prefer: Callable[[Offer], bool],
) -> Iterator[Offer]:
    seen: set[Offer] = set()
    for group in chain.from_iterable(map(_as_much_wanted, asked)):
        answers = [
            offers
            for range_ in group
            if (offers := [offer for offer in candidates(range_) if _free(range_, offer)])
        ]
        answers.sort(key=lambda offers: not prefer(offers[0]))
        for offer in chain.from_iterable(answers):
            if offer not in seen:
                seen.add(offer)
                yield offer


def _as_much_wanted(ranges: Sequence[MediaType]) -> Iterator[list[MediaType]]:
    for _, group in groupby(ranges, key=lambda range_: (range_.quality, range_.precision[0])):
        yield list(group)


def _free(range_: MediaType, offer: Offer) -> bool:
    """Tell whether no refusal that says more than ``range_`` takes the offer out of it."""
    syntax = offer.transfer_syntax_uid
    return not any(
        refusal.precision >= range_.precision
        # Who refuses a media type does not want it in parts, either.
        and (
            refusal.takes_out(offer.media_type, "", syntax)
            or (offer.multipart and refusal.takes_out(MULTIPART, offer.media_type, syntax))
        )
        for refusal in range_.refused
    )


# -- instances ---------------------------------------------------------------------------------


def instance_offers(range_: MediaType, *, single_allowed: bool) -> list[Offer]:
    """Return what answers ``range_`` for a study, series or instance (PS3.18 §10.4.4).

    A single part of DICOM only answers for one instance. Parts of other media types are the
    bulk data of the resource, which is how these were asked for in the past.
    """
    by_default = not range_.transfer_syntaxes
    syntaxes = [uid for uid in range_.transfer_syntaxes if uid not in _NEVER]
    if by_default:
        syntaxes = [EXPLICIT_LITTLE_ENDIAN]
    offers: list[Offer] = []
    if _is_multipart(range_):
        kind = part_kind(range_)
        if MediaType(kind).covers(DICOM):
            offers += [Offer(True, DICOM, uid, by_default) for uid in syntaxes]
        elif not kind.startswith(("application/", "text/", "multipart/")) or kind == OCTETS:
            offers.append(Offer(True, kind))
    for name in (DICOM,) * single_allowed + (ZIP,):
        if range_.covers(name):
            offers += [Offer(False, name, uid, by_default) for uid in syntaxes]
    if range_.name == "*/*" and by_default:
        # Whoever takes anything takes what cannot be decoded, too.
        offers.append(Offer(True, DICOM, AS_STORED, by_default))
    return offers


@lru_cache(maxsize=8)
def instances_offered(*, single_allowed: bool) -> Sequence[str]:
    """Return the forms in which instances can be had."""
    forms = [f'{MULTIPART}; type="{DICOM}"', DICOM, ZIP]
    if not single_allowed:
        forms.remove(DICOM)
    syntaxes = (f"; transfer-syntax={AS_STORED}", f"; transfer-syntax={EXPLICIT_LITTLE_ENDIAN}")
    return [form + syntax for form in forms for syntax in syntaxes]


# -- frames ------------------------------------------------------------------------------------


def frame_offers(
    range_: MediaType, stored: TransferSyntax, *, single_allowed: bool
) -> list[Offer]:
    """Return what answers ``range_`` for frames stored in ``stored`` (PS3.18 §8.7.3.3)."""
    offers: list[Offer] = []
    if _is_multipart(range_):
        offers += _of_frames(part_kind(range_), range_, stored, multipart=True)
    if single_allowed and not range_.name.startswith("multipart/"):
        offers += _of_frames(range_.name, range_, stored, multipart=False)
    return offers


@lru_cache(maxsize=64)
def frames_offered(stored: TransferSyntax, *, single_allowed: bool) -> Sequence[str]:
    """Return the forms in which frames can be had."""
    forms = [Offer(True, OCTETS, EXPLICIT_LITTLE_ENDIAN)]
    if stored.encapsulated:
        forms.append(Offer(True, stored.media_type, stored.uid))
    parts = [
        f'{MULTIPART}; type="{offer.media_type}"; transfer-syntax={offer.transfer_syntax_uid}'
        for offer in forms
    ]
    return parts + [offer.content_type for offer in forms if single_allowed]


def _of_frames(
    kind: str, range_: MediaType, stored: TransferSyntax, *, multipart: bool
) -> list[Offer]:
    asked = range_.transfer_syntaxes
    found: list[tuple[str, str]] = []
    for syntax in asked or ("",):
        if syntax in ("", AS_STORED):
            found += _unnamed(kind, stored, as_stored=bool(syntax))
        elif syntax not in _NEVER and syntax != DEFLATED_LITTLE_ENDIAN:
            found += _named(kind, syntax, stored)
    return [Offer(multipart, name, uid, not asked) for name, uid in found]


def _named(kind: str, syntax: str, stored: TransferSyntax) -> list[tuple[str, str]]:
    if syntax not in TRANSFER_SYNTAXES and syntax != stored.uid:
        return []
    wanted = transfer_syntax(syntax)
    if kind in names_of(wanted):
        return [(kind, syntax)]
    # Many viewers ask for octet-stream of a compressed syntax: the part says what it is.
    general = kind == OCTETS or MediaType(kind).covers(wanted.media_type)
    return [(wanted.media_type, syntax)] if general else []


def _unnamed(kind: str, stored: TransferSyntax, *, as_stored: bool) -> list[tuple[str, str]]:
    native = (OCTETS, EXPLICIT_LITTLE_ENDIAN)
    held = native
    if stored.encapsulated and stored.uid not in _NATIVE_INSIDE:
        held = (stored.media_type, stored.uid)
    if kind == OCTETS:
        # Nothing else can be made of a video (PS3.18 §8.7.3: only lossy compressed).
        return [held] if as_stored or stored.video else [native]
    if kind == "*/*":
        safe = held[1] in _VIEWER_SAFE or stored.video or as_stored
        return [held, native] if safe else [native, held]
    found: list[tuple[str, str]] = []
    if kind in names_of(stored):
        found.append((kind, stored.uid))
    elif MediaType(kind).covers(held[0].lower()):
        found.append(held)
    if MediaType(kind).covers(OCTETS):
        found.append(native)
    if kind in _DEFAULTS:
        found.append((_media_type_of(kind), _DEFAULTS[kind]))
    return found


def _media_type_of(kind: str) -> str:
    return transfer_syntax(_DEFAULTS[kind]).media_type if kind.endswith("/*") else kind


def names_of(syntax: TransferSyntax) -> tuple[str, ...]:
    """Return the media types a frame of ``syntax`` goes by, in lower case."""
    return _NAMES.get(syntax.media_type, (syntax.media_type.lower(),))


def _is_multipart(range_: MediaType) -> bool:
    return range_.name in ("*/*", "multipart/*", MULTIPART)


def part_kind(range_: MediaType) -> str:
    """Return the range of media types that parts may have."""
    return (range_.part_type if range_.name == MULTIPART else "") or "*/*"
