"""Which presentation contexts are proposed to send instances (PS3.8 §7.1.1.13, PS3.5 §10.1)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from archive.retrieve.listing import Kind
from dimse.contexts import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN

# One context: a SOP class, and the transfer syntaxes of which the peer takes one.
Proposal = tuple[str, tuple[str, ...]]

_MOST_CONTEXTS: Final = 128  # their identifiers are the odd numbers of a byte (Table 9-13)
_UNCOMPRESSED: Final = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)


def proposals(kind: Kind, preferred: Sequence[str] = ()) -> list[Proposal]:
    """Return the contexts for instances of one SOP class that are stored in one syntax.

    Each compressed transfer syntax stands alone, so that the peer says of each whether it
    takes it; and the uncompressed ones, of which it must know at least one.

    Parameters
    ----------
    preferred
        What the peer is sent instead of what is stored, best first.
    """
    sop_class, stored = kind
    if stored in _UNCOMPRESSED and not preferred:
        return [(sop_class, (uid,)) for uid in _UNCOMPRESSED]
    wanted = dict.fromkeys(preferred or [stored])
    contexts = [(sop_class, (uid,)) for uid in wanted if uid not in _UNCOMPRESSED]
    native = dict.fromkeys([*(uid for uid in wanted if uid in _UNCOMPRESSED), *_UNCOMPRESSED])
    return [*contexts[: _MOST_CONTEXTS - 1], (sop_class, tuple(native))]


def batches(
    kinds: Iterable[Kind], preferred: Sequence[str] = ()
) -> Iterator[tuple[frozenset[Kind], list[Proposal]]]:
    """Yield what one association can carry, and the contexts it needs, until all is carried."""
    batch: list[Kind] = []
    contexts: dict[Proposal, None] = {}
    for kind in kinds:
        more = dict.fromkeys(proposals(kind, preferred))
        if len(contexts | more) > _MOST_CONTEXTS:
            yield frozenset(batch), list(contexts)
            batch, contexts = [], {}
        batch.append(kind)
        contexts |= more
    if batch:
        yield frozenset(batch), list(contexts)
