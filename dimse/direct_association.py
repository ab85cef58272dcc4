"""The direct engine's association: its own thread reads, serves and writes."""

import threading
from typing import Any, ClassVar, Final, cast

from pynetdicom import evt

from archive.assembly import Archive
from archive.log import get_logger
from archive.threads import KeptThreads
from dimse.admission import Admission
from dimse.agreements import Agreement
from dimse.association import ServedAssociation
from dimse.direct_layer import DirectUpperLayer
from dimse.message_service import DirectMessages

logger = get_logger(__name__)
_IDLE: Final = "idle-association"
_threads: Final = KeptThreads(_IDLE)
# Awaiting the local answer to an A-ASSOCIATE-RQ (PS3.8 Table 9-3).
_AWAITS_ANSWER: Final = "Sta3"


class DirectAssociation(ServedAssociation):
    """An association that this archive accepted; this thread reads the socket itself."""

    providers: ClassVar[dict[str, Any]] = ServedAssociation.providers | {
        "DULServiceProvider": DirectUpperLayer,
        "DIMSEServiceProvider": DirectMessages,
    }

    def __init__(self, ae: Any, archive: Archive, admission: Admission) -> None:  # noqa: ANN401 - untyped
        super().__init__(ae, archive, admission)
        # Of the thread that serves it.
        self._identity = 0
        self._has_ended_all = threading.Event()
        self._began = False

    def start(self) -> None:
        """Begin, on a thread that has served others."""
        self._began = True
        _threads.run(self._serve, self.name)

    def is_alive(self) -> bool:
        """Tell whether it is still served."""
        return self._began and not self._has_ended_all.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it is no longer served."""
        if self._began:
            self._has_ended_all.wait(timeout)

    @property
    def runs_here(self) -> bool:
        """Whether this is the thread that serves it."""
        return self._identity == threading.get_ident()

    def _serve(self) -> None:
        self._identity = threading.get_ident()
        try:
            self.run_reactor()
        finally:
            threading.current_thread().name = _IDLE  # not this association's any more
            self._has_ended_all.set()

    @property
    def _layer(self) -> DirectUpperLayer:
        layer: Any = self.dul
        return cast(DirectUpperLayer, layer)

    def agree_as_before(self) -> bool:
        """Accept as the same request was accepted before; tell whether it was."""
        known = self._layer.agreement
        if known is None or self._layer.state != _AWAITS_ANSWER:
            return False
        self._accepted_cx, self._rejected_cx = dict(known.accepted), [*known.rejected]
        self.query_options = dict(known.query_options)
        self.acceptor.primitive = known.acceptance
        self._layer.accept(known.answer)
        evt.trigger(self, evt.EVT_ACCEPTED, {})
        self.is_established = True
        return True

    def remember_agreement(self) -> None:
        """Keep what was agreed, for the next time, unless somebody's secret came with it."""
        layer, requestor = self._layer, self.requestor
        if self.agreements is None or requestor.user_identity is not None:
            return
        if self.is_established and layer.answered:
            agreement = Agreement(
                requestor.primitive,
                self.acceptor.primitive,
                dict(self._accepted_cx),
                [*self._rejected_cx],
                self.query_options,
                layer.answered,
                self.calling_ae_title,
                self.called_ae_title,
                self.maximum_pdu,
            )
            self.agreements.keep(layer.request, agreement)

    def cancelled(self) -> set[int]:
        """Look for a C-CANCEL that has arrived, without waiting for one."""
        self._layer.poll()
        return super().cancelled()

    def _run_reactor(self) -> None:
        self._is_paused = False
        while not self._kill:
            context_id, msg = self.dimse.get_msg(block=False)
            if msg is not None and context_id is not None:
                self._serve_request(msg, context_id)
            elif self._has_ended():
                return
            else:
                self._layer.pump(min(self.reports.work(), self._layer.patience_s()))

    def _has_ended(self) -> bool:
        """Answer a release or an abort, or abort an association that is silent too long."""
        if self.is_established and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released = True
            self.is_established = False
        elif self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)
            self.is_aborted = True
            self.is_established = False
        elif not self.dul.is_alive():
            pass
        elif self.dul.idle_timer_expired():
            logger.warning("association.silent", extra=self._named())
            self.abort()
        else:
            return False
        return True
