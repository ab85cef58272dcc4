"""What is read past SQLAlchemy's connections is what they read, and ends as soon."""

import threading

import pytest
from sqlalchemy import bindparam, select, text

from storage.errors import IndexBusyError, IndexUnavailableError
from storage.index.engine import IndexEngine
from storage.index.lookups import Lookups
from storage.index.prepared import Prepared
from storage.index.tables import study

_ENDLESS = (
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c"
)


@pytest.fixture
def sqlite_index(tmp_path):
    engine = IndexEngine(f"sqlite:///{tmp_path}/index.db")
    with engine.write() as connection:
        connection.exec_driver_sql("CREATE TABLE study (id INTEGER, study_instance_uid TEXT)")
        connection.exec_driver_sql("INSERT INTO study VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    yield engine
    engine.close()


def _these() -> Prepared:
    wanted = study.c.study_instance_uid.in_(bindparam("uids", expanding=True))
    return Prepared(select(study.c.id).where(wanted).order_by(study.c.id))


@pytest.mark.parametrize("uids", [[], ["b"], ["a", "c"], ["x"]])
def test_rows_are_those_of_a_connection(sqlite_index, uids):
    statement = _these()
    with sqlite_index.read() as connection:
        wanted = statement.rows(connection, {"uids": uids})
    assert sqlite_index.rows(statement, {"uids": uids}) == wanted


def test_what_is_committed_is_seen_and_nothing_is_kept_open(sqlite_index):
    statement = _these()
    assert sqlite_index.rows(statement, {"uids": ["d"]}) == []
    with sqlite_index.write() as connection:
        connection.exec_driver_sql("INSERT INTO study VALUES (4, 'd')")
    assert sqlite_index.rows(statement, {"uids": ["d"]}) == [(4,)]


def test_a_statement_that_takes_too_long_is_ended_and_the_next_one_runs(
    sqlite_index, monkeypatch
):
    short = Lookups(sqlite_index.sqlalchemy, kept=1, timeout_s=0.0)
    monkeypatch.setattr(sqlite_index, "_lookups", short)
    with pytest.raises(IndexBusyError):
        sqlite_index.rows(Prepared(text(_ENDLESS)), {})
    assert sqlite_index.rows(_these(), {"uids": ["a"]}) == [(1,)]


def test_an_index_that_does_not_answer_is_told_as_that(sqlite_index):
    with pytest.raises(IndexUnavailableError):
        sqlite_index.rows(Prepared(text("SELECT 1 FROM nothing_of_this_name")), {})


def test_many_threads_read_at_once(sqlite_index):
    statement, found = _these(), []
    threads = [
        threading.Thread(
            target=lambda: found.extend(
                sqlite_index.rows(statement, {"uids": ["a"]}) for _ in range(50)
            )
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[(1,)]] * 400
