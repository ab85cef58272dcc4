"""Delete, restore, purge: soft first, and for good only after a while."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from archive.auth.principal import Principal, Right
from archive.errors import ForbiddenError, NotFoundError, storage_translated
from archive.identity import InstanceRef, ResourceRef, SeriesRef, StudyRef
from archive.lifecycle.ledger import DELETED, RESTORED, Ledger, LedgerEntry
from archive.log import get_logger
from storage.index import clock
from storage.index.lifecycle import Act, InstanceLifecycle
from storage.index.selection import Target
from storage.objects.base import ObjectStore

logger = get_logger(__name__)
_BATCH: Final = 500
_Change = Callable[[Act], int]


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge freed."""

    instances: int = 0
    bytes_: int = 0


class LifecycleService:
    """Takes instances out of sight, brings them back, and frees what was deleted long ago.

    Parameters
    ----------
    lifecycle
        The index.
    objects
        Where the bytes lie.
    """

    def __init__(self, lifecycle: InstanceLifecycle, objects: ObjectStore) -> None:
        self._lifecycle = lifecycle
        self._objects = objects
        self._ledger = Ledger(objects)

    def delete(self, principal: Principal, ref: ResourceRef, *, reason: str) -> int:
        """Take what ``ref`` names out of sight; its bytes stay until a purge.

        Returns
        -------
        int
            How many instances.

        Raises
        ------
        NotFoundError
            If there is nothing to delete.
        ForbiddenError
            If ``principal`` may not delete.
        """
        _require(principal, Right.DELETE)
        target = _target(ref)
        count = self._act(
            principal,
            DELETED,
            target,
            reason,
            lambda act: self._lifecycle.delete(principal.scope, target, act),
        )
        if not count:
            raise NotFoundError(f"nothing to delete under {describe(ref)}")
        return count

    def restore(self, principal: Principal, ref: ResourceRef) -> int:
        """Bring back what was deleted under ``ref``; return how many instances.

        Raises
        ------
        NotFoundError
            If nothing under ``ref`` is deleted, or it was purged.
        """
        _require(principal, Right.ADMIN)
        target = _target(ref)
        count = self._act(
            principal,
            RESTORED,
            target,
            "",
            lambda act: self._lifecycle.restore(principal.scope, target, act),
        )
        if not count:
            raise NotFoundError(f"nothing deleted under {describe(ref)} could be restored")
        return count

    def purge(self, principal: Principal, *, older_than: timedelta) -> Purged:
        """Free the bytes of what was deleted more than ``older_than`` ago: for good."""
        _require(principal, Right.ADMIN)
        now = clock.now_us()
        before = now - older_than // timedelta(microseconds=1)
        act = Act(principal.name, f"deleted more than {older_than} ago", now)
        instances = size = 0
        with storage_translated():
            while found := self._lifecycle.deleted_before(before, _BATCH):
                # Objects first: a crash leaves deleted rows, which the next purge finds.
                for _, object_key, _ in found:
                    self._objects.delete(object_key)
                self._lifecycle.forget([key for key, _, _ in found], act)
                instances += len(found)
                size += sum(length for _, _, length in found)
        logger.info("instances.purged", extra={"instances": instances, "bytes": size})
        return Purged(instances, size)

    def sweep(self) -> int:
        """Remove what writers that died left behind unindexed; return how many objects."""
        removed = 0
        with storage_translated():
            for keys in self._objects.strays():
                instances = [key for key in keys if key.startswith("objects/")]
                for key in self._lifecycle.unindexed(instances):
                    removed += self._objects.discard_stray(key)
        if removed:
            logger.info("objects.swept", extra={"objects": removed})
        return removed

    def _act(
        self, principal: Principal, kind: str, target: Target, reason: str, change: _Change
    ) -> int:
        at_us = clock.now_us()
        entry = LedgerEntry(
            act=kind,
            at_us=at_us,
            principal=principal.name,
            reason=reason,
            study_instance_uid=target.study_instance_uid,
            series_instance_uid=target.series_instance_uid,
            sop_instance_uid=target.sop_instance_uid,
        )
        with storage_translated():
            key = self._ledger.write(entry)
            count = 0
            try:
                count = change(Act(principal.name, reason, at_us))
            finally:
                if not count:
                    self._ledger.withdraw(key)
        logger.info(
            "instances.changed",
            extra={"act": kind, "instances": count, "principal": principal.name},
        )
        return count


def describe(ref: ResourceRef) -> str:
    """Return ``ref`` as the command line writes it: UIDs joined by slashes."""
    match ref:
        case StudyRef():
            return ref.study_instance_uid
        case SeriesRef():
            return f"{ref.study_instance_uid}/{ref.series_instance_uid}"
        case InstanceRef():
            return f"{ref.study_instance_uid}/{ref.series_instance_uid}/{ref.sop_instance_uid}"


def _target(ref: ResourceRef) -> Target:
    return Target(*describe(ref).split("/"))


def _require(principal: Principal, right: Right) -> None:
    if right not in principal.rights:
        raise ForbiddenError(f"{principal.name} may not change or delete what is stored")
