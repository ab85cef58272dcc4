"""The one door by which every instance enters, whichever protocol brought it."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from archive.auth.principal import Principal, Right
from archive.dicom.instance import AttributeWarning, ParsedInstance
from archive.dicom.parse import parse_instance
from archive.dicom.part10 import Buffer, FileMeta, read_file_meta
from archive.errors import (
    ArchiveError,
    ConflictingInstanceError,
    ForbiddenError,
    StudyMismatchError,
    storage_translated,
)
from archive.identity import InstanceRef
from archive.ingest.committer import Committer, Pending
from archive.ingest.extract import Arrival, digest_of, new_instance
from archive.ingest.incoming import Incoming, Spool
from archive.ingest.outcome import Disposition, Outcome, Remark
from archive.ingest.preamble import pretence
from archive.ingest.source import SourceRecords
from archive.log import get_logger
from archive.metrics import INSTANCES_STORED
from storage.index import clock
from storage.index.insertion import InstanceInserter
from storage.index.rows import Insertion, NewInstance
from storage.objects.base import ObjectStore
from storage.objects.keys import instance_key, new_token

logger = get_logger(__name__)
Kept = TypeVar("Kept")
_DISPOSITIONS = {
    "stored": Disposition.STORED,
    "duplicate": Disposition.DUPLICATE,
    "replaced": Disposition.REPLACED,
}


@dataclass(frozen=True, slots=True)
class _Remarks:
    """What is odd about an object that can be kept."""

    pretence: str
    attributes: tuple[AttributeWarning, ...]


@dataclass(frozen=True, slots=True)
class _Ready:
    """An instance that can be kept, and its rows."""

    incoming: Incoming
    parsed: ParsedInstance
    remarks: _Remarks
    new: NewInstance


@dataclass(frozen=True, slots=True)
class _Taken:
    """An instance whose bytes are written."""

    incoming: Incoming
    parsed: ParsedInstance
    remarks: _Remarks
    pending: Pending


class IngestService:
    """Takes instances in: durable and visible before anyone is told so.

    Parameters
    ----------
    objects
        Where the bytes go.
    inserter
        Where the rows go.
    """

    def __init__(self, objects: ObjectStore, inserter: InstanceInserter) -> None:
        self._objects = objects
        self._committer = Committer(objects, inserter)
        self._sources = SourceRecords(objects)
        # A bucket answers after a while: what came together goes to it together.
        at_once = objects.puts_at_once
        self._puts = ThreadPoolExecutor(at_once) if at_once > 1 else None

    def new_spool(self) -> Spool:
        """Begin to receive an instance too large for memory.

        Raises
        ------
        StorageFullError
            If nothing more is accepted.
        """
        with storage_translated():
            return self._objects.new_spool()

    def has_room(self) -> bool:
        """Tell whether instances are accepted, before one is received in vain."""
        return self._objects.has_room()

    def store(self, principal: Principal, incoming: Incoming) -> Outcome:
        """Take one instance in; return when it is durable and visible.

        Blocks for the writing and the commit; callers on many threads share commits. The
        incoming spool is used up, whatever happens.

        Raises
        ------
        InvalidInstanceError, StudyMismatchError
            If it cannot be kept; nothing of it is.
        ConflictingInstanceError
            If other content is stored under its UIDs; this one is held aside.
        ForbiddenError, StorageFullError, BusyError, UnavailableError
            If it was not taken in.
        """
        (outcome,) = self.store_all(principal, [incoming])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def store_all(
        self, principal: Principal, arrivals: Iterable[Incoming]
    ) -> list[Outcome | Exception]:
        """Take instances in, as `store` does each, in one transaction.

        Where they disagree, or say that they are the same, the first is the first.

        Returns
        -------
        list
            What became of each, in their order: what `store` would return or raise.
        """
        arrivals = list(arrivals)
        if self._puts is None or len(arrivals) == 1:
            became = [_attempted(self._take_in, principal, incoming) for incoming in arrivals]
        else:
            became = self._take_in_abreast(self._puts, principal, arrivals)
        return [
            one if isinstance(one, Exception) else _attempted(self._finish, principal, one)
            for one in became
        ]

    def _take_in(self, principal: Principal, incoming: Incoming) -> _Taken:
        try:
            return self._submit(self._put(self._prepare(principal, incoming)))
        finally:
            _discard(incoming)

    def _take_in_abreast(
        self, puts: ThreadPoolExecutor, principal: Principal, arrivals: list[Incoming]
    ) -> list[_Taken | Exception]:
        """Take instances in, several on their way to the store at the same time."""
        try:
            ready = [_attempted(self._prepare, principal, incoming) for incoming in arrivals]
            put = list(puts.map(partial(_further, self._put), ready))
            return [_further(self._submit, one) for one in put]
        finally:
            for incoming in arrivals:
                _discard(incoming)

    def _prepare(self, principal: Principal, incoming: Incoming) -> _Ready:
        _require_write(principal)
        parsed, remarks = _parse(incoming)
        with _concerning(parsed.sop_class_uid, parsed.sop_instance_uid):
            _require_study(incoming, parsed)
            with storage_translated():
                return _Ready(incoming, parsed, remarks, self._describe(incoming, parsed))

    def _put(self, ready: _Ready) -> _Ready:
        with (
            _concerning(ready.parsed.sop_class_uid, ready.parsed.sop_instance_uid),
            storage_translated(),
        ):
            self._objects.put(ready.new.instance.object_key, ready.incoming.body)
        return ready

    def _submit(self, ready: _Ready) -> _Taken:
        pending = self._committer.submit(ready.new)
        return _Taken(ready.incoming, ready.parsed, ready.remarks, pending)

    def _finish(self, principal: Principal, taken: _Taken) -> Outcome:
        incoming, parsed = taken.incoming, taken.parsed
        with _concerning(parsed.sop_class_uid, parsed.sop_instance_uid):
            with storage_translated():
                insertion = self._committer.result(taken.pending)
            outcome = _outcome(incoming, parsed, taken.remarks, insertion)
        INSTANCES_STORED.labels(incoming.source.protocol, outcome.disposition).inc()
        logger.info(
            "instance.stored",
            extra={
                "sop_instance_uid": parsed.sop_instance_uid,
                "disposition": outcome.disposition,
                "warning": outcome.warning,
                "principal": principal.name,
                "protocol": incoming.source.protocol,
                "warnings": [warning.tag for warning in parsed.warnings],
            },
        )
        return outcome

    def close(self) -> None:
        """Finish what was taken in."""
        if self._puts is not None:
            self._puts.shutdown()
        self._committer.close()

    def _describe(self, incoming: Incoming, parsed: ParsedInstance) -> NewInstance:
        body = incoming.body
        size = len(body) if isinstance(body, Buffer) else body.size_bytes
        digest = incoming.known_digest(parsed.dataset_offset)
        if digest is None:
            digest = digest_of(body, parsed.dataset_offset)
        source_key = self._sources.ensure(incoming.source)
        moment = clock.now_us()
        key = instance_key(
            parsed.study_instance_uid,
            parsed.series_instance_uid,
            parsed.sop_instance_uid,
            token=new_token(moment),
            source_key=source_key,
        )
        return new_instance(
            parsed,
            Arrival(
                object_key=key,
                size_bytes=size,
                digest=digest,
                received_at=clock.from_us(moment),
                source=incoming.source,
                source_key=source_key,
            ),
        )


def _attempted(step: Callable[..., Kept], *arguments: object) -> Kept | Exception:
    """Return what ``step`` returns, or raises."""
    try:
        return step(*arguments)
    except Exception as error:  # noqa: BLE001 - told to whoever sent it
        return error


def _further(step: Callable[[_Ready], Kept], one: _Ready | Exception) -> Kept | Exception:
    """Take the next step with what has come so far."""
    return one if isinstance(one, Exception) else _attempted(step, one)


def _discard(incoming: Incoming) -> None:
    if not isinstance(incoming.body, Buffer):
        incoming.body.discard()


def _require_write(principal: Principal) -> None:
    if Right.WRITE not in principal.rights:
        raise ForbiddenError(f"{principal.name} may not store instances here")


def _parse(incoming: Incoming) -> tuple[ParsedInstance, _Remarks]:
    body = incoming.body
    buffer: Buffer = body if isinstance(body, Buffer) else body.view()
    try:
        meta = read_file_meta(buffer)
        with _concerning(meta.media_storage_sop_class_uid, meta.media_storage_sop_instance_uid):
            parsed = parse_instance(buffer, meta)
        return parsed, _Remarks(
            pretence(buffer),
            incoming.in_doubt + parsed.warnings + _header_in_doubt(meta, parsed),
        )
    finally:
        if isinstance(buffer, memoryview) and buffer is not body:
            buffer.release()


def _header_in_doubt(meta: FileMeta, parsed: ParsedInstance) -> tuple[AttributeWarning, ...]:
    # Of another instance UID nothing is said: real files were edited so, and harm nobody.
    claimed = meta.media_storage_sop_class_uid
    if claimed in ("", parsed.sop_class_uid):
        return ()
    message = "the file header says another SOP class than the data set"
    return (AttributeWarning("00020002", message),)


@contextlib.contextmanager
def _concerning(sop_class_uid: str, sop_instance_uid: str) -> Iterator[None]:
    """Name the instance in whatever refusal leaves the block, for the faces to report."""
    try:
        yield
    except ArchiveError as error:
        error.sop_class_uid = sop_class_uid
        error.sop_instance_uid = sop_instance_uid
        raise


def _require_study(incoming: Incoming, parsed: ParsedInstance) -> None:
    wanted = incoming.study_instance_uid
    if wanted is not None and parsed.study_instance_uid != wanted:
        raise StudyMismatchError(
            f"the instance belongs to study {parsed.study_instance_uid}, but was stored to the "
            f"URL of study {wanted}; store it to /studies, or to its own study"
        )


def _outcome(
    incoming: Incoming, parsed: ParsedInstance, remarks: _Remarks, insertion: Insertion
) -> Outcome:
    ref = InstanceRef(
        parsed.study_instance_uid, parsed.series_instance_uid, parsed.sop_instance_uid
    )
    if insertion.kind == "held":
        raise ConflictingInstanceError(
            "other content has these UIDs: it stays, this one is held aside; instance "
            f"{ref.sop_instance_uid} of the same series"
        )
    # The single most appropriate code is told (PS3.18 §I.2.1): the first that applies.
    warning, explanation = next(_warnings(incoming, parsed, remarks, insertion))
    return Outcome(
        ref=ref,
        sop_class_uid=parsed.sop_class_uid,
        disposition=_DISPOSITIONS[insertion.kind],
        warning=warning,
        explanation=explanation,
        attributes=incoming.discarded + incoming.coerced + remarks.attributes,
    )


def _warnings(
    incoming: Incoming, parsed: ParsedInstance, remarks: _Remarks, insertion: Insertion
) -> Iterator[tuple[Remark, str]]:
    if insertion.elsewhere:
        yield (
            Remark.UID_ELSEWHERE,
            f"the same SOP Instance UID is also stored in {insertion.elsewhere}; both are kept",
        )
    claimed = incoming.sop_class_uid
    if claimed is not None and claimed != parsed.sop_class_uid:
        yield (
            Remark.SOP_CLASS_MISMATCH,
            f"sent as SOP class {claimed}, but the data set says {parsed.sop_class_uid}",
        )
    named = incoming.sop_instance_uid
    if named is not None and named != parsed.sop_instance_uid:
        yield (
            Remark.SOP_INSTANCE_MISMATCH,
            f"kept as the data set says, not as {named or 'a command without a UID'}",
        )
    if remarks.pretence:
        yield (
            Remark.PREAMBLE,
            f"the preamble makes this {remarks.pretence} as well; it is kept as it was sent",
        )
    for told, remark in (
        (incoming.discarded, Remark.DISCARDED),
        (incoming.coerced, Remark.COERCED),
        (remarks.attributes, Remark.ATTRIBUTES),
    ):
        if told:
            yield remark, ""
    yield Remark.NONE, ""
