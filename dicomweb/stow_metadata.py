"""STOW-RS: metadata with bulk data beside it (PS3.18 §10.5.1.4, §8.6)."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import anyio.to_thread
from starlette.requests import Request

from archive.dicom.instance import Attributes
from archive.dicom.json_reader import read_json
from archive.dicom.xml_reader import read_xml
from archive.errors import (
    InvalidInstanceError,
    InvalidRequestError,
    TooLargeError,
)
from archive.ingest.assemble import Metadata, assemble
from archive.ingest.bulk_parts import BulkPart, BulkParts
from archive.ingest.outcome import Outcome
from dicomweb.accept import parse_media_type
from dicomweb.context import archive_of, principal_of, source_of
from dicomweb.multipart import Event, PartBegin, PartData, PartEnd
from dicomweb.store_response import Results

JSON_TYPES: Final = frozenset({"application/dicom+json", "application/json"})
XML_TYPES: Final = frozenset({"application/dicom+xml", "application/xml", "text/xml"})
METADATA_TYPES: Final = JSON_TYPES | XML_TYPES
# Metadata are held in memory as they are read; what is larger is better left to bulk data.
MOST_METADATA_BYTES: Final = 64 * 1024 * 1024
_AT_ONCE: Final = 4


class _Body:
    """The parts of one request, sorted into metadata and bulk data as they come."""

    def __init__(self, request: Request, root_type: str) -> None:
        archive = archive_of(request)
        self.parts = BulkParts(archive.ingest.new_spool, str(request.url.replace(query="")))
        self.documents: list[tuple[str, bytearray]] = []
        self._root_type = root_type
        self._limit = archive.config.http.max_part_bytes
        self._metadata_bytes = 0
        self._count = 0
        self._headers: dict[str, str] | None = None
        self._start = 0

    async def take(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            match event:
                case PartBegin():
                    self._begin(event.headers)
                case PartData():
                    await self._write(event.data)
                case PartEnd():
                    self._end()
        await anyio.to_thread.run_sync(self.parts.seal)

    def _begin(self, headers: dict[str, str]) -> None:
        self._count += 1
        name = parse_media_type(headers.get("content-type", "")).name
        is_first_untyped = not name and not self.documents and "content-location" not in headers
        if name in METADATA_TYPES or is_first_untyped:
            self.documents.append((name or self._root_type, bytearray()))
            self._headers = None
        else:
            self._headers = headers
            self._start = self.parts.growing.size_bytes

    async def _write(self, data: bytes) -> None:
        if self._headers is None:
            self._metadata_bytes += len(data)
            if self._metadata_bytes > MOST_METADATA_BYTES:
                raise TooLargeError(f"the metadata are more than {MOST_METADATA_BYTES} bytes")
            self.documents[-1][1].extend(data)
            return
        if self.parts.growing.gather(data):
            await anyio.to_thread.run_sync(self.parts.growing.flush)
        if self._limit and self.parts.growing.size_bytes - self._start > self._limit:
            raise TooLargeError(
                f"part {self._count} is larger than the {self._limit} bytes that "
                "[http] max_part_bytes allows"
            )

    def _end(self) -> None:
        if self._headers is None:
            return
        content_type = parse_media_type(self._headers.get("content-type", ""))
        part = BulkPart(
            media_type=content_type.name,
            transfer_syntax_uid=content_type.transfer_syntax,
            offset=self._start,
            length=self.parts.growing.size_bytes - self._start,
            number=self._count,
            location=self._headers.get("content-location", ""),
        )
        self.parts.add(part, self._headers.get("content-id", ""))


async def store_metadata(
    request: Request, events: AsyncIterator[Event], root_type: str, results: Results
) -> int:
    """Store the instances that the metadata of the body describe.

    Returns
    -------
    int
        How many parts or data sets there were.

    Raises
    ------
    InvalidRequestError
        If the body breaks off, or its metadata cannot be read; nothing is stored then.
    """
    body = _Body(request, root_type)
    try:
        await body.take(events)
        datasets = await anyio.to_thread.run_sync(_read, body.documents)
        body.documents = []
        await _store_all(request, datasets, body.parts, results)
        _tell_unused(body.parts, len(datasets), results)
    finally:
        body.parts.discard()
    return len(datasets)


def _read(documents: list[tuple[str, bytearray]]) -> list[Attributes]:
    if not documents:
        raise InvalidRequestError(
            "the body has no part of metadata: expected one of type application/dicom+json or "
            "application/dicom+xml"
        )
    datasets: list[Attributes] = []
    for media_type, document in documents:
        if media_type in XML_TYPES:
            datasets.append(read_xml(document))
        else:
            datasets += read_json(document)
    return datasets


async def _store_all(
    request: Request, datasets: list[Attributes], parts: BulkParts, results: Results
) -> None:
    limiter = anyio.CapacityLimiter(_AT_ONCE)
    async with anyio.create_task_group() as tasks:
        for position, attributes in enumerate(datasets):
            metadata = Metadata(attributes, source_of(request), results.study_instance_uid)
            store = partial(_store, request, metadata, parts)
            tasks.start_soon(_note, store, position, results, limiter)


async def _note(
    store: partial[Outcome], position: int, results: Results, limiter: anyio.CapacityLimiter
) -> None:
    try:
        became: Outcome | Exception = await anyio.to_thread.run_sync(store, limiter=limiter)
    except Exception as error:  # noqa: BLE001 - noted for whoever sent it
        became = error
    results.note(position, became)


def _store(request: Request, metadata: Metadata, parts: BulkParts) -> Outcome:
    ingest = archive_of(request).ingest
    incoming = assemble(metadata, parts, ingest.new_spool)
    return ingest.store(principal_of(request), incoming)


def _tell_unused(parts: BulkParts, position: int, results: Results) -> None:
    for number, part in enumerate(parts.unused(), position):
        why = (
            f"no BulkDataURI points to its Content-Location {part.location[:200]!r}"
            if part.location
            else "it has no Content-Location"
        )
        results.failures[number] = InvalidInstanceError(
            f"part {part.number} is bulk data that was not stored: {why}"
        )
