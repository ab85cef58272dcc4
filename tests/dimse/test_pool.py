"""Associations with destinations that are kept for the next C-MOVE."""

import threading

import pytest
from pynetdicom import AE, evt

from archive.config import DimseSection, Peer
from dimse.pool import AssociationPool
from tests.builders import SECONDARY_CAPTURE
from tests.conftest import free_port, make_config, running_archive, wait_until

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
ONE = [(SECONDARY_CAPTURE, (EXPLICIT,))]
BOTH = [(SECONDARY_CAPTURE, (EXPLICIT,)), (SECONDARY_CAPTURE, (IMPLICIT,))]


class Destination:
    """A Storage SCP that counts associations, and how they end."""

    def __init__(self, **settings) -> None:
        self.accepted, self.ended = 0, []
        entity = AE("SINK")
        for name, value in settings.items():
            setattr(entity, name, value)
        entity.add_supported_context(SECONDARY_CAPTURE, [EXPLICIT, IMPLICIT])
        port = free_port()
        self.server = entity.start_server(
            ("127.0.0.1", port),
            block=False,
            evt_handlers=[
                (evt.EVT_ACCEPTED, self._accepted),
                (evt.EVT_RELEASED, lambda event: self.ended.append("released")),
                (evt.EVT_ABORTED, lambda event: self.ended.append("aborted")),
            ],
        )
        self.peer = Peer(ae_title="SINK", host="127.0.0.1", port=port)

    def _accepted(self, event) -> None:
        self.accepted += 1


@pytest.fixture
def destination():
    made = Destination()
    yield made
    made.server.shutdown()


@pytest.fixture
def archive(engine, tmp_path):
    section = DimseSection(port=0, engine=engine, keep_associations_s=0.7)
    with running_archive(make_config(tmp_path / "data", dimse=section)) as opened:
        yield opened


def test_what_was_proposed_on_a_kept_association_decides_whether_it_is_used(
    archive, destination
):
    pool = AssociationPool(archive)
    first = pool.take(destination.peer, ONE, fresh=False)
    pool.give(first)
    wider = pool.take(destination.peer, BOTH, fresh=False)
    assert wider is not first
    pool.give(wider)
    assert pool.take(destination.peer, BOTH, fresh=False) is wider
    assert wider.reused
    pool.give(wider)
    pool.close()
    assert destination.accepted == 2


def test_another_address_is_another_peer(archive, destination):
    pool = AssociationPool(archive)
    pool.give(pool.take(destination.peer, ONE, fresh=False))
    moved = destination.peer.model_copy(update={"host": "localhost"})
    assert not pool.take(moved, ONE, fresh=False).reused
    pool.close()


def test_two_at_once_have_two(archive, destination):
    pool = AssociationPool(archive)
    first = pool.take(destination.peer, ONE, fresh=False)
    second = pool.take(destination.peer, ONE, fresh=False)
    assert first is not second
    pool.give(first)
    pool.give(second)
    pool.close()
    wait_until(lambda: destination.ended == ["released"] * 2, what="both releases")


def test_what_nobody_wants_is_released_and_nothing_stays_behind(archive, destination):
    threads = threading.active_count()
    pool = AssociationPool(archive)
    kept = pool.take(destination.peer, ONE, fresh=False)
    pool.give(kept)
    assert destination.ended == []
    wait_until(lambda: destination.ended == ["released"], 10, "the release")
    wait_until(lambda: threading.active_count() <= threads, 10, "the threads' end")
    assert kept.association.connection.fileno() == -1
    pool.close()


def test_what_the_peer_has_ended_meanwhile_is_not_given_out(archive, destination):
    pool = AssociationPool(archive)
    kept = pool.take(destination.peer, ONE, fresh=False)
    pool.give(kept)
    for association in destination.server.active_associations:
        association.abort()
    assert pool.take(destination.peer, ONE, fresh=False) is not kept
    pool.close()


def test_a_peer_that_takes_one_association_is_waited_for(archive):
    # Another worker's pool still has it: this one is told to come again.
    single = Destination(maximum_associations=1)
    theirs, ours = AssociationPool(archive), AssociationPool(archive)
    try:
        theirs.give(theirs.take(single.peer, ONE, fresh=False))
        taken = ours.take(single.peer, ONE, fresh=False)
        assert taken.is_usable
        ours.give(taken)
    finally:
        theirs.close()
        ours.close()
        single.server.shutdown()


def test_nothing_is_kept_when_the_settings_say_so(engine, tmp_path, destination):
    section = DimseSection(port=0, engine=engine, keep_associations_s=0)
    with running_archive(make_config(tmp_path / "data", dimse=section)) as archive:
        pool = AssociationPool(archive)
        pool.give(pool.take(destination.peer, ONE, fresh=False))
        wait_until(lambda: destination.ended == ["released"], what="the release")
        pool.close()
