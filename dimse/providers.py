"""What pynetdicom makes for every association, made once: ours have some of it of their own.

Its association makes three service providers with a dozen queues and locks, of which ours
would throw away all; and binds twenty handlers, which are the same for every one.
"""

from functools import cache, lru_cache
from typing import Any

from pynetdicom import association as stock
from pynetdicom import evt, pdu_items, pdu_primitives


def _unless_its_own(name: str) -> None:
    """Let an association that has providers of its own be made with them, and not with both."""
    module: Any = stock
    usual = getattr(module, name)

    def made(association: Any) -> Any:  # noqa: ANN401 - pynetdicom's
        own: dict[str, Any] = getattr(association, "providers", {})
        return own.get(name, usual)(association)

    setattr(module, name, made)


for _name in ("ACSE", "DULServiceProvider", "DIMSEServiceProvider"):
    _unless_its_own(_name)


# It looks at every UID with two regular expressions, its own for every association, and those
# of contexts in every request; its warning of an odd one comes the first time.
for _module in (pdu_items, pdu_primitives):
    _of: Any = _module
    _of.set_uid = lru_cache(maxsize=1024, typed=True)(_of.set_uid)


@cache
def default_handlers() -> dict[Any, Any]:
    """Return pynetdicom's own handlers, by event; to be copied, and not to be changed."""
    handlers: dict[Any, Any] = {}
    for event in evt._INTERVENTION_EVENTS:  # noqa: SLF001 - as its association does
        evt._add_handler(event, handlers, (evt.get_default_handler(event), None))  # noqa: SLF001
    return handlers
