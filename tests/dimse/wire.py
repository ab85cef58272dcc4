"""A peer that speaks the upper layer byte by byte, right or wrong, as it is told."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

from archive.config import AuthSection, DimseSection
from dimse import messages
from dimse.server import DicomServer
from tests.conftest import listening_socket, make_config, running_archive, wait_until

VERIFICATION = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
# Context IDs of what a request proposes unless it is told otherwise.
ECHO_ID, CT_ID, FIND_ID = 1, 3, 5
CONTEXTS = ((ECHO_ID, VERIFICATION, IMPLICIT), (CT_ID, CT, EXPLICIT), (FIND_ID, FIND, IMPLICIT))

RQ, AC, RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
COMMAND, LAST = messages.COMMAND_FRAGMENT, messages.LAST_FRAGMENT


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def pdu(kind: int, body: bytes = bytes(4)) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def request(
    *,
    called: str = "FILEROOM",
    calling: str = "WIRE",
    contexts=CONTEXTS,
    maximum: int = 131072,
    version: int = 1,
    user: bytes = b"",
    items: bytes = b"",
    kind: int = RQ,
) -> bytes:
    """An A-ASSOCIATE-RQ; ``user`` are more user information items, ``items`` more items."""
    proposed = b"".join(
        item(
            0x20,
            bytes([number, 0, 0, 0])
            + item(0x30, abstract.encode())
            + item(0x40, syntax.encode()),
        )
        for number, abstract, syntax in contexts
    )
    information = item(0x51, struct.pack(">I", maximum)) + item(0x52, b"1.2.3.4") + user
    titles = called.encode().ljust(16) + calling.encode().ljust(16)
    body = struct.pack(">HH", version, 0) + titles + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + proposed + item(0x50, information) + items
    return pdu(kind, body)


def value(context_id: int, control: int, data: bytes) -> bytes:
    """A presentation data value."""
    return struct.pack(">IBB", len(data) + 2, context_id, control) + data


def data(*values: bytes) -> bytes:
    """A P-DATA-TF PDU."""
    return pdu(DATA, b"".join(values))


def echo_command(message_id: int = 1, field: int = 0x0030) -> bytes:
    return messages.encode_command(
        [
            (messages.AFFECTED_SOP_CLASS_UID, VERIFICATION),
            (messages.COMMAND_FIELD, field),
            (messages.MESSAGE_ID, message_id),
            (messages.DATA_SET_TYPE, messages.NO_DATA_SET),
        ]
    )


def echo(message_id: int = 1, field: int = 0x0030) -> bytes:
    return data(value(ECHO_ID, COMMAND | LAST, echo_command(message_id, field)))


def cancel(message_id: int, context_id: int = FIND_ID) -> bytes:
    command = messages.encode_command(
        [
            (messages.COMMAND_FIELD, messages.C_CANCEL_RQ),
            (messages.MESSAGE_ID_RESPONDED_TO, message_id),
            (messages.DATA_SET_TYPE, messages.NO_DATA_SET),
        ]
    )
    return data(value(context_id, COMMAND | LAST, command))


def find_command(message_id: int = 1) -> bytes:
    return messages.encode_command(
        [
            (messages.AFFECTED_SOP_CLASS_UID, FIND),
            (messages.COMMAND_FIELD, 0x0020),
            (messages.MESSAGE_ID, message_id),
            (messages.PRIORITY, 0),
            (messages.DATA_SET_TYPE, 1),
        ]
    )


def find_identifier(level: bytes = b"STUDY ") -> bytes:
    """Every study."""
    return b"".join(
        struct.pack("<HHI", group, element, len(body)) + body
        for group, element, body in ((0x08, 0x52, level), (0x10, 0x20, b""), (0x20, 0x0D, b""))
    )


def find(message_id: int = 1) -> bytes:
    return data(
        value(FIND_ID, COMMAND | LAST, find_command(message_id)),
        value(FIND_ID, LAST, find_identifier()),
    )


def store_command(uid: str, message_id: int = 1) -> bytes:
    return messages.store_request(sop_class_uid=CT, sop_instance_uid=uid, message_id=message_id)


def store(uid: str, body: bytes, message_id: int = 1, size: int = 16384) -> bytes:
    pdus = messages.iter_pdus(CT_ID, [body], maximum_pdu=size)
    return messages.pdu(CT_ID, COMMAND | LAST, store_command(uid, message_id)) + b"".join(pdus)


def small_ct(uid: str, study: str = "1.2.3.7") -> bytes:
    """A data set of a CT image, explicit little endian, just enough to be kept."""
    elements = [
        (0x0008, 0x0016, b"UI", CT.encode()),
        (0x0008, 0x0018, b"UI", uid.encode()),
        (0x0008, 0x0060, b"CS", b"CT"),
        (0x0010, 0x0010, b"PN", b"A^B"),
        (0x0010, 0x0020, b"LO", b"7"),
        (0x0020, 0x000D, b"UI", study.encode()),
        (0x0020, 0x000E, b"UI", f"{study}.1".encode()),
    ]
    raw = b""
    for group, element, vr, text in elements:
        padded = text + (b"\0" if vr == b"UI" else b" ") * (len(text) % 2)
        raw += struct.pack("<HH2sH", group, element, vr, len(padded)) + padded
    return raw


class Wire:
    """One connection to a server."""

    def __init__(self, port: int, timeout_s: float = 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, raw: bytes) -> None:
        self.socket.sendall(raw)

    def associate(self, **parameters) -> "Wire":
        """Negotiate."""
        self.send(request(**parameters))
        kind, self.accepted = self.pdu()
        assert kind == AC, (kind, self.accepted)
        return self

    def pdu(self) -> tuple[int, bytes]:
        """The next PDU: its type and what follows the header; (0, b"") at the end."""
        head = self._exactly(6)
        if not head:
            return 0, b""
        kind, length = struct.unpack(">BxI", head)
        return kind, self._exactly(length)

    def command(self) -> messages.Command:
        """The command set of the next message, which must be one."""
        raw, control = b"", 0
        while not control & LAST:
            kind, body = self.pdu()
            assert kind == DATA, (kind, body)
            while body:
                size, _, control = struct.unpack_from(">IBB", body)
                if control & COMMAND:
                    raw += body[6 : 4 + size]
                body = body[4 + size :]
        return messages.parse_command(raw) if raw else self.command()

    def status(self) -> int:
        return messages.number(self.command(), messages.STATUS)

    def is_closed(self) -> bool:
        """Whether nothing comes any more but the end."""
        with contextlib.suppress(ConnectionError):
            return self.pdu() == (0, b"")
        return True

    def silence(self, seconds: float = 0.15) -> bool:
        """Whether nothing comes for a while, not even the end."""
        self.socket.settimeout(seconds)
        try:
            return not self.socket.recv(1) and False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(20)

    def close(self) -> None:
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        raw = b""
        while len(raw) < count:
            part = self.socket.recv(count - len(raw))
            if not part:
                assert not raw, f"the connection ended after {raw!r}"
                return b""
            raw += part
        return raw


@contextlib.contextmanager
def serving(folder, engine: str = "direct", **settings) -> Iterator[DicomServer]:
    """A DICOM server over a real archive."""
    settings = {"network_timeout_s": 10} | settings
    config = make_config(
        folder / "data",
        dimse=DimseSection(port=0, engine=engine, **settings),
        auth=AuthSection(),
    )
    with running_archive(config) as archive:
        listening = listening_socket()
        server = DicomServer(archive, listening)
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()
            listening.close()


def all_ended(server: DicomServer) -> bool:
    guests = server._greeter._guests
    return not guests and not any(one.is_alive() for one in server._associations)


def leaves_nothing(server: DicomServer) -> None:
    """Check that the last association has taken everything with it."""
    wait_until(lambda: all_ended(server), 15, "the association's end")
    data_dir = server._archive.config.archive.data_dir
    assert not list((data_dir / "incoming").glob("*"))


def echoes(server: DicomServer) -> None:
    """Check that a C-ECHO on a new association is answered and released."""
    with Wire(server.port) as wire:
        wire.associate().send(echo(7))
        assert wire.status() == 0
        wire.send(pdu(RELEASE_RQ))
        assert wire.pdu()[0] == RELEASE_RP


def the_association(server: DicomServer):
    """The one association there is."""
    return wait_until(lambda: next(iter(server._associations), None), what="an association")
