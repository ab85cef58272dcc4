"""Archives that forward to each other come to rest."""

import contextlib
import threading

import pytest

from archive.auth.principal import OPERATOR
from archive.config import DimseSection, ForwardRule, Peer
from archive.query.request import Level, SearchRequest
from dimse.forwarding import Forwarder
from dimse.server import DicomServer
from tests.builders import dataset, part10
from tests.conftest import listening_socket, make_config, running_archive, store


class Node:
    """An archive that serves DICOM, and forwards when told to."""

    def __init__(self, archive, port: int) -> None:
        self.archive, self.port = archive, port
        self.forwarder = Forwarder(archive, threading.Event())

    def forwards_to(self, other: "Node", title: str) -> None:
        peer = Peer(ae_title=title, host="127.0.0.1", port=other.port)
        self.archive.peers.add(OPERATOR, peer)
        rule = ForwardRule(name=title, to=title, settle_s=0)
        self.archive.forward.rules.add(OPERATOR, rule)

    def count(self) -> int:
        return self.archive.query.count(OPERATOR, SearchRequest(Level.INSTANCE))

    @property
    def kinds(self) -> list[str]:
        return [change.kind for change in self.archive.changes.since(OPERATOR, 0)]


@contextlib.contextmanager
def node(data_dir, title: str, engine: str):
    section = DimseSection(port=0, engine=engine, ae_title=title, network_timeout_s=10)
    config = make_config(data_dir, dimse=section)
    with running_archive(config) as archive, listening_socket() as listening:
        server = DicomServer(archive, listening)
        thread = threading.Thread(target=server.serve)
        thread.start()
        yield Node(archive, server.port)
        server.stop()
        thread.join()


@pytest.fixture
def nodes(tmp_path, engine):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(node(tmp_path / title, title, engine)) for title in "ABC"]


def turns(nodes, count: int = 4) -> None:
    for _ in range(count):
        for one in nodes:
            one.forwarder.round()
            one.forwarder.join()


def test_what_came_from_a_peer_is_not_sent_back_to_it(nodes):
    a, b, _ = nodes
    a.forwards_to(b, "B")
    b.forwards_to(a, "A")
    for number in range(3):
        store(a.archive, part10(dataset("1.2", "1.2.1", f"1.2.1.{number}")))
    store(b.archive, part10(dataset("1.2", "1.2.1", "1.2.1.9")))
    turns(nodes)
    assert (a.count(), b.count()) == (4, 4)
    assert a.kinds == b.kinds == ["stored"] * 4  # nothing came twice


def test_a_ring_comes_to_rest(nodes):
    a, b, c = nodes
    a.forwards_to(b, "B")
    b.forwards_to(c, "C")
    c.forwards_to(a, "A")
    store(a.archive, part10(dataset("1.2", "1.2.1", "1.2.1.1")))
    turns(nodes)
    assert [one.count() for one in nodes] == [1, 1, 1]
    assert a.kinds == ["stored", "duplicate"]  # round once, and no further
    before = [one.kinds for one in nodes]
    turns(nodes)
    assert [one.kinds for one in nodes] == before


def test_peers_that_go_by_other_names_come_to_rest(nodes):
    # A calls itself A, but B knows it by another title: once back, as a duplicate, and no more.
    a, b, _ = nodes
    a.forwards_to(b, "B")
    b.forwards_to(a, "ARCHIVE_A")
    a.archive.peers.add(
        OPERATOR, Peer(ae_title="B", host="127.0.0.1", port=b.port, calls_from=("any",))
    )
    store(a.archive, part10(dataset("1.2", "1.2.1", "1.2.1.1")))
    turns(nodes)
    assert a.kinds.count("stored") == b.kinds.count("stored") == 1
    assert len(a.kinds) <= 2
    before = a.kinds
    turns(nodes)
    assert a.kinds == before
