"""The one door by which stored bytes leave, whichever protocol asks."""

import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Any, Final

import orjson

from archive.auth.principal import Principal, Right
from archive.dicom.bulk_table import BulkTable
from archive.dicom.compression import decompress
from archive.dicom.frame_table import FrameTable, Span
from archive.dicom.instance import BulkValue
from archive.dicom.transfer_syntax import transfer_syntax
from archive.dicom.values import WORD_BYTES
from archive.errors import ForbiddenError, NotFoundError, storage_translated
from archive.identity import InstanceRef, ResourceRef, SeriesRef, StudyRef
from archive.retrieve.listing import Listing
from archive.retrieve.reading import CHUNK_BYTES, OpenInstance, clip, cut, iter_spans, swapped
from archive.retrieve.values import (
    DescribedInstance,
    ResourceState,
    StoredBulk,
    StoredFrame,
    StoredInstance,
)
from storage.index.rows import InstanceDetail
from storage.index.selection import InstanceReader, Target
from storage.index.standing import StandingReader
from storage.objects.base import Buffer, ObjectStore

PIXEL_DATA: Final = frozenset({"7FE00010", "7FE00008", "7FE00009"})
_MOST_AT_ONCE_BYTES: Final = 1 << 20
_OCTETS: Final = "application/octet-stream"
_DOCUMENT: Final = "00420011"
_DOCUMENT_TYPE: Final = "00420012"
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")
_URI_KEY: Final = b'"BulkDataURI":"'
_EXPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"


class RetrieveService:
    """Finds stored instances and reads their bytes; parses no object.

    Parameters
    ----------
    reader
        The index.
    standing
        Tells which instances stand for others.
    objects
        Where the bytes lie.
    """

    def __init__(
        self, reader: InstanceReader, standing: StandingReader, objects: ObjectStore
    ) -> None:
        self._reader = reader
        self._standing = standing
        self._objects = objects
        # Scrolling through a multi-frame instance asks for the same rows again and again.
        self._table = lru_cache(maxsize=256)(FrameTable.decode)

    # -- instances -------------------------------------------------------------------------

    def instances(
        self, principal: Principal, refs: Iterable[ResourceRef]
    ) -> Iterator[StoredInstance]:
        """Yield what may be seen of ``refs``, by study, series and instance number."""
        _require_read(principal)
        targets = [_target(ref) for ref in refs]
        found = self._reader.iter_instances(principal.scope, targets)
        with storage_translated():
            yield from found

    def listing(self, principal: Principal, refs: Iterable[ResourceRef]) -> Listing:
        """Return what may be seen of ``refs``, in the same order, to be sent one by one."""
        _require_read(principal)
        targets = [_target(ref) for ref in refs]
        with storage_translated():
            entries = self._reader.listed(principal.scope, targets)
        return Listing(entries, partial(self._reader.by_keys, principal.scope))

    def instance(self, principal: Principal, ref: InstanceRef) -> StoredInstance:
        """Return one instance.

        Raises
        ------
        NotFoundError
            If there is none that ``principal`` may see.
        """
        _require_read(principal)
        with storage_translated():
            found = self._reader.find_instance(principal.scope, _target(ref))
        if found is None:
            raise _not_found(ref)
        return found

    def standing(
        self, principal: Principal, ref: StudyRef | SeriesRef
    ) -> list[tuple[InstanceRef, bool]]:
        """Return the first instance of each series of ``ref``, and the one in its middle.

        Returns
        -------
        list of tuple
            An instance and whether it is the middle one, by series; one that is both comes
            once.

        Raises
        ------
        NotFoundError
            If there is nothing to see.
        """
        _require_read(principal)
        with storage_translated():
            found = self._standing.standing(principal.scope, _target(ref))
        if not found:
            raise _not_found(ref)
        return [(InstanceRef(*uids), is_middle) for uids, is_middle in found]

    def read(self, stored: StoredInstance, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes of the object from ``offset``."""
        with storage_translated():
            return self._objects.read(stored.object_key, offset, length)

    def iter_chunks(
        self,
        stored: StoredInstance,
        *,
        offset: int = 0,
        length: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> Generator[bytes, None, None]:
        """Yield the object, or a part of it, in pieces of ``chunk_bytes``."""
        size = stored.size_bytes - offset if length is None else length
        with storage_translated():
            yield from self._objects.iter_chunks(stored.object_key, offset, size, chunk_bytes)

    def read_now(self, stored: StoredInstance, spans: Sequence[Span]) -> Buffer | None:
        """Return the bytes of ``spans``, joined, where they are in memory; else None.

        Few enough to be worth it: beyond a megabyte there is nothing to gain.
        """
        if sum(length for _, length in spans) > _MOST_AT_ONCE_BYTES:
            return None
        pieces = []
        with storage_translated():
            for offset, length in spans:
                piece = self._objects.read_now(stored.object_key, offset, length)
                if piece is None:
                    return None
                pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def opened(self, stored: StoredInstance) -> OpenInstance:
        """Open the object, to be read into memory of the caller's."""
        return OpenInstance(self._objects, stored)

    def path_of(self, stored: StoredInstance) -> str | None:
        """Return the path of the file that holds the object, where it is one."""
        return self._objects.local_path(stored.object_key)

    # -- metadata --------------------------------------------------------------------------

    def metadata(
        self, principal: Principal, ref: ResourceRef, *, base_url: str
    ) -> Iterator[bytes]:
        """Yield the DICOM JSON of each instance (PS3.18 §10.4.1.1.2), as ingest wrote it.

        Parameters
        ----------
        base_url
            Root of the studies service, without a slash at its end; BulkDataURIs begin there.

        Raises
        ------
        NotFoundError
            Before anything is yielded, if there is nothing to see.
        """
        _require_read(principal)
        found = self._reader.iter_metadata(principal.scope, [_target(ref)])
        with storage_translated():
            first = next(found, None)
        if first is None:
            raise _not_found(ref)
        return _spliced(first, found, base_url)

    def attributes(self, principal: Principal, ref: InstanceRef) -> dict[str, Any]:
        """Return the DICOM JSON of one instance as objects; bulk values are left out of it."""
        _, detail = self._find(principal, ref)
        attributes: dict[str, Any] = orjson.loads(decompress(detail.metadata))
        return attributes

    def described(self, principal: Principal, ref: InstanceRef) -> DescribedInstance:
        """Return an instance, its DICOM JSON and its frame table: what rendering needs.

        Raises
        ------
        NotFoundError
            If there is none to see.
        """
        stored, detail = self._find(principal, ref)
        table = self._table(detail.frames) if detail.frames else None
        return DescribedInstance(stored, detail.metadata, table)

    def state(self, principal: Principal, ref: ResourceRef) -> ResourceState:
        """Return what tells one state of ``ref`` from another.

        Raises
        ------
        NotFoundError
            If there is nothing to see.
        """
        _require_read(principal)
        with storage_translated():
            found = self._reader.last_change(principal.scope, _target(ref))
        if found is None:
            raise _not_found(ref)
        return ResourceState(*found)

    # -- frames ----------------------------------------------------------------------------

    def frames(
        self, principal: Principal, ref: InstanceRef, frame_numbers: Sequence[int]
    ) -> tuple[StoredInstance, list[StoredFrame]]:
        """Locate frames, in the order asked (PS3.18 §10.4.1.1.6).

        Raises
        ------
        NotFoundError
            If the instance has no such frame, or no frames.
        """
        _require_read(principal)
        with storage_translated():
            found = self._reader.find_frames(principal.scope, _target(ref))
        if found is None:
            raise _not_found(ref)
        stored, frames = found
        if not frames:
            raise NotFoundError(
                f"instance {ref.sop_instance_uid} has no frames that could be told apart"
            )
        table = self._table(frames)
        return stored, [stored_frame(table, number) for number in frame_numbers]

    def frame_chunks(
        self,
        stored: StoredInstance,
        frame: StoredFrame,
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> Iterator[bytes]:
        """Yield a frame's bytes, or a part of them, in pieces, from the byte it begins in."""
        spans = frame.spans
        if offset or length is not None:
            spans = tuple(clip(spans, offset, frame.length_bytes if length is None else length))
        with storage_translated():
            yield from iter_spans(self._objects, stored, spans, inflated=frame.inflated)

    # -- bulk data -------------------------------------------------------------------------

    def bulk_data(self, principal: Principal, ref: InstanceRef, path: str) -> StoredBulk:
        """Locate a bulk value by the path its BulkDataURI ends in (PS3.18 §10.4.1.1.5).

        Raises
        ------
        NotFoundError
            If no value was left out of the metadata under that path.
        """
        stored, detail = self._find(principal, ref)
        table = BulkTable.decode(detail.bulk)
        value = table.values.get(path.upper())
        if value is None:
            raise NotFoundError(f"instance {ref.sop_instance_uid} has no bulk data {path!r}")
        return self._bulk(stored, detail, value, inflated=table.inflated)

    def bulk_values(
        self, principal: Principal, ref: ResourceRef, *, pixels_only: bool = False
    ) -> Iterator[StoredBulk]:
        """Yield the bulk values of all instances of ``ref`` (PS3.18 §10.4.1.1.5).

        Parameters
        ----------
        pixels_only
            Leave out what is no pixel data.

        Raises
        ------
        NotFoundError
            Before anything is yielded, if there is nothing to see.
        """
        _require_read(principal)
        found = self._reader.iter_details(principal.scope, [_target(ref)])
        with storage_translated():
            first = next(found, None)
        if first is None:
            raise _not_found(ref)
        return self._bulk_of(chain((first,), found), pixels_only=pixels_only)

    def bulk_chunks(
        self, bulk: StoredBulk, *, offset: int = 0, length: int | None = None
    ) -> Iterator[bytes]:
        """Yield a bulk value, or a part of it, in pieces and in little endian order."""
        wanted = bulk.length_bytes - offset if length is None else length
        skipped = offset % bulk.word_bytes
        spans = clip(bulk.spans, offset - skipped, _whole_words(bulk, skipped + wanted))
        with storage_translated():
            chunks = iter_spans(self._objects, bulk.stored, spans, inflated=bulk.inflated)
            if bulk.word_bytes == 1:
                yield from chunks
            else:
                yield from cut(swapped(chunks, bulk.word_bytes), skipped, wanted)

    def _bulk_of(
        self, found: Iterable[tuple[StoredInstance, InstanceDetail]], *, pixels_only: bool
    ) -> Iterator[StoredBulk]:
        with storage_translated():
            for stored, detail in found:
                table = BulkTable.decode(detail.bulk)
                for value in table.values.values():
                    if not pixels_only or value.path in PIXEL_DATA:
                        yield self._bulk(stored, detail, value, inflated=table.inflated)

    def _bulk(
        self,
        stored: StoredInstance,
        detail: InstanceDetail,
        value: BulkValue,
        *,
        inflated: bool,
    ) -> StoredBulk:
        syntax = transfer_syntax(stored.transfer_syntax_uid)
        spans: tuple[Span, ...] = ((value.offset, value.length),)
        if value.path in PIXEL_DATA and syntax.encapsulated:
            count = 0
            if detail.frames:
                frames = self._table(detail.frames)
                count = frames.number_of_frames
                spans = tuple(span for index in range(count) for span in frames.spans(index))
            return StoredBulk(
                stored,
                value.path,
                value.vr,
                spans,
                syntax.media_type if count else _OCTETS,
                syntax.uid,
                number_of_frames=count,
            )
        words = WORD_BYTES.get(value.vr, 1) if syntax.big_endian else 1
        if words == 2 and value.path in PIXEL_DATA:
            words = _pixel_words(detail)
        return StoredBulk(
            stored,
            value.path,
            value.vr,
            spans,
            _media_type(value, detail),
            _EXPLICIT_LITTLE_ENDIAN,
            inflated,
            word_bytes=words if value.length % words == 0 else 1,
        )

    def _find(
        self, principal: Principal, ref: InstanceRef
    ) -> tuple[StoredInstance, InstanceDetail]:
        _require_read(principal)
        with storage_translated():
            found = self._reader.find(principal.scope, _target(ref))
        if found is None:
            raise _not_found(ref)
        return found


def _pixel_words(detail: InstanceDetail) -> int:
    # Writers of big endian swap pixels of 32 and 64 bits whole, words or not.
    attributes: dict[str, Any] = orjson.loads(decompress(detail.metadata))
    (bits,) = attributes.get("00280100", {}).get("Value", [16])[:1]
    return max(int(bits) // 8, 2)


def _require_read(principal: Principal) -> None:
    if Right.READ not in principal.rights:
        raise ForbiddenError(f"{principal.name} may not read here")


def _target(ref: ResourceRef) -> Target:
    match ref:
        case StudyRef():
            return Target(ref.study_instance_uid)
        case SeriesRef():
            return Target(ref.study_instance_uid, ref.series_instance_uid)
        case InstanceRef():
            return Target(ref.study_instance_uid, ref.series_instance_uid, ref.sop_instance_uid)


def _not_found(ref: ResourceRef) -> NotFoundError:
    match ref:
        case StudyRef():
            return NotFoundError(f"no study {ref.study_instance_uid}")
        case SeriesRef():
            return NotFoundError(
                f"no series {ref.series_instance_uid} in study {ref.study_instance_uid}"
            )
        case InstanceRef():
            return NotFoundError(
                f"no instance {ref.sop_instance_uid} in series {ref.series_instance_uid} "
                f"of study {ref.study_instance_uid}"
            )


def stored_frame(table: FrameTable, frame_number: int) -> StoredFrame:
    """Locate one frame of a table; NotFoundError when there is no such frame."""
    if not 1 <= frame_number <= table.number_of_frames:
        raise NotFoundError(
            f"no frame {frame_number}: the instance has frames 1 to {table.number_of_frames}"
        )
    index = frame_number - 1
    bit_offset = table.bit_offset(index)
    return StoredFrame(
        frame_number,
        table.spans(index),
        bit_offset,
        table.inflated,
        whole_bytes=not bit_offset and not table.bit_offset(index + 1),
    )


def _media_type(value: BulkValue, detail: InstanceDetail) -> str:
    """Return what a bulk value is: a document says so itself (PS3.3 §C.24.2)."""
    if value.path == _DOCUMENT:
        attributes: dict[str, Any] = orjson.loads(decompress(detail.metadata))
        named = attributes.get(_DOCUMENT_TYPE, {}).get("Value") or [""]
        if isinstance(named[0], str) and _MEDIA_TYPE.fullmatch(named[0]):
            return named[0]
    return _OCTETS


def _whole_words(bulk: StoredBulk, length: int) -> int:
    return -(-length // bulk.word_bytes) * bulk.word_bytes


def _spliced(
    first: tuple[StoredInstance, bytes],
    rest: Iterator[tuple[StoredInstance, bytes]],
    base_url: str,
) -> Iterator[bytes]:
    yield _absolute(*first, base_url)
    with storage_translated():
        for stored, metadata in rest:
            yield _absolute(stored, metadata, base_url)


def _absolute(stored: StoredInstance, metadata: bytes, base_url: str) -> bytes:
    # Ingest wrote BulkDataURIs relative to the instance. Inside a JSON string a quote is
    # escaped, so this sequence of bytes can only be the key itself.
    instance_url = (
        f"{base_url}/studies/{stored.study_instance_uid}"
        f"/series/{stored.series_instance_uid}/instances/{stored.sop_instance_uid}/"
    )
    return decompress(metadata).replace(_URI_KEY, _URI_KEY + instance_url.encode())
