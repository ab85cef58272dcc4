"""Who is let in, and with which A-ASSOCIATE-RJ the others are not (PS3.8 Table 9-21)."""

import contextlib
import threading

import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from archive.auth.principal import OPERATOR
from archive.config import AuthSection, DimseSection, Peer, Service
from dimse.admission import calls_from_its_place
from dimse.server import DicomServer
from dimse.tls import TlsSubject
from tests.conftest import listening_socket, make_config, running_archive, wait_until
from tests.dimse.test_services import CT, FIND, GET, MOVE, associate, read

ECHO = "1.2.840.10008.1.1"
ELSEWHERE = "192.0.2.7"


@contextlib.contextmanager
def serving(folder, engine="direct", **dimse):
    """A DICOM server with these settings; `[auth]` says nothing unless told."""
    auth = dimse.pop("auth", AuthSection(allow_anonymous=dimse.pop("allow_anonymous", ())))
    settings = DimseSection(port=0, engine=engine, network_timeout_s=10, **dimse)
    with running_archive(make_config(folder, dimse=settings, auth=auth)) as archive:
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


def call(server, calling="TEST", called="FILEROOM", contexts=((ECHO,),)):
    # pynetdicom's requestor loses an answer that is there before its own thread looks whether
    # it is connected: then it is asked for again.
    for _ in range(20):
        association = AE(calling).associate(
            "127.0.0.1",
            server.port,
            contexts=[build_context(*context) for context in contexts],
            ae_title=called,
        )
        if association.acceptor.primitive is not None:
            break
    return association


def answer_of(association):
    """What an A-ASSOCIATE-RJ said: result, source, reason; None when it was accepted."""
    if association.is_established:
        association.release()
        return None
    # An answer that comes at once is not looked at by pynetdicom's requestor, but waits there.
    said = association.acceptor.primitive or association.dul.to_user_queue.get(timeout=10)
    return said.result, said.result_source, said.diagnostic


def test_titles_are_compared_trimmed_and_with_regard_to_case(engine, tmp_path):
    with serving(tmp_path, engine) as server:
        assert answer_of(call(server, called="FILEROOM  ")) is None
        assert answer_of(call(server, called="  FILEROOM")) is None
        assert answer_of(call(server, called="fileroom")) == (1, 1, 7)
        assert answer_of(call(server, called="OTHER")) == (1, 1, 7)


def test_without_strangers_only_peers_are_let_in(engine, tmp_path):
    peer = Peer(ae_title="KNOWN", host="127.0.0.1")
    with serving(tmp_path, engine, strangers=(), peers=(peer,)) as server:
        assert answer_of(call(server, "KNOWN")) is None
        assert answer_of(call(server, "KNOWN ")) is None
        assert answer_of(call(server, "known")) == (1, 1, 3)
        assert answer_of(call(server, "TEST")) == (1, 1, 3)


def test_who_calls_itself_a_peer_must_call_from_its_host(engine, tmp_path):
    peers = (
        Peer(ae_title="HERE", host="localhost"),
        Peer(ae_title="AWAY", host=ELSEWHERE),
        Peer(ae_title="ROAMS", host=ELSEWHERE, calls_from=("127.0.0.0/8",)),
        Peer(ae_title="ANYONE", host=ELSEWHERE, calls_from=("any",)),
        Peer(ae_title="PROVEN", host="127.0.0.1", tls_subject="CN=proven"),
    )
    with serving(tmp_path, engine, peers=peers) as server:
        assert answer_of(call(server, "HERE")) is None
        assert answer_of(call(server, "AWAY")) == (1, 1, 3)
        assert answer_of(call(server, "ROAMS")) is None
        assert answer_of(call(server, "ANYONE")) is None
        assert answer_of(call(server, "PROVEN")) == (1, 1, 3)


def test_a_certificate_proves_a_peer_wherever_it_calls_from():
    peer = Peer(ae_title="PROVEN", host=ELSEWHERE, tls_subject="CN=proven")
    proven, other = (
        TlsSubject(f"CN={name}", frozenset({name})) for name in ("proven", "other")
    )
    assert calls_from_its_place(peer, "10.0.0.1", proven) is None
    assert calls_from_its_place(peer, ELSEWHERE, None).reason == 3
    assert "CN=other" in calls_from_its_place(peer, ELSEWHERE, other).why
    bound = peer.model_copy(update={"calls_from": ("10.0.0.0/8",)})
    assert calls_from_its_place(bound, "10.0.0.1", proven) is None
    assert calls_from_its_place(bound, "11.0.0.1", proven).reason == 3


def test_addresses_are_the_same_over_both_versions_of_ip():
    peer = Peer(ae_title="HERE", host="127.0.0.1")
    assert calls_from_its_place(peer, "::ffff:127.0.0.1", None) is None
    assert calls_from_its_place(peer, "::1", None).reason == 3


def test_a_host_that_cannot_be_found_lets_nobody_in():
    peer = Peer(ae_title="GONE", host="nowhere.invalid")
    assert calls_from_its_place(peer, "127.0.0.1", None).reason == 3


def test_one_association_too_many_is_rejected_for_now(engine, tmp_path):
    peer = Peer(ae_title="TWICE", host="127.0.0.1", max_associations=2)
    with serving(tmp_path, engine, max_associations=3, peers=(peer,)) as server:
        first, second = call(server, "TWICE"), call(server, "TWICE")
        assert answer_of(call(server, "TWICE")) == (2, 3, 2)
        third = call(server, "TEST")
        assert answer_of(call(server, "TEST")) == (2, 3, 2)
        third.release()
        wait_until(lambda: server._presence.count() == 2, 5, "a free slot")
        assert answer_of(call(server, "TEST")) is None
        for association in (first, second):
            association.abort()
        wait_until(lambda: server._presence.count() == 0, 5, "free slots")


def test_another_application_context_is_rejected(engine, tmp_path):
    with serving(tmp_path, engine) as server:
        entity = AE("TEST")
        entity.acse_timeout = 5
        import pynetdicom.acse as acse

        name = acse.APPLICATION_CONTEXT_NAME
        acse.APPLICATION_CONTEXT_NAME = "1.2.3.4"
        try:
            assert answer_of(call(server)) == (1, 1, 2)
        finally:
            acse.APPLICATION_CONTEXT_NAME = name


def statuses_of(server, calling) -> dict[str, int]:
    """What each service answers to ``calling``."""
    from pydicom.dataset import Dataset

    association = associate(
        server,
        (CT, ["1.2.840.10008.1.2.1"]),
        (FIND,),
        (MOVE,),
        (GET,),
        (ECHO,),
        calling=calling,
    )
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = "1.2.3.4.5"
    found = {
        "echo": association.send_c_echo().Status,
        "store": association.send_c_store(read("CT_small.dcm")).Status,
        "find": list(association.send_c_find(query, FIND))[-1][0].Status,
        "move": list(association.send_c_move(query, "NOBODY", MOVE))[-1][0].Status,
        "get": list(association.send_c_get(query, GET))[-1][0].Status,
    }
    association.release()
    return found


def test_a_peer_is_served_what_it_may_ask_for_and_nothing_else(engine, tmp_path):
    peers = (
        Peer(ae_title="SENDER", host="127.0.0.1", services=(Service.STORE,)),
        Peer(ae_title="READER", host="127.0.0.1", services=(Service.FIND,)),
    )
    with serving(tmp_path, engine, peers=peers) as server:
        assert statuses_of(server, "SENDER") == {
            "echo": 0, "store": 0, "find": 0x0124, "move": 0x0124, "get": 0x0124,
        }  # fmt: skip
        assert statuses_of(server, "READER") == {
            "echo": 0, "store": 0x0124, "find": 0, "move": 0x0124, "get": 0x0124,
        }  # fmt: skip
        assert statuses_of(server, "TEST") == {
            "echo": 0, "store": 0, "find": 0, "move": 0xA801, "get": 0,
        }  # fmt: skip


def test_a_peer_may_store_where_strangers_only_read(tmp_path):
    peer = Peer(ae_title="SENDER", host="127.0.0.1", services=(Service.STORE,))
    with serving(tmp_path, allow_anonymous=("read",), peers=(peer,)) as server:
        assert statuses_of(server, "SENDER")["store"] == 0
        stranger = statuses_of(server, "TEST")
        assert (stranger["store"], stranger["find"]) == (0x0124, 0)


def test_a_refusal_says_what_is_missing(tmp_path):
    peer = Peer(ae_title="READER", host="127.0.0.1", services=(Service.FIND,))
    with serving(tmp_path, peers=(peer,)) as server:
        association = associate(server, (CT, ["1.2.840.10008.1.2.1"]), calling="READER")
        refused = association.send_c_store(read("CT_small.dcm"))
        assert refused.ErrorComment == "READER may not store here (services of the peer)"
        association.release()


def test_peers_are_added_and_removed_while_it_runs(tmp_path):
    with serving(tmp_path, strangers=()) as server:
        peers = server._archive.peers
        assert answer_of(call(server, "NEW")) == (1, 1, 3)
        peers.add(OPERATOR, Peer(ae_title="NEW", host="127.0.0.1"))
        assert answer_of(call(server, "NEW")) is None
        peers.remove(OPERATOR, "NEW")
        assert answer_of(call(server, "NEW")) == (1, 1, 3)


@pytest.mark.parametrize("title", ["", "  ", "A\\B", "SEVENTEEN_LETTERS", "É"])
def test_a_title_that_no_application_entity_can_have_is_refused(title):
    with pytest.raises(ValueError, match="ae_title"):
        Peer(ae_title=title)
