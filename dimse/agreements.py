"""What was negotiated once: a request that is the same to the byte has the same answer.

Modalities call with the same proposal hundreds of times a day, and what it is answered depends
on nothing else: who is let in is decided before, each time. pynetdicom's objects, which the
first of such requests goes through, take 1 ms.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dimse.contexts import VERIFICATION
from dimse.negotiation import QueryOptions

_MOST: Final = 64
_LONGEST_BYTES: Final = 32768


@dataclass(frozen=True, slots=True)
class Agreement:
    """A request, decoded, and what was agreed; nothing of it is written to.

    Parameters
    ----------
    request, acceptance
        pynetdicom's primitives of the A-ASSOCIATE-RQ and of its answer.
    accepted, rejected
        Its presentation contexts: by ID; in a list.
    query_options
        By SOP class.
    answer
        The A-ASSOCIATE-AC PDU.
    calling, called, maximum_pdu
        Of the request: AE titles, trimmed; the longest PDU that the peer takes, 0 for no limit.
    """

    request: Any
    acceptance: Any
    accepted: Mapping[int, Any]
    rejected: Sequence[Any]
    query_options: Mapping[str, QueryOptions]
    answer: bytes
    calling: str = ""
    called: str = ""
    maximum_pdu: int = 0

    protocol_version = 1

    @property
    def only_verifies(self) -> bool:
        """Whether nothing was accepted but Verification."""
        return all(str(one.abstract_syntax) == VERIFICATION for one in self.accepted.values())

    def to_primitive(self) -> Any:  # noqa: ANN401 - pynetdicom's
        """Stand in for the PDU that was decoded."""
        return self.request


class Agreements:
    """Those of a server, by the bytes of requests; what was used least recently makes room."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, Agreement] = OrderedDict()

    def find(self, request: bytes) -> Agreement | None:
        """Return what was agreed upon an A-ASSOCIATE-RQ PDU."""
        with self._lock:
            found = self._known.get(request)
            if found is not None:
                self._known.move_to_end(request)
        return found

    def keep(self, request: bytes, agreement: Agreement) -> None:
        """Remember one."""
        if len(request) > _LONGEST_BYTES:
            return
        with self._lock:
            self._known[request] = agreement
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
