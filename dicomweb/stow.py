"""STOW-RS: the store transaction (PS3.18 §10.5)."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from archive.errors import (
    ArchiveError,
    InvalidRequestError,
    NotAcceptableError,
    StorageFullError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from archive.identity import StudyRef
from archive.ingest.buffers import BUFFERS
from archive.ingest.incoming import Incoming
from dicomweb.accept import MediaType, parse_media_type
from dicomweb.context import archive_of, principal_of, resource_of, source_of
from dicomweb.multipart import Event, PartBegin
from dicomweb.negotiation import DICOM, MULTIPART, OCTETS, accepted
from dicomweb.responses import DICOM_JSON, problem
from dicomweb.store_response import Results, malformed_response, store_response
from dicomweb.stow_body import ENCODINGS, Received, content_codings, iter_events, iter_parts
from dicomweb.stow_metadata import METADATA_TYPES, store_metadata

_PARTS_AT_ONCE: Final = 16
_BYTES_AT_ONCE: Final = 8 << 20
_SINGLE: Final = frozenset({DICOM, OCTETS, DICOM_JSON, "application/dicom+xml"})
_RELATED: Final = frozenset({"", DICOM, OCTETS}) | METADATA_TYPES
_TAKEN: Final = (DICOM, DICOM_JSON, "application/dicom+xml")
_ACCEPTED: Final = ", ".join([*(f'multipart/related; type="{t}"' for t in _TAKEN), *_TAKEN])
_ANSWERS: Final = (DICOM_JSON, "application/dicom+xml", "application/json")


async def store_instances(request: Request) -> Response:
    """Store what the body holds; answer what became of each instance."""
    study = resource_of(request) if "study" in request.path_params else None
    results = Results(study.study_instance_uid if isinstance(study, StudyRef) else None)
    answer = _answer_type(request)
    content_type = parse_media_type(request.headers.get("content-type", ""))
    try:
        content_codings(request)
        _require_known(content_type)
    except UnsupportedMediaTypeError as error:
        return _unsupported(error)
    if not archive_of(request).ingest.has_room():
        raise StorageFullError("the archive is full and accepts nothing until space is freed")
    try:
        count = await _store(request, content_type, results)
    except ClientDisconnect:
        return problem(HTTPStatus.BAD_REQUEST, "the client went away half way")
    except (InvalidRequestError, TooLargeError) as error:
        return malformed_response(request, results, error)
    if not count:
        raise InvalidRequestError("the body holds no part: nothing was stored")
    return store_response(request, results, answer)


# -- negotiation -------------------------------------------------------------------------------


def _answer_type(request: Request) -> str:
    """Return what the answer is written in, before anything is stored (PS3.18 §10.5.4)."""
    for wanted in accepted(request):
        name = wanted.part_type if wanted.name == MULTIPART else wanted.name
        for offered in _ANSWERS:
            if MediaType(name).covers(offered):
                return offered
    raise NotAcceptableError(f"what was stored is told as {' or '.join(_ANSWERS)}")


def _require_known(content_type: MediaType) -> None:
    if content_type.name in _SINGLE:
        return
    if content_type.name == MULTIPART and content_type.part_type in _RELATED:
        return
    raise UnsupportedMediaTypeError(
        f"{content_type.name or 'a body without Content-Type'} "
        f"{content_type.part_type} is not stored here; send {_ACCEPTED}"
    )


def _unsupported(error: UnsupportedMediaTypeError) -> Response:
    headers = {"Accept-Post": _ACCEPTED, "Accept-Encoding": ", ".join(ENCODINGS)}
    return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error), headers=headers)


async def _store(request: Request, content_type: MediaType, results: Results) -> int:
    """Store by what the parts are; where the body does not say, the first one does."""
    events = iter_events(request, content_type)
    root_type = content_type.part_type or content_type.name
    if root_type == MULTIPART:
        first = await anext(events, None)
        events = _chained(first, events)
        headers = first.headers if isinstance(first, PartBegin) else {}
        root_type = parse_media_type(headers.get("content-type", "")).name
    if root_type in METADATA_TYPES:
        return await store_metadata(request, events, root_type, results)
    return await _store_all(request, events, results)


async def _chained(first: Event | None, rest: AsyncIterator[Event]) -> AsyncIterator[Event]:
    if first is not None:
        yield first
    async for event in rest:
        yield event


# -- instances, each a part --------------------------------------------------------------------


async def _store_all(request: Request, events: AsyncIterator[Event], results: Results) -> int:
    """Store what has come while more is received; a slow disk slows the sender."""
    broken: ArchiveError | ClientDisconnect | None = None
    async with anyio.create_task_group() as tasks:
        storing = _Storing(request, results, tasks)
        try:
            async for part in iter_parts(request, events):
                await storing.add(part)
        except (ArchiveError, ClientDisconnect) as error:
            # The parts before it are whole: they are stored. Raised in here it would come
            # out as a group, which nobody takes for a client that went away.
            broken = error
    if broken is not None:
        raise broken
    return storing.count


class _Storing:
    """Stores parts in the order they came: all that have come while those before were stored.

    So an instance waits for nothing, and many share a transaction.

    Parameters
    ----------
    tasks
        Where the storing goes on beside the receiving.
    """

    def __init__(self, request: Request, results: Results, tasks: TaskGroup) -> None:
        self.count = 0
        self._request = request
        self._results = results
        self._tasks = tasks
        self._waiting: list[tuple[int, Received, Incoming]] = []
        self._room = anyio.Event()
        self._runs = False

    async def add(self, part: Received) -> None:
        """Take a part that is whole; wait while too many do."""
        position, self.count = self.count, self.count + 1
        try:
            incoming = Incoming(
                await part.finish(),
                source_of(self._request),
                study_instance_uid=self._results.study_instance_uid,
            )
        except ArchiveError as error:
            part.discard()
            self._results.note(position, error)
            return
        self._waiting.append((position, part, incoming))
        if not self._runs:
            self._runs = True
            self._tasks.start_soon(self._run)
        while self._is_full:
            self._room = anyio.Event()
            await self._room.wait()

    @property
    def _is_full(self) -> bool:
        bodies = (incoming.body for _, _, incoming in self._waiting)
        in_memory = sum(len(body) for body in bodies if isinstance(body, memoryview))
        most = 0 if BUFFERS.is_scarce else _BYTES_AT_ONCE
        return len(self._waiting) >= _PARTS_AT_ONCE or in_memory > most

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                self._room.set()
                await anyio.to_thread.run_sync(
                    self._store, batch, limiter=self._request.app.state.storing_threads
                )
        finally:
            self._runs = False
            for _, part, _ in self._waiting:
                part.discard()

    def _store(self, batch: list[tuple[int, Received, Incoming]]) -> None:
        ingest, principal = archive_of(self._request).ingest, principal_of(self._request)
        try:
            became = ingest.store_all(principal, [incoming for _, _, incoming in batch])
            for (position, _, _), one in zip(batch, became, strict=True):
                self._results.note(position, one)
        finally:
            for _, part, _ in batch:
                part.discard()
