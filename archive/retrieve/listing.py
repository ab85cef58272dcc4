"""Instances that are to be sent one after another, however many they are."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Self

from archive.errors import storage_translated
from storage.index.rows import ListedInstance, StoredInstance

__all__ = ["ListedInstance", "Listing"]

# How many are looked up at once. What is deleted or withdrawn meanwhile is noticed when the
# next so many are looked up.
_PAGE: Final = 64

Kind = tuple[str, str]


class Listing:
    """A list of instances: held in short, and looked up again when their turn comes.

    Parameters
    ----------
    entries
        The instances, in the order in which they are sent.
    fetch
        Returns those that can be had now, by key.
    """

    def __init__(
        self,
        entries: Sequence[ListedInstance],
        fetch: Callable[[Sequence[int]], Mapping[int, StoredInstance]],
    ) -> None:
        self.entries = entries
        self._fetch = fetch

    @classmethod
    def of(cls, instances: Iterable[StoredInstance]) -> Self:
        """Return a listing of instances that are known already, and held whole."""
        known = {one.instance_id: one for one in instances}
        entries = [
            ListedInstance(
                one.instance_id,
                one.sop_instance_uid,
                one.sop_class_uid,
                one.transfer_syntax_uid,
            )
            for one in known.values()
        ]
        return cls(entries, lambda _keys: known)

    def __len__(self) -> int:
        return len(self.entries)

    def kinds(self) -> list[Kind]:
        """Return which SOP classes there are in which transfer syntaxes."""
        pairs = ((one.sop_class_uid, one.transfer_syntax_uid) for one in self.entries)
        return list(dict.fromkeys(pairs))

    def read(
        self, kinds: Collection[Kind]
    ) -> Iterator[tuple[ListedInstance, StoredInstance | None]]:
        """Yield the instances of some kinds; None beside one that is no longer to be had."""
        wanted = (
            one for one in self.entries if (one.sop_class_uid, one.transfer_syntax_uid) in kinds
        )
        while page := list(islice(wanted, _PAGE)):
            with storage_translated():
                found = self._fetch([one.instance_id for one in page])
            for one in page:
                yield one, found.get(one.instance_id)
