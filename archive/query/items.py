"""What is returned of a sequence that was asked for with keys in it (PS3.4 §C.2.2.2.6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from archive.dicom.dictionary import public_vr
from archive.query.forms import asks_for_all
from archive.query.request import SearchKey, SearchRequest
from archive.query.residual import Residual, residual_of

Item = dict[str, dict[str, Any]]
# What was asked of an item: the tags, and of a sequence in it what was asked of its items.
# Nothing in it asks for all.
Asked = Mapping[str, "Asked"]
_NOTHING: Final = Residual()


@dataclass(frozen=True, slots=True)
class WantedItems:
    """Chooses the items of one sequence that match, and of them what was asked for.

    Parameters
    ----------
    asked
        What was asked of each item.
    keys
        What an item must match.
    """

    asked: Asked
    keys: Residual = field(default_factory=Residual)

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Return the matching items, with the requested attributes only.

        All of them if none matches: the instance that did match is another than the one that
        speaks for the study or the series.
        """
        matching = [item for item in items if self.keys.matches_item(item)]
        return [self._asked_of(item) for item in matching or items]

    def _asked_of(self, item: Item) -> Item:
        if not self.asked:
            return dict(item)
        return {tag: self._element(item, tag, inner) for tag, inner in self.asked.items()}

    def _element(self, item: Item, tag: str, inner: Asked) -> dict[str, Any]:
        element = item.get(tag)
        if element is None:
            return {"vr": public_vr(int(tag, 16))[:2] or "UN"}
        if not inner or "Value" not in element:
            return element
        below = WantedItems(inner, self.keys.sequences.get(tag, _NOTHING))
        return {"vr": "SQ", "Value": below.of(element["Value"])}


def wanted_items(tag: str, asked: Asked, request: SearchRequest) -> WantedItems:
    """Return what chooses the items of the sequence ``tag``, after the keys of ``request``."""
    keys: list[SearchKey] = [
        key for key in request.keys if key.path[0] == tag and not asks_for_all(key)
    ]
    residual = residual_of(keys, request)
    inner = residual.sequences.get(tag, _NOTHING) if residual else _NOTHING
    return WantedItems(asked, inner)
