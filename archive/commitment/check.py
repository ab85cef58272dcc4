"""Whether the archive can stand for instances: there, sound, and of the class that is named.

A commitment is what lets a modality delete its own copy, so nothing is taken on trust: every
object is read again and compared with the digest that was recorded when it was stored.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable
from typing import Final

from archive.commitment.values import FailureReason, Reference
from archive.dicom.sop_class import is_storage
from archive.errors import UnavailableError, storage_translated
from archive.lifecycle.verify import Fault, check_object
from storage.errors import StoreUnavailableError
from storage.index.commitments import CommitmentTable, KeptInstance
from storage.index.scope import Scope
from storage.objects.base import ObjectStore

_FAULTS = {
    Fault.LOST: FailureReason.NO_SUCH_INSTANCE,
    Fault.CORRUPT: FailureReason.PROCESSING_FAILURE,
}
_Reason = FailureReason | None
_PAGE: Final = 500


class Check:
    """One look at everything a request names.

    Parameters
    ----------
    table, objects
        Index and store.
    scope
        What the asker may see.
    asker
        AE title of the asker: what it sent itself, and is held aside, is not committed to.
    last
        Whether this is the last attempt: what cannot be read even now is a resource limitation,
        where else the attempt fails as a whole.
    """

    def __init__(
        self,
        table: CommitmentTable,
        objects: ObjectStore,
        *,
        scope: Scope,
        asker: str,
        last: bool,
    ) -> None:
        self._table = table
        self._objects = objects
        self._scope = scope
        self._asker = asker
        self._last = last

    def run(
        self, references: tuple[Reference, ...]
    ) -> Generator[None, None, dict[int, FailureReason]]:
        """Check; yield between pieces of the work; return what fails, by place.

        Raises
        ------
        UnavailableError, BusyError
            If the index does not answer now, or the store, unless this is the last attempt.
        """
        known: dict[Reference, _Reason] = {}
        kept = yield from self._kept({one.sop_instance_uid for one in references})
        for reference in references:
            if reference not in known:
                known[reference] = yield from self._judge(
                    reference, kept.get(reference.sop_instance_uid, [])
                )
        reasons = (known[reference] for reference in references)
        return {place: reason for place, reason in enumerate(reasons) if reason is not None}

    def _kept(
        self, uids: Iterable[str]
    ) -> Generator[None, None, dict[str, list[KeptInstance]]]:
        kept: dict[str, list[KeptInstance]] = defaultdict(list)
        wanted = sorted(uids)
        for first in range(0, len(wanted), _PAGE):
            with storage_translated():
                found = self._table.kept(self._scope, wanted[first : first + _PAGE])
            for one in found:
                kept[one.sop_instance_uid].append(one)
            yield
        return kept

    def _judge(
        self, reference: Reference, kept: list[KeptInstance]
    ) -> Generator[None, None, _Reason]:
        visible = [one for one in kept if one.visible]
        if not visible:
            supported = is_storage(reference.sop_class_uid)
            return (
                FailureReason.NO_SUCH_INSTANCE
                if supported
                else FailureReason.CLASS_NOT_SUPPORTED
            )
        if any(self._is_set_aside(one, visible) for one in kept if not one.visible):
            return FailureReason.NO_SUCH_INSTANCE
        agreeing = [one for one in visible if one.sop_class_uid == reference.sop_class_uid]
        if not agreeing:
            return FailureReason.CLASS_INSTANCE_CONFLICT
        # The request names no study: where a SOP UID is in several, all of them are checked.
        for one in agreeing:
            reason = yield from self._read(one)
            if reason is not None:
                return reason
        return None

    def _is_set_aside(self, held: KeptInstance, visible: list[KeptInstance]) -> bool:
        """Tell whether the last that the asker sent under this UID is not what is shown."""
        shown = max((one.version for one in visible if one.place == held.place), default=0)
        return held.sender == self._asker and held.version > shown

    def _read(self, one: KeptInstance) -> Generator[None, None, _Reason]:
        try:
            fault = yield from check_object(self._objects, one.stored)
        except StoreUnavailableError as error:
            return self._not_now(str(error))
        if fault is Fault.LOST and not self._objects.answers():
            return self._not_now("the folder of objects is not there")
        return _FAULTS.get(fault)

    def _not_now(self, why: str) -> FailureReason:
        if self._last:
            return FailureReason.RESOURCE_LIMITATION
        raise UnavailableError(f"objects cannot be read now: {why}")
