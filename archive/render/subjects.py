"""Instances that were looked at: what each is shown as, remembered while it stays the same."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import orjson

from archive.auth.principal import Principal
from archive.errors import NotFoundError
from archive.identity import InstanceRef, ResourceRef
from archive.render.pixels import Pixels
from archive.render.presentation import pixel_description
from archive.render.subject import Subject, subject_of
from archive.retrieve.service import RetrieveService
from archive.retrieve.values import StoredInstance
from storage.index.scope import Scope

# Of DICOM JSON; as objects it takes about eight times as much.
_MOST_JSON_BYTES: Final = 1 << 20
# How many studies and series have their representative remembered.
_MOST_STANDING: Final = 256


class Subjects:
    """Finds instances and tells what they can be shown as. Thread-safe.

    Every question is a SELECT with the scope of who asks. What it says of the instance - its
    digest, and the number of its last change among it - decides whether what is remembered
    still holds; only reading its metadata again is saved.

    Parameters
    ----------
    retrieve
        Gives instances and their metadata.
    max_json_bytes
        How much metadata is remembered, by its length as JSON.
    """

    def __init__(
        self, retrieve: RetrieveService, max_json_bytes: int = _MOST_JSON_BYTES
    ) -> None:
        self._retrieve = retrieve
        self._max_json_bytes = max_json_bytes
        self._json_bytes = 0
        self._known: OrderedDict[int, tuple[Subject, int]] = OrderedDict()
        self._standing: dict[tuple[Scope, ResourceRef], tuple[int, InstanceRef]] = {}
        self._lock = threading.Lock()

    def find(self, principal: Principal, ref: InstanceRef) -> Subject:
        """Return what one instance can be shown as.

        Raises
        ------
        NotFoundError
            If there is none that ``principal`` may see.
        """
        found = self._retrieve.described(principal, ref)
        known = self._remembered(found.stored)
        if known is not None:
            return known
        json = found.json()
        attributes: dict[str, Any] = orjson.loads(json)
        subject = subject_of(found.stored, attributes, found.table)
        self._remember(subject, len(json))
        return subject

    def recall(self, principal: Principal, ref: ResourceRef) -> Subject | None:
        """Return who stands for ``ref`` if that is known already, by a row or two; else None.

        Raises
        ------
        NotFoundError
            If there is nothing that ``principal`` may see.
        """
        if isinstance(ref, InstanceRef):
            return self._remembered(self._retrieve.instance(principal, ref))
        chosen = self._chosen(principal, ref, self._retrieve.state(principal, ref).change)
        return None if chosen is None else self.recall(principal, chosen)

    def pixels(self, principal: Principal, ref: InstanceRef) -> Pixels | None:
        """Return the frames of an instance, shown as images or not; None when it has none.

        Raises
        ------
        NotFoundError
            If there is none that ``principal`` may see.
        """
        subject = self.find(principal, ref)
        if subject.pixels is not None:
            return subject.pixels
        found = self._retrieve.described(principal, ref)
        description = pixel_description(subject.attributes)
        if found.table is None or description is None:
            return None
        return Pixels(found.stored, subject.attributes, found.table, description)

    def representative(self, principal: Principal, ref: ResourceRef) -> Subject:
        """Return the instance that stands for a study, a series, or itself.

        The one in the middle of the first series whose middle has an image, else the first
        that can be shown at all, else the first. It is chosen again when the number of the
        last change of the study or series is another.

        Raises
        ------
        NotFoundError
            If there is nothing that ``principal`` may see.
        """
        if isinstance(ref, InstanceRef):
            return self.find(principal, ref)
        change = self._retrieve.state(principal, ref).change
        chosen = self._chosen(principal, ref, change)
        if chosen is not None:
            with contextlib.suppress(NotFoundError):  # gone since the change was asked for
                return self.find(principal, chosen)
        subject = self._choose(principal, self._retrieve.standing(principal, ref))
        with self._lock:
            while len(self._standing) >= _MOST_STANDING:
                del self._standing[next(iter(self._standing))]
            self._standing[principal.scope, ref] = change, subject.ref
        return subject

    def _chosen(
        self, principal: Principal, ref: ResourceRef, change: int
    ) -> InstanceRef | None:
        chosen_at, chosen = self._standing.get((principal.scope, ref), (None, None))
        return chosen if chosen_at == change else None

    def _choose(
        self, principal: Principal, standing: Sequence[tuple[InstanceRef, bool]]
    ) -> Subject:
        shown: Subject | None = None
        for ref, is_middle in standing:
            if not is_middle:
                continue
            subject = self.find(principal, ref)
            if subject.pixels is not None:
                return subject
            if shown is None and subject.media_types:
                shown = subject
        return shown or self.find(principal, standing[0][0])

    def _remembered(self, stored: StoredInstance) -> Subject | None:
        with self._lock:
            known = self._known.get(stored.instance_id)
            if known is None or known[0].stored != stored:
                return None
            self._known.move_to_end(stored.instance_id)
            return known[0]

    def _remember(self, subject: Subject, json_bytes: int) -> None:
        with self._lock:
            _, replaced = self._known.pop(subject.stored.instance_id, (None, 0))
            self._known[subject.stored.instance_id] = subject, json_bytes
            self._json_bytes += json_bytes - replaced
            # The last one stays, however large: its frames are asked for one by one.
            while self._json_bytes > self._max_json_bytes and len(self._known) > 1:
                _, (_, dropped) = self._known.popitem(last=False)
                self._json_bytes -= dropped
