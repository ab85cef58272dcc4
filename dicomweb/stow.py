"""STOW-RS: the store transaction (PS3.18 §10.5)."""

from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from typing import Final

import anyio
import anyio.to_thread
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
from archive.ingest.incoming import Incoming, Turn
from dicomweb.accept import MediaType, parse_media_type
from dicomweb.context import archive_of, principal_of, resource_of, source_of
from dicomweb.multipart import Event, PartBegin
from dicomweb.negotiation import DICOM, MULTIPART, OCTETS, accepted
from dicomweb.responses import DICOM_JSON, problem
from dicomweb.store_response import Results, malformed_response, store_response
from dicomweb.stow_body import ENCODINGS, Received, content_codings, iter_events, iter_parts
from dicomweb.stow_metadata import METADATA_TYPES, store_metadata

_PARTS_AT_ONCE: Final = 8
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
    """Store each part while the next is received; a slow disk slows the sender."""
    limiter = anyio.Semaphore(_PARTS_AT_ONCE)
    position = 0
    turn: Turn | None = None
    broken: ArchiveError | ClientDisconnect | None = None
    async with anyio.create_task_group() as tasks:
        try:
            async for part in iter_parts(request, events):
                await limiter.acquire()
                turn = Turn(turn)
                tasks.start_soon(_store_one, request, part, results, position, turn, limiter)
                position += 1
        except (ArchiveError, ClientDisconnect) as error:
            # The parts before it are whole: they are stored. Raised in here it would come
            # out as a group, which nobody takes for a client that went away.
            broken = error
    if broken is not None:
        raise broken
    return position


async def _store_one(
    request: Request,
    part: Received,
    results: Results,
    position: int,
    turn: Turn,
    limiter: anyio.Semaphore,
) -> None:
    try:
        with results.noting(position):
            incoming = Incoming(
                await part.finish(),
                source_of(request),
                study_instance_uid=results.study_instance_uid,
                turn=turn,
            )
            results.outcomes[position] = await anyio.to_thread.run_sync(
                partial(archive_of(request).ingest.store, principal_of(request), incoming)
            )
    finally:
        turn.end()
        part.discard()
        limiter.release()
