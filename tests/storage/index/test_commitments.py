"""Requests for storage commitment in the index: kept once, worked on by one at a time."""

import threading

import pytest

from storage.index import clock
from storage.index.commitments import (
    ACCEPTED,
    CHECKED,
    FAILED,
    REPORTED,
    CommitmentTable,
    Lease,
    NewCommitment,
)
from storage.index.engine import IndexEngine
from storage.index.migrate import carry_over, empty, migrate
from storage.index.scope import Scope

_HOUR = 3600 * 1_000_000
PUBLIC = Scope(collections=None, partitions=frozenset({"public"}))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def engine(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'index.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    engine = IndexEngine(url)
    migrate(engine)
    yield engine
    engine.close()


@pytest.fixture
def table(engine):
    return CommitmentTable(engine)


def new(uid="1.2", *, title="CT1", content=b"a"):
    return NewCommitment(uid, title, "ae:CT1", "north", PUBLIC, content * 32, content, 1)


def lease(owner, hours=1.0):
    return Lease(owner, clock.now_us() + int(hours * _HOUR))


def test_a_request_comes_back_as_it_was_and_belongs_to_its_taker(table):
    row = table.add(new(), lease("one"))
    assert (row.state, row.requested, row.scope, row.site) == (ACCEPTED, b"a", PUBLIC, "north")
    assert not row.duplicate
    assert not table.claim_due(lease("two"), 9)
    assert table.change(row.id, "one", state=CHECKED)
    assert not table.change(row.id, "two", state=FAILED)
    assert [one.state for one in table.rows()] == [CHECKED]


def test_what_its_holder_let_run_out_is_free_for_another(table):
    row = table.add(new(), lease("one", hours=-1))
    assert [one.id for one in table.claim_due(lease("two"), 9)] == [row.id]
    assert not table.change(row.id, "one", lease_until=0)
    assert not table.claim_due(lease("three"), 9)


def test_each_is_taken_by_one_of_many(table):
    for number in range(40):
        row = table.add(new(f"1.2.{number}"), lease("x", hours=-1))
        assert row is not None
    taken, ready = [], threading.Barrier(4)

    def take(owner):
        ready.wait()
        while rows := table.claim_due(lease(owner), 3):
            taken.extend(row.id for row in rows)

    threads = [threading.Thread(target=take, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken))
    # Whoever found that others were faster may have stopped before the end.
    taken += [row.id for row in table.claim_due(lease("last"), 99)]
    assert sorted(taken) == sorted(row.id for row in table.rows())


def test_the_same_request_again_is_one_and_waits_for_its_holder(table):
    row = table.add(new(), lease("one"))
    assert table.add(new(), lease("two")) is None
    table.change(row.id, "one", state=REPORTED, status=0, lease_owner="", lease_until=0)
    again = table.add(new(), lease("two"))
    assert (again.id, again.state, again.status) == (row.id, ACCEPTED, None)
    assert len(table.rows()) == 1


def test_another_request_under_the_same_uid_is_a_duplicate_of_its_peer_alone(table):
    table.add(new(), lease("one"))
    assert table.add(new(content=b"b"), lease("two")).duplicate
    assert not table.add(new(content=b"b", title="CT2"), lease("two")).duplicate
    # And stays one when it comes again.
    table.free_all()
    assert table.add(new(content=b"b"), lease("three")).duplicate
    assert len(table.rows()) == 3


def test_requests_at_the_same_moment_are_one_transaction_and_its_duplicates(table):
    ready, rows = threading.Barrier(4), []

    def add(content):
        ready.wait()
        rows.append(table.add(new(content=content), lease(content.decode())))

    threads = [threading.Thread(target=add, args=(c,)) for c in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row.duplicate for row in rows) == [False, True, True, True]


def test_what_is_finished_is_forgotten_after_a_while_and_nothing_else(table):
    for number, state in enumerate((ACCEPTED, REPORTED, FAILED)):
        row = table.add(new(f"1.2.{number}"), lease("one"))
        table.change(row.id, "one", state=state, state_at=5)
    assert table.remove_finished(5) == 0
    assert table.remove_finished(6) == 2
    assert [row.state for row in table.rows()] == [ACCEPTED]


def test_some_peers_may_be_left_out(table):
    for title in ("CT1", "CT2"):
        table.add(new(title=title), lease("x", hours=-1))
    (row,) = table.claim_due(lease("one"), 9, without=["CT1"])
    assert row.ae_title == "CT2"


def test_a_rebuilt_index_remembers_what_was_asked(engine, tmp_path):
    row = CommitmentTable(engine).add(new(), lease("one"))
    other = IndexEngine(f"sqlite:///{tmp_path / 'new.db'}")
    migrate(other)
    carry_over(engine, other)
    assert CommitmentTable(other).rows() == [row]
    other.close()
    empty(engine)
    assert CommitmentTable(engine).rows() == [row]
