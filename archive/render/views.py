"""What instances look like: each by what it is, made in a worker and remembered."""

import hashlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Final

from archive.auth.principal import Principal
from archive.errors import NotAcceptableError, NotFoundError
from archive.identity import InstanceRef, ResourceRef
from archive.render.attributes import binary
from archive.render.cache import BoundedCache
from archive.render.jobs import AnimationJob, IconJob, Job, RenderJob
from archive.render.options import (
    MAX_VIEWPORT_AREA_PX,
    RenderedMediaType,
    RenderOptions,
    Viewport,
)
from archive.render.pixels import Pixels
from archive.render.presentation import PresentationReader
from archive.render.rendering import Content, Makers, Rendering
from archive.render.report import read_report
from archive.render.report_writing import Link, write_report
from archive.render.subject import (
    DOCUMENT,
    Subject,
    document_length,
    frame_durations,
    ref_of,
)
from archive.render.subjects import Subjects
from archive.retrieve.service import RetrieveService, stored_frame
from archive.retrieve.values import StoredBulk, StoredInstance

# What a change of the pipeline must change, so that no cache shows what it made before.
_PIPELINE_VERSION: Final = 3
# An animation is for looking at: of longer ones every n-th frame is shown, for n times as long.
MOST_ANIMATED_FRAMES: Final = 256
_ANIMATED_SIDE_PX: Final = 1024
_ICON: Final = Viewport(128, 128)
_LARGEST_ICON_PX: Final = 1024


class Views:
    """Shows instances.

    Parameters
    ----------
    retrieve
        Gives instances, frames and bulk data.
    subjects
        Tells what an instance can be shown as.
    cache
        What was made before.
    makers
        How something is made.
    """

    def __init__(
        self,
        retrieve: RetrieveService,
        subjects: Subjects,
        cache: BoundedCache,
        makers: Makers,
    ) -> None:
        self._retrieve = retrieve
        self._subjects = subjects
        self._cache = cache
        self._makers = makers

    # -- what there is ---------------------------------------------------------------------

    def subject(self, principal: Principal, ref: InstanceRef) -> Subject:
        """Return what one instance can be shown as.

        Raises
        ------
        NotFoundError
            If there is none that ``principal`` may see.
        """
        return self._subjects.find(principal, ref)

    def stored(self, principal: Principal, ref: ResourceRef) -> list[StoredInstance]:
        """Return the instances of a resource, in order."""
        return list(self._retrieve.instances(principal, [ref]))

    def representative(self, principal: Principal, ref: ResourceRef) -> Subject:
        """Return the instance that stands for a study, a series, or itself.

        Raises
        ------
        NotFoundError
            If there is nothing that ``principal`` may see.
        """
        return self._subjects.representative(principal, ref)

    def shown_as(
        self,
        principal: Principal,
        found: Sequence[StoredInstance],
        fits: Callable[[str], bool],
    ) -> list[tuple[StoredInstance, str]]:
        """Return those instances that can be shown as wanted, and as what.

        Instances of one series, SOP class and transfer syntax are alike: one is looked at.

        Parameters
        ----------
        fits
            Whether a media type is wanted.
        """
        kinds: dict[tuple[str, str, str], str | None] = {}
        shown = []
        for stored in found:
            kind = (
                stored.series_instance_uid,
                stored.sop_class_uid,
                stored.transfer_syntax_uid,
            )
            if kind not in kinds:
                types = self.subject(principal, ref_of(stored)).media_types
                kinds[kind] = next((name for name in types if fits(name)), None)
            media_type = kinds[kind]
            if media_type is not None:
                shown.append((stored, media_type))
        return shown

    def recall(self, principal: Principal, ref: ResourceRef) -> Subject | None:
        """Return who stands for ``ref`` if that is known already, by a row or two; else None.

        Raises
        ------
        NotFoundError
            If there is nothing that ``principal`` may see.
        """
        return self._subjects.recall(principal, ref)

    # -- images ----------------------------------------------------------------------------

    def images(
        self,
        principal: Principal,
        subject: Subject,
        frame_numbers: Sequence[int],
        options: RenderOptions,
    ) -> list[Rendering]:
        """Prepare to render frames (PS3.18 §10.4.1.1.3); nothing is decoded yet.

        Raises
        ------
        NotFoundError
            If there is no such frame.
        NotAcceptableError
            If it is no image.
        InvalidRequestError
            If the region asked for lies outside the image.
        """
        pixels = _require_image(subject)
        _check_region(pixels, options)
        for frame_number in frame_numbers:
            stored_frame(pixels.table, frame_number)
        reader = self._reader(principal, subject)

        def rendering(frame_number: int) -> Rendering:
            def job() -> Job:
                return self._job(pixels, reader, frame_number, options)

            etag = _etag(subject, frame_number, options)
            is_direct = self._makers.is_direct(pixels, frame_number)
            return self._rendering(options.media_type, etag, frame_number, job, is_direct)

        return [rendering(frame_number) for frame_number in frame_numbers]

    def animation(
        self,
        principal: Principal,
        subject: Subject,
        frame_numbers: Sequence[int],
        options: RenderOptions,
    ) -> Rendering:
        """Prepare to render frames to one animated image (PS3.18 Table 8.7.4-1).

        Raises
        ------
        NotFoundError
            If there is no such frame.
        NotAcceptableError
            If it is no image.
        InvalidRequestError
            If the region asked for lies outside the image.
        """
        pixels = _require_image(subject)
        _check_region(pixels, options)
        step = -(-len(frame_numbers) // MOST_ANIMATED_FRAMES)
        shown = list(frame_numbers)[::step]
        for frame_number in shown:
            stored_frame(pixels.table, frame_number)
        bounded = replace(options, viewport=_animated_viewport(pixels, options, len(shown)))
        durations = [ms * step for ms in frame_durations(subject.attributes, shown)]
        etag = _etag(subject, tuple(shown), (bounded, durations))
        reader = self._reader(principal, subject)

        def job() -> Job:
            jobs = (self._job(pixels, reader, number, bounded) for number in shown)
            return AnimationJob(tuple(jobs), tuple(durations))

        return self._rendering(options.media_type, etag, None, job)

    def icon(
        self, subject: Subject, media_type: RenderedMediaType, viewport: Viewport | None
    ) -> Rendering:
        """Prepare a picture that stands for an instance without image: its kind in letters."""
        width, height = (viewport or _ICON).size(1, 1)
        job = IconJob(
            subject.label,
            min(width, _LARGEST_ICON_PX),
            min(height, _LARGEST_ICON_PX),
            media_type,
        )
        etag = hashlib.blake2s(f"{job!r}/{_PIPELINE_VERSION}".encode(), digest_size=16)
        return self._rendering(media_type, etag.hexdigest(), None, lambda: job, True)

    def _rendering(
        self,
        media_type: str,
        etag: str,
        frame_number: int | None,
        job: Callable[[], Job],
        is_direct: bool = False,
    ) -> Rendering:
        cache, makers = self._cache, self._makers

        def make_soon() -> Coroutine[None, None, bytes]:
            return cache.get_or_await(etag, lambda: makers.submit_soon(job()))

        return Rendering(
            media_type,
            etag,
            frame_number,
            make=lambda: cache.get_or_make(etag, lambda: makers.submit(job())),
            kept=lambda: cache.get(etag),
            make_soon=make_soon if is_direct else None,
        )

    def _reader(self, principal: Principal, subject: Subject) -> PresentationReader:
        return PresentationReader(
            subject.attributes, lambda path: self._bulk_value(principal, subject, path)
        )

    def _job(
        self,
        pixels: Pixels,
        reader: PresentationReader,
        frame_number: int,
        options: RenderOptions,
    ) -> RenderJob:
        source, transfer_syntax_uid = self._makers.source(pixels, frame_number)
        digest = "" if pixels.needs_no_decoder else pixels.stored.digest.hex()
        return RenderJob(
            source=source,
            description=pixels.description,
            transfer_syntax_uid=transfer_syntax_uid,
            presentation=reader.frame(frame_number - 1, options),
            options=options,
            # The digest is that of the data set: how it is encoded is said outside of it.
            frame_name=digest and f"{digest}/{transfer_syntax_uid}/{frame_number}",
        )

    # -- what is shown as it is, and reports -----------------------------------------------

    def video(self, principal: Principal, subject: Subject) -> Content:
        """Return a stored video (PS3.18 §8.7.2)."""
        bulk = self._retrieve.bulk_data(principal, subject.ref, "7FE00010")
        return self._content(bulk, bulk.length_bytes)

    def document(self, principal: Principal, subject: Subject) -> Content:
        """Return an encapsulated document without the byte that pads it (PS3.3 §C.24.2).

        Raises
        ------
        NotAcceptableError
            If there is nothing in it.
        """
        attributes = subject.attributes
        if "InlineBinary" in attributes[DOCUMENT]:
            whole = binary(attributes, DOCUMENT, lambda _: b"")
            length = document_length(attributes, len(whole), whole[-1:])
            return Content(length, lambda start, count: iter((whole[start : start + count],)))
        try:
            bulk = self._retrieve.bulk_data(principal, subject.ref, DOCUMENT)
        except NotFoundError as error:
            raise NotAcceptableError("the encapsulated document is empty") from error
        size = bulk.length_bytes
        last = b"".join(self._retrieve.bulk_chunks(bulk, offset=size - 1, length=1))
        return self._content(bulk, document_length(attributes, size, last))

    def report(self, subject: Subject, media_type: str, charset: str, link: Link) -> bytes:
        """Return a structured report as a page, XML or plain text (PS3.18 §8.7.4).

        Raises
        ------
        NotAcceptableError
            If ``charset`` lacks characters that plain text needs.
        """
        return write_report(read_report(subject.attributes), media_type, charset, link)

    def _content(self, bulk: StoredBulk, length: int) -> Content:
        def section(offset: int, count: int) -> Iterator[bytes]:
            return self._retrieve.bulk_chunks(bulk, offset=offset, length=count)

        return Content(length, section)

    def _bulk_value(self, principal: Principal, subject: Subject, path: str) -> bytes:
        bulk = self._retrieve.bulk_data(principal, subject.ref, path)
        return b"".join(self._retrieve.bulk_chunks(bulk))


def _require_image(subject: Subject) -> Pixels:
    if subject.pixels is None:
        available = ", ".join(subject.media_types) or "application/dicom, as stored"
        raise NotAcceptableError(
            f"this instance ({subject.what}) has no image that can be rendered; "
            f"available: {available}"
        )
    return subject.pixels


def _check_region(pixels: Pixels, options: RenderOptions) -> None:
    if options.viewport is not None:
        described = pixels.description
        options.viewport.region.box(described.columns, described.rows)


def _animated_viewport(pixels: Pixels, options: RenderOptions, count: int) -> Viewport:
    """Return the viewport that keeps all frames together within what a worker can hold."""
    asked = options.viewport or Viewport()
    columns, rows = pixels.description.columns, pixels.description.rows
    left, top, right, bottom = asked.region.box(columns, rows)
    width, height = asked.size(right - left, bottom - top)
    side = int((MAX_VIEWPORT_AREA_PX / max(count, 1)) ** 0.5)
    limit = side if options.viewport else min(side, _ANIMATED_SIDE_PX)
    if max(width, height) <= limit:
        return asked
    return replace(asked, width=min(width, limit), height=min(height, limit))


def _etag(subject: Subject, frames: object, parameters: object) -> str:
    named = f"{subject.stored.digest.hex()}/{frames!r}/{parameters!r}/{_PIPELINE_VERSION}"
    return hashlib.blake2s(named.encode(), digest_size=16).hexdigest()
