"""One association as the acceptor serves it: messages to services, on either engine."""

import socket
from collections.abc import Callable
from typing import Any, ClassVar, Final

from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import (
    C_ECHO,
    C_FIND,
    C_GET,
    C_MOVE,
    N_ACTION,
    N_EVENT_REPORT,
)

from archive.assembly import Archive
from archive.auth.principal import Principal
from archive.config import Peer, Service
from archive.errors import ArchiveError, ForbiddenError, UnauthenticatedError
from archive.log import get_logger
from dimse import commitment, find, messages, retrieve
from dimse.admission import (
    Admission,
    AdmittingACSE,
    Rejection,
    called_not_recognized,
    context_not_supported,
    not_identified,
    too_narrow,
)
from dimse.agreements import Agreements
from dimse.commitment_reports import AssociationReports
from dimse.identity import identified
from dimse.message_service import ServedMessages
from dimse.messages import Command
from dimse.negotiation import QueryOptions
from dimse.peers import Caller
from dimse.pool import Share
from dimse.providers import default_handlers
from dimse.requests import FindRequest, GetRequest, MoveRequest, QueryRequest, refusal
from dimse.status import statuses
from dimse.stock import Received, StockMessages
from dimse.stock_layer import StockUpperLayer
from dimse.store import Reception, announced, unacceptable
from dimse.tls import TlsRefusedError, TlsSubject
from dimse.upper_layer import ServedUpperLayer
from dimse.verification import EchoRequest

logger = get_logger(__name__)

_DICOM_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
# What each request needs; a C-STORE is asked about where its data set is taken.
_SERVICES: Final[dict[type, Service]] = {
    FindRequest: Service.FIND,
    GetRequest: Service.RETRIEVE,
    MoveRequest: Service.RETRIEVE,
    C_FIND: Service.FIND,
    C_GET: Service.RETRIEVE,
    C_MOVE: Service.RETRIEVE,
    N_ACTION: Service.COMMIT,
}

# Contexts are answered by `dimse.contexts.negotiate`, which takes the place of this way of its.
_config.UNRESTRICTED_STORAGE_SERVICE = True
# Its own handlers would log every PDU, and patients' names with them.
_config.LOG_HANDLER_LEVEL = "none"


class ServedAssociation(Association):
    """An association that this archive accepted; pynetdicom's engine moves its bytes.

    Parameters
    ----------
    ae
        pynetdicom's application entity: titles, timeouts, limits.
    archive
        What serves.
    admission
        Who is let in.
    """

    # By the names that pynetdicom has for them.
    providers: ClassVar[dict[str, Any]] = {
        "ACSE": AdmittingACSE,
        "DULServiceProvider": StockUpperLayer,
        "DIMSEServiceProvider": StockMessages,
    }

    def __init__(self, ae: Any, archive: Archive, admission: Admission) -> None:  # noqa: ANN401 - untyped
        super().__init__(ae, "acceptor")
        self.dul: ServedUpperLayer
        self.dimse: ServedMessages
        self.archive = archive
        self.peers = archive.peers
        self.connection: socket.socket | None = None
        self.rejection: Rejection | None = None
        self.was_accepted = False
        # Makes the connection what its port wants, before anything is read from it.
        self.secure: Callable[[Any], tuple[socket.socket, TlsSubject | None]] | None = None
        self.tls_subject: TlsSubject | None = None
        self.caller: Caller | None = None
        self.query_options: dict[str, QueryOptions] = {}
        self.reports = AssociationReports(self)
        self.links: Share | None = None
        self.agreements: Agreements | None = None
        self._admission = admission
        self._slot: int | None = None

    def resume(self, caller: Caller, slot: int | None) -> None:
        """Be an association that was accepted, and said so, before this object was made."""
        self.caller, self._slot = caller, slot
        self.was_accepted = True

    def _bind_defaults(self) -> None:
        # Of each event there is one handler of this kind: they are replaced, never added to.
        self._handlers = dict(default_handlers())

    def agree_as_before(self) -> bool:
        """Accept as the same request was accepted before; tell whether it was."""
        return False

    def remember_agreement(self) -> None:
        """Keep what was agreed, for the next time."""

    @property
    def calling_ae_title(self) -> str:
        """Who called."""
        return str(self.requestor.ae_title).strip()

    @property
    def called_ae_title(self) -> str:
        """Who was called."""
        request: Any = self.requestor.primitive
        return str(request.called_ae_title).strip()

    @property
    def principal(self) -> Principal:
        """Who asks: the user that was negotiated, or else the peer."""
        return self._known_caller.principal

    @property
    def peer(self) -> Peer:
        """The peer that calls; a stranger is one that has no address."""
        return self._known_caller.peer

    @property
    def _known_caller(self) -> Caller:
        if self.caller is None:
            raise ForbiddenError("the association is not negotiated yet")
        return self.caller

    @property
    def maximum_pdu(self) -> int:
        """The longest PDU that the peer takes; 0 for no limit."""
        return int(self.requestor.maximum_length or 0)

    def admit(self) -> Rejection | None:
        """Decide whether the caller is let in (PS3.8 §9.3.4).

        Raises
        ------
        UnavailableError
            If the index, which knows the peers, does not answer.
        """
        request: Any = self.requestor.primitive
        called = self.called_ae_title
        if str(request.application_context_name) != _DICOM_APPLICATION_CONTEXT:
            return context_not_supported(f"context {request.application_context_name}")
        if called != str(self.acceptor.ae_title).strip():
            return called_not_recognized(f"called AE title {called!r} is not this archive's")
        if 0 < self.maximum_pdu < messages.NARROWEST_PDU:
            return too_narrow(f"it takes PDUs of {self.maximum_pdu} bytes: not one value")
        # Who was accepted before this object was made was let in then.
        return None if self.was_accepted else self._admit_caller(called)

    def _admit_caller(self, called: str) -> Rejection | None:
        remote = str(self.requestor.address)
        try:
            user = self._identified(remote)
        except UnauthenticatedError as error:
            return not_identified(str(error))
        self.caller = Caller(
            self.archive,
            calling=self.calling_ae_title,
            called=called,
            remote=remote,
            user=user,
        )
        refusal = self._admission.refusal(self.caller, self.tls_subject)
        if refusal is not None:
            return refusal
        entered = self._admission.enter(self.caller)
        if isinstance(entered, Rejection):
            return entered
        self._slot = entered
        return None

    def permits(self, service: Service) -> bool:
        """Tell whether the caller may ask for a service."""
        return self._known_caller.may(service)

    def _identified(self, remote: str) -> Principal | None:
        """Return who is behind the association; None when nobody is named, nor must be."""
        item = self.requestor.user_identity
        if item is not None:
            return identified(self.archive.accounts, item, remote=remote)
        if self.archive.config.dimse.require_identity:
            raise UnauthenticatedError("no user identity, which [dimse] require_identity wants")
        return None

    def run_reactor(self) -> None:
        """Serve the association from negotiation to its end."""
        try:
            if self._is_secure():
                super().run_reactor()
        except Exception:
            logger.exception("association.failed", extra=self._named())
        finally:
            self._end()
            self.reports.leave()
            if self.links is not None:
                self.links.close()
            self._admission.leave(self._slot)
            logger.info(
                "association.ended",
                extra=self._named()
                | {"released": self.is_released, "aborted": self.is_aborted},
            )

    def _is_secure(self) -> bool:
        """Begin TLS where the port or the peer wants it; tell whether to go on."""
        if self.secure is None or self.dul.socket is None:
            return True
        try:
            connection, self.tls_subject = self.secure(self.connection)
        except TlsRefusedError as error:
            logger.warning("association.refused", extra=self._named() | {"reason": str(error)})
            return False
        except (EOFError, OSError):
            return False
        self.connection = connection
        self.dul.connection.become(connection)
        return True

    def send_pdus(self, data: bytes | memoryview) -> None:
        """Write PDUs that are framed already; raises OSError when the peer is gone."""
        self.dul.send_raw(data)

    def cancelled(self) -> set[int]:
        """Return the message IDs that the peer has asked to cancel (PS3.7 §9.3.2.3)."""
        return set(self.dimse.cancel_req)

    @property
    def is_between_messages(self) -> bool:
        """Whether the peer is not in the middle of sending something."""
        return not self.dul.is_receiving and not self.dimse.has_waiting

    def keep_alive(self) -> None:
        """Note that the peer is silent because it waits for us."""
        self.dul.active()

    def begin_store(self, context_id: int, command: Command) -> Reception | None:
        """Begin to receive an instance; None if its context was not accepted."""
        context = self._accepted_cx.get(context_id)
        if context is None:
            return None
        abstract_syntax = str(context.abstract_syntax)
        return Reception(
            self.archive,
            command,
            announced(
                command,
                abstract_syntax,
                str(context.transfer_syntax[0]),
                self._known_caller.source(self.principal),
            ),
            principal=self.principal,
            refusal=unacceptable(command, abstract_syntax)
            if self.permits(Service.STORE)
            else self._not_permitted(Service.STORE),
        )

    def answer_store(self, context_id: int, reception: Reception) -> None:
        """Store what was received, and answer the C-STORE."""
        self._answer(context_id, reception.finish())

    def _answer(self, context_id: int, command: bytes) -> None:
        self.send_pdus(messages.command_pdus(context_id, command, maximum_pdu=self.maximum_pdu))

    def _serve_request(self, msg: Any, context_id: int) -> None:  # noqa: ANN401 - a primitive
        if self._sent_release:
            return
        if isinstance(msg, N_EVENT_REPORT) and msg.MessageIDBeingRespondedTo is not None:
            self.reports.answered(msg)
            return
        context = self._accepted_cx.get(context_id)
        is_answer = msg.MessageIDBeingRespondedTo is not None
        is_request = msg.is_valid_request or commitment.is_answerable(msg)
        if context is None or is_answer or not is_request:
            logger.warning("association.unexpected-message", extra=self._named())
            self.abort()
            return
        self.dimse.serving = self._is_paused = True
        try:
            self._dispatch(msg, context, context_id)
        except (OSError, EOFError):
            self.abort(block=False)
        except Exception:
            logger.exception("association.service-failed", extra=self._named())
            self.abort()
        finally:
            self.dimse.serving = self._is_paused = False
            self.dimse.served(msg.MessageID)
            self.dul.active()  # a long operation was no silence of the peer's

    def _not_permitted(self, service: Service) -> ForbiddenError:
        missing = "rights" if service in self.peer.services else "services of the peer"
        return ForbiddenError(
            f"{self.calling_ae_title} may not {service.value} here ({missing})"
        )

    def _refuse(self, msg: Any, context_id: int, error: ArchiveError) -> None:  # noqa: ANN401
        """Answer a request that is not permitted (PS3.7 §C.5: 0124, not authorized)."""
        if isinstance(msg, QueryRequest):
            self._answer(context_id, refusal(msg, statuses(error).query, str(error)))
            return
        response = type(msg)()
        response.MessageIDBeingRespondedTo = msg.MessageID
        for name in ("AffectedSOPClassUID", "RequestedSOPClassUID"):
            if getattr(msg, name, None) is not None:
                response.AffectedSOPClassUID = getattr(msg, name)
        response.Status = statuses(error).query
        response.ErrorComment = str(error)[:64]
        self.dimse.send_msg(response, context_id)

    def _dispatch(self, msg: Any, context: Any, context_id: int) -> None:  # noqa: ANN401 - untyped
        service = _SERVICES.get(type(msg))
        if service is not None and not self.permits(service):
            self._refuse(msg, context_id, self._not_permitted(service))
            return
        match msg:
            case EchoRequest():
                self._answer(context_id, msg.answer())
            case C_ECHO():
                response = C_ECHO()
                response.MessageIDBeingRespondedTo = msg.MessageID
                response.AffectedSOPClassUID = msg.AffectedSOPClassUID
                response.Status = 0x0000
                self.dimse.send_msg(response, context_id)
            case Received():
                self.answer_store(context_id, msg.reception)
            case FindRequest() | C_FIND():
                find.serve(self, msg, context)
            case GetRequest() | C_GET():
                retrieve.serve_get(self, msg, context)
            case MoveRequest() | C_MOVE():
                retrieve.serve_move(self, msg, context)
            case _ if commitment.is_answerable(msg):
                commitment.serve(self, msg, context)
            case _:
                self.abort()

    def _end(self) -> None:
        """Wait until the peer has closed the connection, or ARTIM for it (Sta13); close it."""
        try:
            if self._started_dul:
                self.kill()
        finally:
            self.dul.discard()
            self.dimse.discard()
            if self.connection is not None:
                self.connection.close()

    def _named(self) -> dict[str, object]:
        return {
            "association": self.name,
            "calling_ae_title": self.calling_ae_title,
            "remote": str(self.requestor.address),
        }
