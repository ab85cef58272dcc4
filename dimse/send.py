"""Sending stored instances: C-STORE sub-operations, straight from the object's bytes."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from archive.assembly import Archive
from archive.auth.principal import Principal
from archive.dicom.part10 import read_file_meta
from archive.dicom.transfer_syntax import transfer_syntax
from archive.errors import ArchiveError, NotAcceptableError, UnavailableError
from archive.identity import InstanceRef
from archive.retrieve.values import StoredInstance
from dimse import framing, messages
from dimse.awaiting import Answers
from dimse.contexts import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from dimse.status import SUCCESS
from dimse.store_answers import in_words

_CHUNK_BYTES: Final = 256 * 1024
_MOST_MESSAGES: Final = 65535
_NO_STATUS: Final = 0xC000
_UNCOMPRESSED: Final = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)


class BrokenMessageError(ConnectionAbortedError):
    """A message could not be sent to its end, through no fault of the peer."""


class Wire(Protocol):
    """An established association, as far as sending needs it."""

    @property
    def maximum_pdu(self) -> int:
        """The longest PDU the other side takes; 0 for no limit."""

    def send_pdus(self, data: bytes | memoryview) -> None:
        """Write framed PDUs; their memory may be used again afterwards."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What C-STORE requests are for.

    Parameters
    ----------
    priority
        Of the request they serve (PS3.7 §9.1.1.1.6).
    originator
        AE title and message ID of the C-MOVE; None for anything else.
    """

    priority: int = 0
    originator: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the peer answered to a C-STORE request."""

    status: int
    comment: str = ""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An instance that is ready to go: nothing but its store can fail any more.

    Parameters
    ----------
    pdus
        Returns what is written, piece by piece, once the PDUs of the command are known.
    """

    context_id: int
    sop_instance_uid: str
    pdus: Callable[[bytes], Iterator[bytes | memoryview]]


class Sender:
    """Sends instances on one association.

    Parameters
    ----------
    archive, principal
        Where from, and who asks.
    association
        pynetdicom's: for its contexts and its answers.
    wire
        How framed bytes leave.
    preferred
        Transfer syntaxes to send, best first; without: as stored, else uncompressed.
    """

    def __init__(
        self,
        archive: Archive,
        principal: Principal,
        association: Any,  # noqa: ANN401 - pynetdicom's
        wire: Wire,
        *,
        preferred: Sequence[str] = (),
    ) -> None:
        self._archive = archive
        self._principal = principal
        self._wire = wire
        self._preferred = preferred
        self._answers = Answers(association)
        self._message_id = 0
        self._maximum_pdu = wire.maximum_pdu
        self._held = b""
        self._contexts: dict[str, dict[str, int]] = {}
        for context in association.accepted_contexts:
            if context.as_scu:
                of_class = self._contexts.setdefault(str(context.abstract_syntax), {})
                of_class.setdefault(str(context.transfer_syntax[0]), context.context_id)

    def send(self, stored: StoredInstance, purpose: Purpose) -> Answer:
        """Send one instance; return what the peer answered.

        Raises
        ------
        ArchiveError
            If it cannot be sent here: no context for it, or not in a syntax the peer took.
            Nothing of it was sent.
        OSError
            If the association is gone, or of no use any more.
        """
        with ExitStack() as held:
            return self._sent(stored, self._prepared(stored, held), purpose)

    def hold(self, pdus: bytes) -> None:
        """Let something go out with the next instance, or by `flush`; or before the next."""
        self.flush()
        self._held = pdus

    def flush(self) -> None:
        """Send what was held."""
        held, self._held = self._held, b""
        if held:
            self._wire.send_pdus(held)

    def _sent(self, stored: StoredInstance, prepared: _Prepared, purpose: Purpose) -> Answer:
        self._answers.require_peer()
        self._message_id = self._message_id % _MOST_MESSAGES + 1
        command = messages.store_request(
            sop_class_uid=stored.sop_class_uid,
            sop_instance_uid=prepared.sop_instance_uid,
            message_id=self._message_id,
            priority=purpose.priority,
            originator=purpose.originator,
        )
        first = messages.command_pdus(
            prepared.context_id, command, maximum_pdu=self._maximum_pdu
        )
        has_begun = False
        try:
            for pdus in prepared.pdus(self._held + first):
                has_begun, self._held = True, b""
                self._wire.send_pdus(pdus)
        except ArchiveError as error:
            if not has_begun:
                raise
            # Half a message cannot be taken back: only an abort ends it.
            raise BrokenMessageError(f"the instance cannot be read on: {error}") from error
        answer = self._answers.wait(self._message_id)
        # An answer without a status is none that could be trusted.
        status = _NO_STATUS if answer.Status is None else answer.Status
        return Answer(status, answer.ErrorComment)

    def _prepared(self, stored: StoredInstance, held: ExitStack) -> _Prepared:
        """Find the best form the peer takes that can be made.

        Once the command is out the data set must follow whole: what may fail, fails here.
        """
        of_class = self._contexts.get(stored.sop_class_uid)
        if not of_class:
            raise NotAcceptableError(f"no context for SOP class {stored.sop_class_uid}")
        refusal: ArchiveError | None = None
        for target in self._targets(stored, of_class):
            try:
                if target == stored.transfer_syntax_uid:
                    return self._as_stored(stored, of_class[target], held)
                return self._transcoded(stored, target, of_class[target], held)
            except ArchiveError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        raise NotAcceptableError(
            f"not taken as {transfer_syntax(stored.transfer_syntax_uid).name}, nor uncompressed"
        )

    def _targets(self, stored: StoredInstance, of_class: dict[str, int]) -> Iterator[str]:
        """Yield the transfer syntaxes the peer took for a class, best first."""
        best = (
            [*self._preferred, *_UNCOMPRESSED]
            if self._preferred
            else [stored.transfer_syntax_uid, *_UNCOMPRESSED]
        )
        # What loses something is sent only to who asks for it.
        others = [
            uid
            for uid in of_class
            if uid == stored.transfer_syntax_uid or transfer_syntax(uid).lossless
        ]
        return (uid for uid in dict.fromkeys([*best, *others]) if uid in of_class)

    def _as_stored(self, stored: StoredInstance, context_id: int, held: ExitStack) -> _Prepared:
        offset, length = stored.dataset_offset, stored.size_bytes - stored.dataset_offset
        if length <= 0 or 0 < self._maximum_pdu < framing.NARROWEST:
            chunks = self._archive.retrieve.iter_chunks(
                stored, offset=offset, chunk_bytes=_CHUNK_BYTES
            )
            held.callback(chunks.close)
            return self._in_chunks(stored.sop_instance_uid, context_id, chunks)
        pdus = partial(
            framing.iter_read,
            held.enter_context(self._archive.retrieve.opened(stored)),
            offset,
            length,
            context_id,
            self._maximum_pdu,
        )
        return _Prepared(context_id, stored.sop_instance_uid, pdus)

    def _in_chunks(self, uid: str, context_id: int, chunks: Iterable[bytes]) -> _Prepared:
        def pdus(before: bytes) -> Iterator[bytes]:
            framed = messages.iter_pdus(context_id, chunks, maximum_pdu=self._maximum_pdu)
            yield before + next(framed)
            yield from framed

        return _Prepared(context_id, uid, pdus)

    def _transcoded(
        self, stored: StoredInstance, target: str, context_id: int, held: ExitStack
    ) -> _Prepared:
        self.flush()  # what is said meanwhile does not wait for it
        ref = InstanceRef(
            stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
        )
        transcoded = self._archive.render.transcode_instance(self._principal, ref, target)
        # One that loses something is another instance, and has another UID.
        uid = read_file_meta(transcoded.header).media_storage_sop_instance_uid
        spool = held.enter_context(self._spooled(transcoded.data_set()))
        return self._in_chunks(uid, context_id, iter(partial(spool.read, _CHUNK_BYTES), b""))

    def _spooled(self, chunks: Iterator[bytes]) -> "tempfile.SpooledTemporaryFile[bytes]":
        """Make a data set whole: in memory while it is small, else in a file."""
        spool = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by who reads it
            max(self._archive.config.dimse.spool_threshold_bytes, 1),
            dir=str(self._archive.config.archive.data_dir),
        )
        try:
            for chunk in chunks:
                spool.write(chunk)
            spool.seek(0)
        except BaseException as error:
            spool.close()
            if isinstance(error, OSError):
                raise UnavailableError(f"no room to transcode: {error}") from error
            raise
        return spool


def outcome_of(
    sender: Sender, stored: StoredInstance | None, purpose: Purpose
) -> tuple[int | None, str]:
    """Send one instance; return the status it was answered with, None when it was not sent.

    And why, unless it is a success. ``stored`` is None when it is no longer to be had.

    Raises
    ------
    OSError
        If the association is gone, or of no use any more.
    """
    if stored is None:
        return None, "it was deleted or withdrawn meanwhile"
    try:
        answer = sender.send(stored, purpose)
    except ArchiveError as error:
        return None, str(error)
    if answer.status == SUCCESS:
        return SUCCESS, ""
    said = f": {answer.comment}" if answer.comment else ""
    return answer.status, f"{in_words(answer.status)}{said}"
