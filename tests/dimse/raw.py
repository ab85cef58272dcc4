"""A sender that sends whatever a test wants: PDUs and command sets byte by byte."""

import socket
import struct

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from dimse.messages import Command, parse_command, pdu, store_request

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
RELEASE = b"\x05\0\0\0\0\x04\0\0\0\0"


def item(kind: int, content: bytes) -> bytes:
    """An item or sub-item of an A-ASSOCIATE PDU."""
    return struct.pack(">BxH", kind, len(content)) + content


def proposal(context_id: int, abstract_syntax: str | bytes, *syntaxes: str | bytes) -> bytes:
    """A presentation context item (PS3.8 §9.3.2.2)."""

    def encoded(uid: str | bytes) -> bytes:
        return uid.encode() if isinstance(uid, str) else uid

    items = item(0x30, encoded(abstract_syntax)) if abstract_syntax else b""
    items += b"".join(item(0x40, encoded(uid)) for uid in syntaxes)
    return item(0x20, bytes([context_id, 0, 0, 0]) + items)


def associate_request(contexts, *, maximum_pdu: int = 16384, calling: str = "RAW") -> bytes:
    """The A-ASSOCIATE-RQ that pynetdicom would send."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = calling, "FILEROOM"
    proposed = []
    for number, (abstract_syntax, syntaxes) in enumerate(contexts):
        context = build_context(abstract_syntax, list(syntaxes))
        context.context_id = 2 * number + 1
        proposed.append(context)
    primitive.presentation_context_definition_list = proposed
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = maximum_pdu
    implementation.implementation_class_uid = "1.2.3.4"
    primitive.user_information = [length, implementation]
    encoded = A_ASSOCIATE_RQ()
    encoded.from_primitive(primitive)
    return encoded.encode()


class RawSender:
    """One association, made by hand.

    Parameters
    ----------
    dicom
        The server.
    contexts
        Abstract syntax and transfer syntaxes of each, or a whole A-ASSOCIATE-RQ.
    """

    def __init__(self, dicom, contexts=((CT, (EXPLICIT,)),), **keywords) -> None:
        self.connection = socket.create_connection(("127.0.0.1", dicom.port), timeout=20)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = contexts
        if not isinstance(contexts, bytes):
            request = associate_request(contexts, **keywords)
        self.connection.sendall(request)
        kind, body = self.read()
        self.kind = kind
        #: Result and transfer syntax of each context, by its ID, as they were answered.
        self.answers: list[tuple[int, int, str]] = []
        if kind == 2:
            answer = A_ASSOCIATE_AC()
            answer.decode(body)
            self.answers = sorted(
                (one.context_id, one.result_reason, str(one.transfer_syntax or ""))
                for one in answer.presentation_context
            )

    def __enter__(self) -> "RawSender":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def read(self) -> tuple[int, bytes]:
        """Return one PDU and its type; (0, b"") when the connection ends."""
        header = self._exactly(6)
        if len(header) < 6:
            return 0, b""
        (length,) = struct.unpack_from(">I", header, 2)
        return header[0], header + self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            try:
                piece = self.connection.recv(count - len(got))
            except ConnectionError:
                return b""
            if not piece:
                return b""
            got += piece
        return got

    def send(self, command: bytes, data: bytes | None, *, context_id=1, fragment=8192) -> None:
        """Send one message, its data set in fragments."""
        sent = [pdu(context_id, 3, command)]
        if data is not None:
            pieces = [data[at : at + fragment] for at in range(0, len(data), fragment)] or [b""]
            sent += [pdu(context_id, 0, piece) for piece in pieces[:-1]]
            sent.append(pdu(context_id, 2, pieces[-1]))
        self.connection.sendall(b"".join(sent))

    def answer(self) -> Command | None:
        """Return the command set that is answered; None when the association ended."""
        raw = b""
        while True:
            kind, body = self.read()
            if kind != 4:
                return None
            (size,) = struct.unpack_from(">I", body, 6)
            raw += body[12 : 10 + size]
            if body[11] & 2:
                return parse_command(raw)

    def store(self, data: bytes | None, command: bytes | None = None, **how) -> Command | None:
        """Send a C-STORE; return its answer."""
        self.send(command or request(), data, **how)
        return self.answer()

    def release(self) -> bool:
        """Release; tell whether that was answered."""
        self.connection.sendall(RELEASE)
        return self.read()[0] == 6


def request(uid: str = "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322", **changes) -> bytes:
    """A C-STORE-RQ for CT_small.dcm, unless told otherwise."""
    known = {"sop_class_uid": CT, "sop_instance_uid": uid, "message_id": 1}
    return store_request(**(known | changes))
