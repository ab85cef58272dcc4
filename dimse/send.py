"""Sending stored instances: C-STORE sub-operations, straight from the object's bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pynetdicom.dimse_primitives import C_STORE

from archive.assembly import Archive
from archive.auth.principal import Principal
from archive.dicom.transfer_syntax import transfer_syntax
from archive.errors import ArchiveError, NotAcceptableError
from archive.identity import InstanceRef
from archive.log import get_logger
from archive.retrieve.values import StoredInstance
from dimse import messages
from dimse.contexts import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN

logger = get_logger(__name__)
_UNCOMPRESSED: Final = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)
# Small PDUs are gathered into writes of about this size.
_WRITE_BYTES: Final = 256 * 1024


class Wire(Protocol):
    """An established association, as far as sending needs it."""

    @property
    def maximum_pdu(self) -> int:
        """The longest PDU the other side takes; 0 for no limit."""

    def send_pdus(self, data: bytes) -> None:
        """Write framed PDUs."""


@dataclass(frozen=True, slots=True)
class Suboperation:
    """One C-STORE of a C-GET or C-MOVE.

    Parameters
    ----------
    priority
        Of the request it serves.
    originator
        AE title and message ID of the C-MOVE; None for C-GET.
    """

    message_id: int
    priority: int = 0
    originator: tuple[str, int] | None = None


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
    """

    def __init__(
        self,
        archive: Archive,
        principal: Principal,
        association: Any,  # noqa: ANN401 - pynetdicom's
        wire: Wire,
    ) -> None:
        self._archive = archive
        self._principal = principal
        self._association = association
        self._wire = wire
        self._contexts: dict[str, dict[str, int]] = {}
        for context in association.accepted_contexts:
            if context.as_scu:
                of_class = self._contexts.setdefault(str(context.abstract_syntax), {})
                of_class.setdefault(str(context.transfer_syntax[0]), context.context_id)

    def send(self, stored: StoredInstance, operation: Suboperation) -> int:
        """Send one instance; return the status the peer answered.

        Raises
        ------
        ArchiveError
            If it cannot be sent here: no context for it, or not in a syntax the peer took.
        OSError
            If the connection is gone.
        """
        context_id, chunks = self._prepared(stored)
        command = messages.store_request(
            sop_class_uid=stored.sop_class_uid,
            sop_instance_uid=stored.sop_instance_uid,
            message_id=operation.message_id,
            priority=operation.priority,
            originator=operation.originator,
        )
        control = messages.COMMAND_FRAGMENT | messages.LAST_FRAGMENT
        pending = bytearray(messages.pdu(context_id, control, command))
        for data in messages.iter_pdus(context_id, chunks, maximum_pdu=self._wire.maximum_pdu):
            pending += data
            if len(pending) >= _WRITE_BYTES:
                self._wire.send_pdus(bytes(pending))
                pending.clear()
        self._wire.send_pdus(bytes(pending))
        return self._answer()

    def _prepared(self, stored: StoredInstance) -> tuple[int, Iterator[bytes]]:
        of_class = self._contexts.get(stored.sop_class_uid, {})
        if stored.transfer_syntax_uid in of_class:
            chunks = self._archive.retrieve.iter_chunks(stored, offset=stored.dataset_offset)
            return of_class[stored.transfer_syntax_uid], chunks
        for target in _UNCOMPRESSED:
            if target in of_class:
                return of_class[target], self._transcoded(stored, target)
        raise NotAcceptableError(
            f"no presentation context takes SOP class {stored.sop_class_uid} in "
            f"{transfer_syntax(stored.transfer_syntax_uid).name}, nor uncompressed"
        )

    def _transcoded(self, stored: StoredInstance, target: str) -> Iterator[bytes]:
        ref = InstanceRef(
            stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
        )
        transcoded = self._archive.render.transcode_instance(self._principal, ref, target)
        # Once the command is out the data set must follow whole: what may fail, fails first.
        return iter(list(transcoded.data_set()))

    def _answer(self) -> int:
        while True:
            _, answer = self._association.dimse.get_msg(block=True)
            if answer is None:
                raise ConnectionResetError("the peer did not answer a C-STORE")
            if isinstance(answer, C_STORE) and answer.MessageIDBeingRespondedTo is not None:
                return int(answer.Status or 0)


def log_failed(stored: StoredInstance, error: ArchiveError | str) -> None:
    """Say why one sub-operation failed."""
    logger.warning(
        "suboperation.failed",
        extra={"sop_instance_uid": stored.sop_instance_uid, "reason": str(error)},
    )
