"""The one door by which made pixels leave: rendered images, transcoded frames and instances."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from archive.auth.principal import Principal
from archive.dicom.frame_table import FrameTable
from archive.dicom.instance import PixelDescription
from archive.dicom.transfer_syntax import transfer_syntax
from archive.errors import InvalidInstanceError, NotAcceptableError, NotFoundError
from archive.identity import InstanceRef
from archive.render.cache import BoundedCache
from archive.render.instance import FrameSupply, TranscodedInstance, transcoded_instance
from archive.render.jobs import FrameSource, Job, RenderJob, TranscodeJob
from archive.render.options import RenderOptions
from archive.render.pool import RenderPool
from archive.render.presentation import pixel_description, presentation_from_json
from archive.render.targets import refusal
from archive.retrieve.service import RetrieveService, stored_frame
from archive.retrieve.values import StoredInstance

# What a change of the pipeline must change, so that no cache shows what it made before.
_PIPELINE_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered image.

    Parameters
    ----------
    body
        The encoded image.
    media_type
        What it is.
    etag
        Strong entity tag, without quotes: names content, frame, parameters and pipeline.
    """

    body: bytes
    media_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class _Pixels:
    """One instance, ready to have its frames made into something."""

    stored: StoredInstance
    attributes: dict[str, Any]
    table: FrameTable
    description: PixelDescription

    @property
    def in_words(self) -> bool:
        """Whether the pixel data element is OW."""
        return bool(self.attributes.get("7FE00010", {}).get("vr") == "OW")


class RenderService:
    """Renders and transcodes, in worker processes, remembering what it made.

    Parameters
    ----------
    retrieve
        Gives instances, frames and bulk data.
    pool
        Where decoders run.
    cache
        What was made before.
    """

    def __init__(
        self, retrieve: RetrieveService, pool: RenderPool, cache: BoundedCache
    ) -> None:
        self._retrieve = retrieve
        self._pool = pool
        self._cache = cache

    def render(
        self,
        principal: Principal,
        ref: InstanceRef,
        frame_number: int | None,
        options: RenderOptions,
    ) -> Rendered:
        """Render one frame (PS3.18 §10.4.1.1.3).

        Parameters
        ----------
        frame_number
            1-based; None for the one in the middle, which shows most.

        Raises
        ------
        NotFoundError
            If there is no such instance or frame.
        NotAcceptableError
            If the installed decoders cannot read it.
        """
        pixels = self._pixels(principal, ref)
        number = frame_number or (pixels.table.number_of_frames + 1) // 2
        etag = _etag(pixels.stored, number, options)

        def make() -> bytes:
            return self._made(self._render_job(principal, ref, pixels, number, options))

        return Rendered(self._cache.get_or_make(etag, make), options.media_type, etag)

    def transcoding_refusal(
        self, principal: Principal, ref: InstanceRef, transfer_syntax_uid: str
    ) -> str:
        """Return why an instance cannot be transcoded so, "" when it can (PS3.18 §8.7.3).

        Costs one row: nothing is decoded, so a broken codestream is not found here.

        Raises
        ------
        NotFoundError
            If there is no such instance.
        """
        stored = self._retrieve.instance(principal, ref)
        try:
            description = self._pixels(principal, ref).description
        except NotFoundError:
            description = None
        return refusal(stored.transfer_syntax_uid, description, transfer_syntax_uid)

    def transcode_frame(
        self,
        principal: Principal,
        ref: InstanceRef,
        frame_number: int,
        transfer_syntax_uid: str,
    ) -> bytes:
        """Return one frame in another transfer syntax (PS3.18 §8.7.3).

        Raises
        ------
        NotFoundError
            If there is no such instance or frame.
        NotAcceptableError
            If it cannot be decoded, or not encoded so.
        """
        pixels = self._pixels(principal, ref)
        _require(pixels.stored, pixels.description, transfer_syntax_uid)
        key = _etag(pixels.stored, frame_number, transfer_syntax_uid)
        return self._cache.get_or_make(
            key, lambda: self._transcode(pixels, frame_number, transfer_syntax_uid)
        )

    def transcode_instance(
        self, principal: Principal, ref: InstanceRef, transfer_syntax_uid: str
    ) -> TranscodedInstance:
        """Return a whole instance in another transfer syntax, its UIDs unchanged.

        Only one frame is in memory at a time.

        Raises
        ------
        NotAcceptableError
            If it cannot be decoded, or not encoded so.
        """
        stored = self._retrieve.instance(principal, ref)
        try:
            pixels = self._pixels(principal, ref)
        except NotFoundError:  # no image: only the encoding of the data set changes
            _require(stored, None, transfer_syntax_uid)
            supply = FrameSupply(None, 0, lambda: iter(()))
        else:
            _require(stored, pixels.description, transfer_syntax_uid)
            supply = self._supply(pixels, transfer_syntax_uid)
        path = self._retrieve.path_of(stored)
        if path is not None:
            with path.open("rb") as file:
                return transcoded_instance(file, supply, transfer_syntax_uid)
        whole = b"".join(self._retrieve.iter_chunks(stored))
        return transcoded_instance(io.BytesIO(whole), supply, transfer_syntax_uid)

    def close(self) -> None:
        """Stop the workers this service started."""
        self._pool.close()

    def _made(self, job: Job) -> bytes:
        try:
            return self._pool.submit(job)
        except InvalidInstanceError as error:
            # It was taken in as it is; that it cannot be shown is told to who wants to see it.
            raise NotAcceptableError(f"{error}; it is available as stored") from error

    def _supply(self, pixels: _Pixels, transfer_syntax_uid: str) -> FrameSupply:
        # What cannot be made is found out before the answer begins.
        first = self._transcode(pixels, 1, transfer_syntax_uid)

        def frames() -> Iterator[bytes]:
            yield first
            for number in range(2, pixels.table.number_of_frames + 1):
                yield self._transcode(pixels, number, transfer_syntax_uid)

        return FrameSupply(pixels.description, pixels.table.number_of_frames, frames)

    def _pixels(self, principal: Principal, ref: InstanceRef) -> _Pixels:
        stored, attributes, table = self._retrieve.pixels(principal, ref)
        description = pixel_description(attributes)
        if description is None:
            raise NotFoundError(
                f"instance {ref.sop_instance_uid} does not say how large its image is"
            )
        return _Pixels(stored, attributes, table, description)

    def _transcode(self, pixels: _Pixels, frame_number: int, transfer_syntax_uid: str) -> bytes:
        return self._made(
            TranscodeJob(
                source=self._source(pixels, frame_number),
                description=pixels.description,
                transfer_syntax_uid=pixels.stored.transfer_syntax_uid,
                bit_offset=pixels.table.bit_offset(frame_number - 1),
                in_words=pixels.in_words,
                target_transfer_syntax_uid=transfer_syntax_uid,
            )
        )

    def _render_job(
        self,
        principal: Principal,
        ref: InstanceRef,
        pixels: _Pixels,
        frame_number: int,
        options: RenderOptions,
    ) -> RenderJob:
        def read_bulk(path: str) -> bytes:
            bulk = self._retrieve.bulk_data(principal, ref, path)
            return b"".join(self._retrieve.bulk_chunks(bulk))

        return RenderJob(
            source=self._source(pixels, frame_number),
            description=pixels.description,
            transfer_syntax_uid=pixels.stored.transfer_syntax_uid,
            bit_offset=pixels.table.bit_offset(frame_number - 1),
            in_words=pixels.in_words,
            presentation=presentation_from_json(pixels.attributes, frame_number - 1, read_bulk),
            options=options,
        )

    def _source(self, pixels: _Pixels, frame_number: int) -> FrameSource:
        frame = stored_frame(pixels.table, frame_number)
        big_endian = transfer_syntax(pixels.stored.transfer_syntax_uid).big_endian
        if big_endian and pixels.in_words and frame.length_bytes % 2:
            # In words, the last sample of an odd frame lies in the byte behind it.
            *most, (offset, length) = frame.spans
            frame = replace(frame, spans=(*most, (offset, length + 1)))
        path = self._retrieve.path_of(pixels.stored)
        if path is not None and not frame.inflated:
            # The worker reads the bytes itself: they need not pass through this process.
            return FrameSource(path=str(path), spans=frame.spans, data=None)
        data = b"".join(self._retrieve.frame_chunks(pixels.stored, frame))
        return FrameSource(path=None, spans=(), data=data)


def _require(
    stored: StoredInstance, description: PixelDescription | None, transfer_syntax_uid: str
) -> None:
    reason = refusal(stored.transfer_syntax_uid, description, transfer_syntax_uid)
    if reason:
        raise NotAcceptableError(reason)


def _etag(stored: StoredInstance, frame_number: int, parameters: object) -> str:
    named = f"{stored.digest.hex()}/{frame_number}/{parameters!r}/{_PIPELINE_VERSION}"
    return hashlib.blake2s(named.encode(), digest_size=16).hexdigest()
