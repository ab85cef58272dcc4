"""The one door by which made pixels leave: rendered images, transcoded frames and instances."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from archive.auth.principal import Principal
from archive.dicom.part10 import read_file_meta
from archive.dicom.transfer_syntax import EXPLICIT_LITTLE_ENDIAN, transfer_syntax
from archive.errors import InvalidInstanceError, NotAcceptableError, NotFoundError
from archive.identity import InstanceRef
from archive.render.cache import BoundedCache
from archive.render.changes import changes, lossy_changes
from archive.render.instance import (
    FrameSupply,
    StoredDataSet,
    TranscodedInstance,
    transcoded_instance,
)
from archive.render.jobs import FrameSource, Job, TranscodeJob
from archive.render.native import frame_bits, little_endian_frame
from archive.render.options import RenderOptions
from archive.render.pixels import Pixels
from archive.render.pool import RenderPool
from archive.render.rendering import Makers, Rendered
from archive.render.source import inflated_view, object_view
from archive.render.subjects import Subjects
from archive.render.targets import NATIVE_TARGETS, embedded_overlay, refusal
from archive.render.views import Views
from archive.retrieve.service import RetrieveService, stored_frame
from archive.retrieve.values import StoredFrame, StoredInstance

# What a change of the pipeline must change, so that no cache shows what it made before.
_PIPELINE_VERSION: Final = 1


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
        self._subjects = Subjects(retrieve)
        makers = Makers(self._made, self._made_soon, self._source, self._is_direct)
        self._views = Views(retrieve, self._subjects, cache, makers)

    @property
    def views(self) -> Views:
        """What instances look like: rendered images, documents, reports."""
        return self._views

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
            If it has no image, or the installed decoders cannot read it.
        """
        subject = self._views.subject(principal, ref)
        numbers = [frame_number or subject.representative_frame]
        return self._views.images(principal, subject, numbers, options)[0].rendered()

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
            pixels = self._pixels(principal, ref)
        except NotFoundError:
            return refusal(stored.transfer_syntax_uid, None, transfer_syntax_uid)
        return _refusal(pixels, transfer_syntax_uid)

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
        _require(_refusal(pixels, transfer_syntax_uid))
        return self._frame(pixels, frame_number, transfer_syntax_uid)

    def kept_frame(
        self, stored: StoredInstance, frame_number: int, transfer_syntax_uid: str
    ) -> bytes | None:
        """Return what `transcode_frame` made before of an instance that was just found."""
        return self._cache.get(_etag(stored, frame_number, transfer_syntax_uid))

    def transcode_instance(
        self, principal: Principal, ref: InstanceRef, transfer_syntax_uid: str
    ) -> TranscodedInstance:
        """Return a whole instance in another transfer syntax (PS3.5 §8.2, §A.4).

        Its UIDs are unchanged unless the transfer syntax is lossy, which makes it another
        image (PS3.3 §C.7.6.1.1.5). Only one frame is in memory at a time.

        Raises
        ------
        NotAcceptableError
            If it cannot be decoded, or not encoded so.
        """
        stored = self._retrieve.instance(principal, ref)
        try:
            pixels = self._pixels(principal, ref)
        except NotFoundError:  # no image: only the encoding of the data set changes
            _require(refusal(stored.transfer_syntax_uid, None, transfer_syntax_uid))
            return transcoded_instance(self._data_set(stored, 0), None, {}, transfer_syntax_uid)
        _require(_refusal(pixels, transfer_syntax_uid))
        native = not transfer_syntax(stored.transfer_syntax_uid).encapsulated
        changed = changes(stored.transfer_syntax_uid, pixels.description, transfer_syntax_uid)
        supply = None
        if not native or transfer_syntax_uid not in NATIVE_TARGETS:
            supply, first = self._supply(pixels, transfer_syntax_uid)
            if not transfer_syntax(transfer_syntax_uid).lossless:
                ratio = frame_bits(pixels.description) / 8 / max(len(first), 1)
                changed |= lossy_changes(
                    pixels.attributes, stored.digest, transfer_syntax_uid, ratio
                )
        data_set = self._data_set(stored, pixels.description.bits_allocated)
        return transcoded_instance(data_set, supply, changed, transfer_syntax_uid)

    def close(self) -> None:
        """Stop the workers this service started."""
        self._pool.close()

    def _made(self, job: Job) -> bytes:
        try:
            return self._pool.submit(job)
        except InvalidInstanceError as error:
            # It was taken in as it is; that it cannot be shown is told to who wants to see it.
            raise NotAcceptableError(f"{error}; it is available as stored") from error

    async def _made_soon(self, job: Job) -> bytes:
        try:
            return await self._pool.submit_soon(job)
        except InvalidInstanceError as error:
            raise NotAcceptableError(f"{error}; it is available as stored") from error

    def _supply(self, pixels: Pixels, transfer_syntax_uid: str) -> tuple[FrameSupply, bytes]:
        """Return the frames in another syntax, and the first of them.

        What cannot be made is found out with it, before the answer begins.
        """
        first = self._frame(pixels, 1, transfer_syntax_uid)
        description = pixels.description
        bits = frame_bits(description)
        if not pixels.needs_no_decoder:
            samples = description.rows * description.columns * description.samples_per_pixel
            bits = samples * description.bits_allocated

        def frames() -> Iterator[bytes]:
            yield first
            for number in range(2, pixels.table.number_of_frames + 1):
                yield self._transcode(pixels, number, transfer_syntax_uid)

        count = pixels.table.number_of_frames
        return FrameSupply(count, bits, description.bits_allocated, frames), first

    def _data_set(self, stored: StoredInstance, bits_allocated: int) -> StoredDataSet:
        buffer = object_view(self._retrieve, stored)
        meta = replace(
            read_file_meta(buffer),
            media_storage_sop_class_uid=stored.sop_class_uid,
            media_storage_sop_instance_uid=stored.sop_instance_uid,
        )
        start = meta.dataset_offset
        if transfer_syntax(stored.transfer_syntax_uid).deflated:
            buffer, start = inflated_view(self._retrieve, stored), 0
        return StoredDataSet(buffer, start, meta, bits_allocated)

    def _pixels(self, principal: Principal, ref: InstanceRef) -> Pixels:
        pixels = self._subjects.pixels(principal, ref)
        if pixels is None:
            raise NotFoundError(
                f"instance {ref.sop_instance_uid} has no frames that could be told apart"
            )
        return pixels

    def _frame(self, pixels: Pixels, frame_number: int, transfer_syntax_uid: str) -> bytes:
        """Return one frame in another syntax, remembered."""
        key = _etag(pixels.stored, frame_number, transfer_syntax_uid)
        return self._cache.get_or_make(
            key, lambda: self._transcode(pixels, frame_number, transfer_syntax_uid)
        )

    def _transcode(self, pixels: Pixels, frame_number: int, transfer_syntax_uid: str) -> bytes:
        if transfer_syntax_uid in NATIVE_TARGETS and pixels.needs_no_decoder:
            return self._plain_frame(pixels, frame_number)
        source, stored_uid = self._source(pixels, frame_number)
        return self._made(
            TranscodeJob(
                source=source,
                description=pixels.description,
                transfer_syntax_uid=stored_uid,
                target_transfer_syntax_uid=transfer_syntax_uid,
            )
        )

    def _source(self, pixels: Pixels, frame_number: int) -> tuple[FrameSource, str]:
        """Return where a worker finds a frame, and in which syntax it is there."""
        frame = stored_frame(pixels.table, frame_number)
        if _is_out_of_shape(pixels, frame):
            plain = self._plain_frame(pixels, frame_number)
            return FrameSource(path=None, spans=(), data=plain), EXPLICIT_LITTLE_ENDIAN
        stored_uid = pixels.stored.transfer_syntax_uid
        path = self._retrieve.path_of(pixels.stored)
        if path is not None:
            # The worker reads the bytes itself: they need not pass through this process.
            return FrameSource(path=path, spans=frame.spans, data=None), stored_uid
        data = b"".join(self._retrieve.frame_chunks(pixels.stored, frame))
        return FrameSource(path=None, spans=(), data=data), stored_uid

    def _is_direct(self, pixels: Pixels, frame_number: int) -> bool:
        """Tell whether a worker reads the frame itself."""
        frame = stored_frame(pixels.table, frame_number)
        is_file = self._retrieve.path_of(pixels.stored) is not None
        return is_file and not _is_out_of_shape(pixels, frame)

    def _plain_frame(self, pixels: Pixels, frame_number: int) -> bytes:
        """Return a frame of samples as explicit little endian has it, without a worker."""
        frame = stored_frame(pixels.table, frame_number)
        skipped_bits, word_bytes = frame.bit_offset, pixels.word_bytes
        if word_bytes > 1:
            # A frame may begin and end inside a word: whole words are swapped.
            ((offset, length),) = frame.spans
            before = (offset - pixels.table.start) % word_bytes
            length += before + -(before + length) % word_bytes
            frame = replace(frame, spans=((offset - before, length),))
            skipped_bits += before * 8
        data = b"".join(self._retrieve.frame_chunks(pixels.stored, frame))
        try:
            return little_endian_frame(
                data,
                pixels.description,
                pixels.stored.transfer_syntax_uid,
                skipped_bits=skipped_bits,
                word_bytes=word_bytes,
            )
        except InvalidInstanceError as error:
            raise NotAcceptableError(f"{error}; it is available as stored") from error


def _is_out_of_shape(pixels: Pixels, frame: StoredFrame) -> bool:
    """Tell whether a frame of samples lies otherwise than explicit little endian has it."""
    return pixels.needs_no_decoder and bool(
        frame.bit_offset or frame.inflated or pixels.word_bytes > 1
    )


def _refusal(pixels: Pixels, transfer_syntax_uid: str) -> str:
    stored_uid = pixels.stored.transfer_syntax_uid
    if (
        transfer_syntax_uid not in NATIVE_TARGETS
        and pixels.needs_no_decoder
        and embedded_overlay(pixels.attributes)
    ):
        return "an overlay lies in the unused bits of the pixels, and would be lost"
    return refusal(stored_uid, pixels.description, transfer_syntax_uid)


def _require(reason: str) -> None:
    if reason:
        raise NotAcceptableError(reason)


def _etag(stored: StoredInstance, frame_number: int, parameters: object) -> str:
    named = f"{stored.digest.hex()}/{frame_number}/{parameters!r}/{_PIPELINE_VERSION}"
    return hashlib.blake2s(named.encode(), digest_size=16).hexdigest()
