"""Storage SCP (PS3.4 Annex B): an instance as it comes off the wire, handed to ingest."""

from archive.assembly import Archive
from archive.auth.principal import Principal
from archive.dicom.part10 import build_file_meta
from archive.errors import ArchiveError, StorageFullError
from archive.ingest.incoming import Incoming, Source, Spool
from archive.ingest.outcome import Outcome
from archive.log import get_logger
from dimse import messages
from dimse.messages import Command
from dimse.status import SUCCESS, UNEXPECTED, WARNINGS, statuses

logger = get_logger(__name__)
_FIRST_CAPACITY = 256 * 1024
_SCRATCH = 256 * 1024


class Reception:
    """One instance being received: a Part 10 object that grows, header first.

    In memory while it is small; beyond the threshold in a spool on the store's volume. The
    socket is read straight into `space`.

    Parameters
    ----------
    archive
        Where it goes.
    command
        The C-STORE-RQ.
    transfer_syntax_uid
        Of the presentation context it arrives on.
    source, principal
        Who sends.
    refusal
        Why it is not taken: said once the data set has been read.
    """

    def __init__(
        self,
        archive: Archive,
        command: Command,
        transfer_syntax_uid: str,
        *,
        source: Source,
        principal: Principal,
        refusal: ArchiveError | None = None,
    ) -> None:
        self.command = command
        self._archive = archive
        self._source = source
        self._principal = principal
        self._threshold = archive.config.dimse.spool_threshold_bytes
        self._refusal: ArchiveError | None = None
        self._spool: Spool | None = None
        self._scratch: bytearray | None = None
        header = build_file_meta(
            sop_class_uid=messages.text(command, messages.AFFECTED_SOP_CLASS_UID),
            sop_instance_uid=messages.text(command, messages.AFFECTED_SOP_INSTANCE_UID),
            transfer_syntax_uid=transfer_syntax_uid,
            source_ae_title=source.calling_ae_title,
            receiving_ae_title=source.called_ae_title,
        )
        self._buffer = bytearray(_FIRST_CAPACITY)
        self._buffer[: len(header)] = header
        self._size = len(header)
        if refusal is not None:
            self._refuse(refusal)
        elif not archive.ingest.has_room():
            self._refuse(StorageFullError("the archive is full: nothing more is accepted"))

    def space(self, wanted: int) -> memoryview:
        """Return where up to ``wanted`` bytes may be received; call `advance` afterwards."""
        if self._refusal is None and self._spool is None and self._size > self._threshold:
            self._begin_spool()
        if self._scratch is not None:
            return memoryview(self._scratch)[: min(wanted, _SCRATCH)]
        needed = self._size + wanted
        if needed > len(self._buffer):
            self._buffer.extend(bytes(max(needed, 2 * len(self._buffer)) - len(self._buffer)))
        return memoryview(self._buffer)[self._size : needed]

    def advance(self, count: int) -> None:
        """Take over the first ``count`` bytes of what `space` returned."""
        if self._scratch is None:
            self._size += count
            return
        if self._spool is not None:
            try:
                self._spool.write(memoryview(self._scratch)[:count])
            except Exception as error:  # noqa: BLE001 - told to the sender at the end
                self._refuse(StorageFullError(f"the archive is full: {error}"))

    def finish(self) -> bytes:
        """Store what was received; return the C-STORE-RSP's command set."""
        try:
            outcome = self._store()
        except ArchiveError as error:
            logger.warning(
                "instance.refused",
                extra={
                    "sop_instance_uid": messages.text(
                        self.command, messages.AFFECTED_SOP_INSTANCE_UID
                    ),
                    "principal": self._principal.name,
                    "reason": str(error),
                },
            )
            return messages.store_response(self.command, statuses(error).store, str(error))
        except Exception:
            logger.exception("instance.failed", extra={"principal": self._principal.name})
            return messages.store_response(self.command, UNEXPECTED, "unexpected failure")
        finally:
            self.discard()
        status = WARNINGS[outcome.warning]
        comment = outcome.explanation if status != SUCCESS else ""
        return messages.store_response(self.command, status, comment)

    def discard(self) -> None:
        """Leave nothing of it behind; harmless after `finish`."""
        if self._spool is not None:
            self._spool.discard()

    def _store(self) -> Outcome:
        if self._refusal is not None:
            raise self._refusal
        return self._archive.ingest.store(self._principal, self._incoming())

    def _incoming(self) -> Incoming:
        body: bytearray | Spool = self._buffer
        if self._spool is not None:
            body = self._spool
        else:
            del self._buffer[self._size :]
        return Incoming(
            body,
            self._source,
            sop_class_uid=messages.text(self.command, messages.AFFECTED_SOP_CLASS_UID),
            sop_instance_uid=messages.text(self.command, messages.AFFECTED_SOP_INSTANCE_UID),
        )

    def _begin_spool(self) -> None:
        try:
            self._spool = self._archive.ingest.new_spool()
            self._spool.write(memoryview(self._buffer)[: self._size])
        except Exception as error:  # noqa: BLE001 - told to the sender at the end
            self._refuse(StorageFullError(f"the archive is full: {error}"))
        self._buffer = bytearray()
        self._scratch = bytearray(_SCRATCH)

    def _refuse(self, refusal: ArchiveError) -> None:
        # The rest of the data set still has to be read: into nowhere.
        self._refusal = refusal
        if self._spool is not None:
            self._spool.discard()
            self._spool = None
        self._buffer = bytearray()
        self._scratch = bytearray(_SCRATCH)
