"""STOW-RS: the store transaction (PS3.18 §10.5, Annex I)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from archive.errors import (
    ArchiveError,
    InvalidInstanceError,
    InvalidRequestError,
    StorageFullError,
    UnsupportedMediaTypeError,
)
from archive.identity import StudyRef
from archive.ingest.incoming import Incoming, Spool
from archive.ingest.outcome import Disposition, Outcome, Remark
from archive.log import get_logger
from dicomweb.accept import parse_media_type
from dicomweb.context import (
    archive_of,
    base_url,
    instance_url,
    principal_of,
    resource_of,
    source_of,
)
from dicomweb.errors import WARNING_REASONS, mapped
from dicomweb.multipart import MultipartReader, PartBegin, PartData, PartEnd
from dicomweb.responses import RETRY_AFTER_S, JsonResponse, problem

logger = get_logger(__name__)
_DICOM: Final = "application/dicom"
# Beyond this a part goes to a spool; up to this many parts are stored at once.
_IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_PARTS_AT_ONCE: Final = 8
_OCTETS: Final = frozenset({"", _DICOM, "application/octet-stream"})


class _Part:
    """One part being received: in memory, then in a spool."""

    def __init__(self, request: Request) -> None:
        self._ingest = archive_of(request).ingest
        self._limit = archive_of(request).config.http.max_part_bytes
        self._memory = bytearray()
        self._spool: Spool | None = None
        self._size = 0
        self.refusal: ArchiveError | None = None

    async def write(self, data: bytes) -> None:
        """Take some of it; what is refused is read and forgotten."""
        self._size += len(data)
        if self.refusal is not None:
            return
        if self._limit and self._size > self._limit:
            self.discard()
            self.refusal = InvalidInstanceError(
                f"larger than the {self._limit} bytes that [http] max_part_bytes allows"
            )
            return
        self._memory += data
        if len(self._memory) > _IN_MEMORY_BYTES or (
            self._spool and len(self._memory) > 1 << 20
        ):
            await anyio.to_thread.run_sync(self._flush)

    def _flush(self) -> None:
        try:
            if self._spool is None:
                self._spool = self._ingest.new_spool()
            self._spool.write(self._memory)
        except ArchiveError as error:
            self.refusal = error
        except Exception as error:  # noqa: BLE001 - the store's own, told to the sender
            self.refusal = StorageFullError(f"the archive is full: {error}")
        self._memory = bytearray()

    async def finish(self) -> bytearray | Spool:
        """Return what was received; raises what it was refused for."""
        if self._spool is not None and self.refusal is None:
            await anyio.to_thread.run_sync(self._flush)
        if self.refusal is not None:
            raise self.refusal
        return self._memory if self._spool is None else self._spool

    def discard(self) -> None:
        """Leave nothing of it behind."""
        if self._spool is not None:
            self._spool.discard()
        self._memory = bytearray()


@dataclass(slots=True)
class _Results:
    """What became of each part, in the order they came."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    failures: dict[int, Exception] = field(default_factory=dict)

    def status(self) -> HTTPStatus:
        """Return the status (PS3.18 Table 10.5.3-1)."""
        if not self.outcomes:
            return self._all_failed()
        warned = any(outcome.warning is not Remark.NONE for outcome in self.outcomes.values())
        return HTTPStatus.ACCEPTED if self.failures or warned else HTTPStatus.OK

    def _all_failed(self) -> HTTPStatus:
        statuses = {mapped(error).status for error in self.failures.values()}
        # One answer for all where all were turned away for the same outward reason.
        for status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.FORBIDDEN):
            if statuses == {status}:
                return status
        return HTTPStatus.CONFLICT


async def store_instances(request: Request) -> Response:
    """Store what the body holds; answer what became of each part."""
    content_type = parse_media_type(request.headers.get("content-type", ""))
    study = resource_of(request) if "study" in request.path_params else None
    uid = study.study_instance_uid if isinstance(study, StudyRef) else None
    results = _Results()
    if content_type.name == _DICOM:
        parts = _single(request)
    elif content_type.name == "multipart/related" and content_type.part_type in ("", _DICOM):
        parts = _parts(request, content_type.parameters.get("boundary", ""))
    else:
        raise UnsupportedMediaTypeError(
            f"{content_type.name or 'a body without Content-Type'} "
            f"{content_type.part_type} is not stored here; send {_DICOM}, or "
            f'multipart/related; type="{_DICOM}"; boundary=...'
        )
    if not archive_of(request).ingest.has_room():
        raise StorageFullError("the archive is full and accepts nothing until space is freed")
    try:
        count = await _store_all(request, parts, uid, results)
    except ClientDisconnect:
        return problem(HTTPStatus.BAD_REQUEST, "the client went away half way")
    except InvalidRequestError as error:
        return _malformed(request, uid, results, error)
    if not count:
        raise InvalidRequestError("the body holds no part: nothing was stored")
    return _response(request, uid, results)


async def _store_all(
    request: Request, parts: AsyncIterator[_Part], uid: str | None, results: _Results
) -> int:
    """Store each part while the next is received; a slow disk slows the sender."""
    limiter = anyio.Semaphore(_PARTS_AT_ONCE)
    position = 0
    broken: InvalidRequestError | None = None
    async with anyio.create_task_group() as tasks:
        try:
            async for part in parts:
                await limiter.acquire()
                tasks.start_soon(_store_one, request, part, uid, (results, position, limiter))
                position += 1
        except InvalidRequestError as error:
            broken = error  # the parts before it are whole: they are stored
    if broken is not None:
        raise broken
    return position


async def _store_one(
    request: Request,
    part: _Part,
    uid: str | None,
    place: tuple[_Results, int, anyio.Semaphore],
) -> None:
    results, position, limiter = place
    try:
        incoming = Incoming(await part.finish(), source_of(request), study_instance_uid=uid)
        results.outcomes[position] = await anyio.to_thread.run_sync(
            partial(archive_of(request).ingest.store, principal_of(request), incoming)
        )
    except ArchiveError as error:
        logger.warning("instance.refused", extra={"reason": str(error), "part": position + 1})
        results.failures[position] = error
    except Exception as error:
        logger.exception("instance.failed", extra={"part": position + 1})
        results.failures[position] = error
    finally:
        part.discard()
        limiter.release()


# -- receiving ---------------------------------------------------------------------------------


async def _single(request: Request) -> AsyncIterator[_Part]:
    part = _Part(request)
    try:
        async for chunk in request.stream():
            await part.write(chunk)
    except BaseException:
        part.discard()
        raise
    yield part


async def _parts(request: Request, boundary: str) -> AsyncIterator[_Part]:
    reader = MultipartReader(boundary)
    part: _Part | None = None
    try:
        async for chunk in request.stream():
            for event in reader.feed(chunk):
                match event:
                    case PartBegin():
                        part = _Part(request)
                        part.refusal = _refused_type(event.headers.get("content-type", ""))
                    case PartData() if part is not None:
                        await part.write(event.data)
                    case PartEnd() if part is not None:
                        whole, part = part, None
                        yield whole
        reader.close()
    finally:
        if part is not None:
            part.discard()


def _refused_type(content_type: str) -> ArchiveError | None:
    name = parse_media_type(content_type).name
    if name in _OCTETS:
        return None
    return UnsupportedMediaTypeError(f"a part of type {name} is not stored here; send {_DICOM}")


# -- answering ---------------------------------------------------------------------------------


def _response(request: Request, uid: str | None, results: _Results) -> Response:
    status = results.status()
    response = JsonResponse(_store_response(request, uid, results), status_code=status)
    known = sum(o.disposition is Disposition.DUPLICATE for o in results.outcomes.values())
    if known:
        response.headers["Warning"] = f'299 fileroom "{known} instances were stored already"'
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _malformed(
    request: Request, uid: str | None, results: _Results, error: InvalidRequestError
) -> Response:
    """Answer a body that broke off: 400, and what was stored before it did."""
    body = _store_response(request, uid, results)
    return problem(HTTPStatus.BAD_REQUEST, str(error), storeInstancesResponse=body)


def _store_response(request: Request, uid: str | None, results: _Results) -> dict[str, Any]:
    """Return the Store Instances Response Module (PS3.18 Table I.1-1)."""
    body: dict[str, Any] = {}
    study = uid or _one_study(results)
    if study and results.outcomes:
        url = f"{base_url(request)}/studies/{study}"
        body["00081190"] = {"vr": "UR", "Value": [url]}
    failed = [_failed(results.failures[at]) for at in sorted(results.failures)]
    if failed:
        body["00081198"] = {"vr": "SQ", "Value": failed}
    stored = [_referenced(request, results.outcomes[at]) for at in sorted(results.outcomes)]
    if stored:
        body["00081199"] = {"vr": "SQ", "Value": stored}
    return body


def _one_study(results: _Results) -> str | None:
    studies = {outcome.ref.study_instance_uid for outcome in results.outcomes.values()}
    return studies.pop() if len(studies) == 1 else None


def _referenced(request: Request, outcome: Outcome) -> dict[str, Any]:
    item: dict[str, Any] = {
        "00081150": {"vr": "UI", "Value": [outcome.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [outcome.ref.sop_instance_uid]},
        "00081190": {"vr": "UR", "Value": [instance_url(request, outcome.ref)]},
    }
    if outcome.warning is not Remark.NONE:
        item["00081196"] = {"vr": "US", "Value": [WARNING_REASONS[outcome.warning]]}
        item["00741048"] = _attributes_in_doubt(outcome.explanation, "")
    return item


def _failed(error: Exception) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if isinstance(error, ArchiveError):
        if error.sop_class_uid:
            item["00081150"] = {"vr": "UI", "Value": [error.sop_class_uid]}
        if error.sop_instance_uid:
            item["00081155"] = {"vr": "UI", "Value": [error.sop_instance_uid]}
    item["00081197"] = {"vr": "US", "Value": [mapped(error).failure_reason]}
    text = str(error) if isinstance(error, ArchiveError) else "unexpected failure"
    tag = error.tag if isinstance(error, InvalidInstanceError) and error.tag else ""
    item["00741048"] = _attributes_in_doubt(text, tag)
    return item


def _attributes_in_doubt(text: str, tag: str) -> dict[str, Any]:
    """Return Failed Attributes Sequence (0074,1048): the reason, in words (PS3.18 §I.2.2)."""
    item: dict[str, Any] = {"00000902": {"vr": "LO", "Value": [text]}}
    if tag:
        item["00741057"] = {"vr": "AT", "Value": [tag]}
    return {"vr": "SQ", "Value": [item]}
