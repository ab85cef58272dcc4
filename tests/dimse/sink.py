"""A Storage SCP that does what a test tells it to, and remembers what it got."""

import threading
from collections.abc import Callable

from pynetdicom import AE, evt

from archive.config import Peer
from tests.builders import SECONDARY_CAPTURE
from tests.conftest import free_port

SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]


class Sink:
    """Starts and stops; each time on the same port.

    Parameters
    ----------
    title
        Its AE title.
    answer
        What it does with an instance: a status, by SOP Instance UID; None aborts.
    """

    def __init__(
        self, title: str = "SINK", answer: Callable[[str], int | None] = lambda uid: 0
    ) -> None:
        self.title, self.answer = title, answer
        self.port = free_port()
        self.got: list[str] = []
        self.callers: set[str] = set()
        self.associations = 0
        self.gate = threading.Event()
        self.gate.set()
        self._server = None

    @property
    def peer(self) -> Peer:
        return Peer(ae_title=self.title, host="127.0.0.1", port=self.port)

    def start(self, *classes: str) -> "Sink":
        entity = AE(self.title)
        for uid in classes or (SECONDARY_CAPTURE,):
            entity.add_supported_context(uid, SYNTAXES)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_ACCEPTED, self._accepted)]
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers
        )
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def __enter__(self) -> "Sink":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    def _accepted(self, event) -> None:
        self.associations += 1

    def _store(self, event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.callers.add(event.assoc.requestor.ae_title)
        self.gate.wait(30)
        status = self.answer(uid)
        if status is None:
            event.assoc.abort()
            return 0
        if status == 0 or status >> 12 == 0xB:
            self.got.append(uid)
        return status
