"""One DICOM worker: accepts associations on a socket it may share, a thread for each."""

import contextlib
import gc
import logging
import signal
import socket
import sys
import threading
import time
from functools import partial
from types import FrameType
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation
from pynetdicom.transport import AddressInformation

from archive.assembly import Archive, open_archive
from archive.background import House, keeping
from archive.config import Config
from archive.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from archive.log import configure_logging, get_logger
from archive.processes import open_more_files
from archive.readiness import RUN_FOLDER
from dimse.admission import Admission
from dimse.agreements import Agreements
from dimse.association import ServedAssociation
from dimse.connection import Connection
from dimse.contexts import service_contexts
from dimse.direct_association import DirectAssociation
from dimse.doors import Arrival, Doors
from dimse.greeting import Greeter, Guest
from dimse.messages import MAXIMUM_PDU
from dimse.negotiation import on_extended
from dimse.pool import AssociationPool, Share
from dimse.presence import Presence
from dimse.tls import Mode, TlsAcceptor

logger = get_logger(__name__)

# What an association may take to abort, when the server stops.
_ABORTING_S: Final = 0.5
# With many associations a thread that holds the interpreter for 5 ms halves the rate.
_SWITCH_INTERVAL_S: Final = 0.0005
# What is remembered of one instance for the next hundred is no garbage: by default the
# collector looks it through again and again. An association leaves some hundred objects.
_COLLECTED_AT: Final = 10_000


class DicomServer:
    """Accepts associations until it is told to stop.

    Parameters
    ----------
    archive
        What serves them.
    listening
        A listening socket; several processes may share it.
    tls_listening
        One on which nothing but TLS is spoken.
    """

    def __init__(
        self,
        archive: Archive,
        listening: socket.socket,
        tls_listening: socket.socket | None = None,
    ) -> None:
        self._archive = archive
        self._settings = archive.config.dimse
        self._listening: dict[socket.socket, Mode] = {listening: self._settings.tls}
        if tls_listening is not None:
            self._listening[tls_listening] = "required"
        self._stopping = threading.Event()
        self._doors = Doors(self._listening)
        self._tls = TlsAcceptor(self._settings, self._stopping)
        self._presence = Presence(
            archive.config.archive.data_dir / RUN_FOLDER / "associations",
            self._settings.max_associations,
        )
        self._pool = AssociationPool(archive)
        self._contexts = service_contexts()
        self._agreements = Agreements()
        self._admission = Admission(archive, self._presence)
        self._engine = (
            DirectAssociation if self._settings.engine == "direct" else ServedAssociation
        )
        self._greeter = Greeter(self._doors, self._agreements, self._admission, self._begin)
        self._entity = self._application_entity()
        self._accepted = 0
        # Of the first association, for all: to bind them costs as much as a C-ECHO.
        self._handlers: Any = None
        self._associations: set[ServedAssociation] = set()

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        port: int = next(iter(self._listening)).getsockname()[1]
        return port

    def serve(self) -> None:
        """Accept until `stop` is called; then let associations finish, for a while."""
        with self._doors:
            while not self._stopping.is_set():
                for one in self._doors.wait(self._greeter.patience_s):
                    if isinstance(one, Arrival):
                        self._accept(one)
                    else:
                        self._greeter.hear(one)
                self._greeter.see_to()
            self._greeter.close()
        self._drain()
        self._pool.close()
        self._presence.close()

    def stop(self) -> None:
        """Accept nothing more."""
        self._stopping.set()
        self._doors.ring()

    def _accept(self, arrival: Arrival) -> None:
        self._accepted += 1
        mode = self._listening[arrival.listening]
        name = f"association-{self._accepted}"
        guest = Guest(arrival.connection, arrival.address, name, mode)
        if mode == "off" and self._engine is DirectAssociation:
            self._greeter.welcome(guest)
        else:
            self._begin(guest)

    def _begin(self, guest: Guest) -> None:
        association = self._association(guest)
        association.secure = partial(self._tls.secure, mode=guest.mode, heard=guest.heard)
        if guest.caller is not None:
            association.resume(guest.caller, guest.slot)
        self._associations = {one for one in self._associations if one.is_alive()}
        self._associations.add(association)
        association.start()

    def _association(self, guest: Guest) -> ServedAssociation:
        association = self._engine(self._entity, self._archive, self._admission)
        connection = guest.connection
        association.name = guest.name
        association.connection = connection
        association.links = Share(self._pool)
        association.agreements = self._agreements
        association.set_socket(
            Connection(
                association,
                connection,
                timeout_s=self._settings.network_timeout_s,
                heard=guest.heard,
                said=guest.said,
            )
        )
        acceptor, requestor = association.acceptor, association.requestor
        acceptor.maximum_length = MAXIMUM_PDU
        acceptor.ae_title = self._settings.ae_title
        acceptor.address_info = AddressInformation.from_tuple(connection.getsockname())
        acceptor.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        acceptor.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        # Negotiation only reads them: one list serves all, where pynetdicom copies it deeply.
        acceptor.supported_contexts = self._contexts
        requestor.address_info = AddressInformation.from_tuple(guest.address)
        if self._handlers is not None:
            association._handlers = self._handlers  # noqa: SLF001 - nobody binds more
            return association
        association.bind(evt.EVT_SOP_EXTENDED, on_extended)
        association.bind(evt.EVT_REQUESTED, _answer_default_window)
        association.bind(evt.EVT_ASYNC_OPS, _one_operation)
        association.bind(evt.EVT_ACCEPTED, _log_accepted)
        association.bind(evt.EVT_REJECTED, _log_rejected)
        self._handlers = association._handlers  # noqa: SLF001
        return association

    def _application_entity(self) -> ApplicationEntity:
        entity = ApplicationEntity(self._settings.ae_title)
        # Who is let in, and how many, is `ServedAssociation.admit`'s to say.
        entity.maximum_associations = sys.maxsize
        entity.require_called_aet = False
        entity.acse_timeout = self._settings.association_timeout_s
        entity.network_timeout = self._settings.idle_timeout_s
        entity.dimse_timeout = self._settings.network_timeout_s
        return entity

    def _drain(self) -> None:
        end = time.monotonic() + self._archive.config.archive.drain_timeout_s
        for association in self._associations:
            association.join(max(end - time.monotonic(), 0))
        for association in self._associations:
            if association.is_alive():
                association.abort(block=False)
                association.join(_ABORTING_S)


def _one_operation(_event: evt.Event) -> tuple[int, int]:
    """Answer an asynchronous operations window: one at a time (PS3.7 §D.3.3.3)."""
    return 1, 1


def _answer_default_window(event: evt.Event) -> None:
    """Answer also who asks for what holds anyway: pynetdicom leaves that out."""
    association: Any = event.assoc
    kind = AsynchronousOperationsWindowNegotiation
    asked = any(isinstance(item, kind) for item in association.requestor.user_information)
    if asked and association.requestor.asynchronous_operations == (1, 1):
        answer = kind()
        answer.maximum_number_operations_invoked = 1
        answer.maximum_number_operations_performed = 1
        association.acceptor.add_negotiation_item(answer)


def _log_accepted(event: evt.Event) -> None:
    association: Any = event.assoc
    if not association.was_accepted:
        _log("association.accepted", event)


def _log_rejected(event: evt.Event) -> None:
    _log("association.rejected", event)


def _log(name: str, event: evt.Event) -> None:
    association: Any = event.assoc  # a `ServedAssociation`
    rejection = association.rejection
    logger.log(
        logging.INFO if rejection is None else logging.WARNING,
        name,
        extra={
            "association": association.name,
            "calling_ae_title": association.calling_ae_title,
            "remote": str(association.requestor.address),
        }
        | (
            {
                "contexts": len(association.accepted_contexts),
                "principal": association.principal.name,
            }
            if rejection is None
            else {"reason": rejection.why}
        )
        | ({"tls_subject": str(association.tls_subject)} if association.tls_subject else {}),
    )


def run(
    listening: socket.socket,
    config: Config,
    *,
    render_address: str | None,
    tls_listening: socket.socket | None = None,
    house: House | None = None,
) -> None:
    """Be one DICOM worker until SIGTERM; what the supervisor starts."""
    configure_logging(config.logging.level)
    open_more_files()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.set_threshold(_COLLECTED_AT)
    with (
        open_archive(config, render_address=render_address) as archive,
        keeping(archive, house),
    ):
        server = DicomServer(archive, listening, tls_listening)

        def stop(_number: int, _frame: FrameType | None) -> None:
            server.stop()

        signal.signal(signal.SIGTERM, stop)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve()
