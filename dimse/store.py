"""Storage SCP (PS3.4 Annex B): an instance as it comes off the wire, handed to ingest."""

import hashlib
import mmap

from archive.assembly import Archive
from archive.auth.principal import Principal
from archive.dicom.beginning import LOOKED_AT_BYTES
from archive.dicom.instance import AttributeWarning
from archive.dicom.sop_class import is_storage
from archive.errors import (
    ArchiveError,
    InvalidInstanceError,
    SOPClassNotSupportedError,
    StorageFullError,
)
from archive.ingest.buffers import BLOCK, BUFFERS
from archive.ingest.incoming import Digest, Incoming, Source, Spool
from archive.ingest.outcome import Outcome
from archive.log import get_logger
from dimse import messages
from dimse.header import LONGEST_HEADER, Announced, expected_header, header_for
from dimse.messages import Command
from dimse.status import SUCCESS, UNEXPECTED, WARNINGS, offending_elements, statuses

logger = get_logger(__name__)
# Before the data set: more than its header, which is to begin where a block does, for then the
# store writes the whole from where it is.
_HEADROOM = BLOCK
_MOST_WHEN_SCARCE = _HEADROOM + LONGEST_HEADER + max(LOOKED_AT_BYTES, 1 << 20)
_SCRATCH = 256 * 1024
# What has just come is in the processor's cache: its digest costs two thirds of what it would
# later. Many small pieces would cost more.
_DIGESTED_AT_ONCE = 128 * 1024


def announced(
    command: Command, abstract_syntax: str, transfer_syntax_uid: str, source: Source
) -> Announced:
    """Return what a C-STORE-RQ and its presentation context say of the data set.

    A command without a SOP class means that of its context.
    """
    return Announced(
        messages.text(command, messages.AFFECTED_SOP_CLASS_UID) or abstract_syntax,
        messages.text(command, messages.AFFECTED_SOP_INSTANCE_UID),
        transfer_syntax_uid,
        source,
    )


def unacceptable(command: Command, abstract_syntax: str) -> InvalidInstanceError | None:
    """Return why a C-STORE-RQ cannot be served on a context, if so.

    A class of storage on the context of another is taken: nothing is read by it, and what is
    sent so would be lost otherwise.
    """
    named = messages.text(command, messages.AFFECTED_SOP_CLASS_UID) or abstract_syntax
    for sop_class_uid in (abstract_syntax, named):
        if not is_storage(sop_class_uid):
            return SOPClassNotSupportedError(f"no storage class: {sop_class_uid}")
    if not messages.has_data_set(command):
        return InvalidInstanceError("the command has no data set", tag="00000800")
    return None


class Reception:
    """One instance being received: the data set, which will get its header in front.

    In memory while it is small; beyond the threshold in a spool on the store's volume. The
    socket is read straight into `space`.

    Parameters
    ----------
    archive
        Where it goes.
    command
        The C-STORE-RQ.
    announced
        What command and presentation context say of it.
    principal
        Who sends.
    refusal
        Why it is not taken: said once the data set has been read.
    """

    def __init__(
        self,
        archive: Archive,
        command: Command,
        announced: Announced,
        *,
        principal: Principal,
        refusal: ArchiveError | None = None,
    ) -> None:
        self.command = command
        self._archive = archive
        self._announced = announced
        self._principal = principal
        # The header is made of what the first bytes show: they have to be there.
        self._threshold = (
            _HEADROOM
            + LONGEST_HEADER
            + max(archive.config.dimse.spool_threshold_bytes, LOOKED_AT_BYTES)
        )
        self._refusal: ArchiveError | None = None
        self._spool: Spool | None = None
        self._scratch = bytearray()
        self._odd: tuple[AttributeWarning, ...] = ()
        self._buffer: mmap.mmap | None = BUFFERS.take()
        # Where the data set begins in the buffer, and where the object does: its header stands
        # before, and is as long as expected unless the data set is another than announced.
        self._expected = expected_header(announced)
        self._data_at = _HEADROOM + len(self._expected)
        self._start = self._size = self._data_at
        # Of the data set as it comes, and how far into the buffer it has got.
        self._digest = hashlib.sha256()
        self._digested = self._data_at
        if refusal is not None:
            self._refuse(refusal)
        elif not archive.ingest.has_room():
            self._refuse(StorageFullError("the archive is full: nothing more is accepted"))

    def space(self, wanted: int) -> memoryview:
        """Return where up to ``wanted`` bytes may be received; call `advance` afterwards."""
        if self._refusal is None and self._spool is None and self._is_large:
            self._begin_spool()
        if self._buffer is None:
            return memoryview(self._scratch)[: min(wanted, _SCRATCH)]
        needed = self._size + wanted
        if needed > len(self._buffer):
            self._buffer = BUFFERS.enlarged(self._buffer, needed)
        return memoryview(self._buffer)[self._size : needed]

    @property
    def _is_large(self) -> bool:
        """Whether what has come is more than should be in memory, and has its first bytes."""
        if self._size > self._threshold:
            return True
        return self._size > _MOST_WHEN_SCARCE and BUFFERS.is_scarce

    def advance(self, count: int) -> None:
        """Take over the first ``count`` bytes of what `space` returned."""
        if self._buffer is not None:
            self._size += count
            if self._size - self._digested >= _DIGESTED_AT_ONCE:
                self._digest_rest()
            return
        if self._spool is not None:
            try:
                piece = memoryview(self._scratch)[:count]
                self._digest.update(piece)
                self._spool.write(piece)
            except Exception as error:  # noqa: BLE001 - told to the sender at the end
                self._refuse(StorageFullError(f"the archive is full: {error}"))

    def _digest_rest(self) -> None:
        with memoryview(self._held) as whole:
            self._digest.update(whole[self._digested : self._size])
        self._digested = self._size

    def finish(self) -> bytes:
        """Store what was received; return the C-STORE-RSP's command set."""
        try:
            outcome = self._store()
        except ArchiveError as error:
            logger.warning(
                "instance.refused",
                extra={
                    "sop_instance_uid": self._announced.sop_instance_uid,
                    "principal": self._principal.name,
                    "reason": str(error),
                },
            )
            return messages.store_response(
                self.command, statuses(error).store, str(error), offending_elements(error)
            )
        except Exception:
            logger.exception("instance.failed", extra={"principal": self._principal.name})
            return messages.store_response(self.command, UNEXPECTED, "unexpected failure")
        finally:
            self.discard()
        status = WARNINGS[outcome.warning]
        if status == SUCCESS:
            return messages.store_response(self.command, status)
        return messages.store_response(
            self.command, status, outcome.explanation, offending_elements(outcome)
        )

    def discard(self) -> None:
        """Leave nothing of it behind; harmless after `finish`."""
        self._free_buffer()
        if self._spool is not None:
            self._spool.discard()

    def _store(self) -> Outcome:
        if self._refusal is not None:
            raise self._refusal
        store = self._archive.ingest.store
        if self._spool is not None:
            return store(self._principal, self._incoming(self._spool))
        self._put_header()
        self._digest_rest()
        with memoryview(self._held) as whole, whole[self._start : self._size] as body:
            return store(self._principal, self._incoming(body))

    def _incoming(self, body: memoryview | Spool) -> Incoming:
        return Incoming(
            body,
            self._announced.source,
            sop_class_uid=self._announced.sop_class_uid,
            sop_instance_uid=self._announced.sop_instance_uid,
            in_doubt=self._odd,
            digest=Digest(self._data_at - self._start, self._digest.digest()),
        )

    @property
    def _held(self) -> mmap.mmap:
        if self._buffer is None:
            raise ValueError("what was received is not in memory")
        return self._buffer

    def _put_header(self) -> None:
        """Put the header in front of the data set."""
        with memoryview(self._held) as whole:
            data = whole[self._data_at : self._size]
            header, self._odd = header_for(data, self._announced, self._expected)
            self._start = self._data_at - len(header)
            whole[self._start : self._data_at] = header

    def _begin_spool(self) -> None:
        try:
            self._put_header()
            self._digest_rest()
            self._spool = self._archive.ingest.new_spool()
            with memoryview(self._held) as whole:
                self._spool.write(whole[self._start : self._size])
        except InvalidInstanceError as error:
            self._refuse(error)
        except Exception as error:  # noqa: BLE001 - told to the sender at the end
            self._refuse(StorageFullError(f"the archive is full: {error}"))
        self._receive_elsewhere()

    def _refuse(self, refusal: ArchiveError) -> None:
        # The rest of the data set still has to be read: into nowhere.
        self._refusal = refusal
        if self._spool is not None:
            self._spool.discard()
            self._spool = None
        self._receive_elsewhere()

    def _receive_elsewhere(self) -> None:
        self._free_buffer()
        self._scratch = self._scratch or bytearray(_SCRATCH)

    def _free_buffer(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            BUFFERS.give_back(buffer)
