"""Acts that the objects alone would not tell, as small objects beside them.

Deleting an instance leaves its object where it is, so an index rebuilt from the objects would
show it again. Each such act is therefore also written to ``ledger/``, durable before the index
is changed, and played back in order when the index is rebuilt.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

import orjson

from storage.index.selection import Target
from storage.objects.base import ObjectStore
from storage.objects.keys import LEDGER, new_token

DELETED: Final = "deleted"
RESTORED: Final = "restored"
POLICY: Final = "policy"


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One act.

    Parameters
    ----------
    act
        "deleted", "restored", or "policy" when the rule for conflicting content changed.
    at_us
        Microseconds since 1970.
    reason
        Why; for a policy: which.
    """

    act: str
    at_us: int
    principal: str
    reason: str
    study_instance_uid: str = ""
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None

    @property
    def target(self) -> Target:
        """What was acted upon."""
        return Target(self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)


class Ledger:
    """The acts of this archive, in the object store.

    Parameters
    ----------
    objects
        The store that also holds the instances.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def write(self, entry: LedgerEntry) -> str:
        """Write an entry, durable; return its key."""
        key = f"{LEDGER}/{new_token(entry.at_us)}~{entry.act}.json"
        self._objects.put(key, orjson.dumps(asdict(entry)))
        self._objects.settle([key])
        self._objects.forget([key])
        return key

    def withdraw(self, key: str) -> None:
        """Remove an entry whose act did not come about."""
        self._objects.delete(key)

    def entries(self, act: str = "") -> Iterator[LedgerEntry]:
        """Yield every entry, or those of one act, oldest first: keys begin with the moment."""
        ending = f"~{act}.json" if act else ".json"
        for stored in self._objects.walk(LEDGER):
            if stored.key.endswith(ending):
                record = self._objects.read(stored.key, 0, stored.size_bytes)
                yield LedgerEntry(**orjson.loads(record))
