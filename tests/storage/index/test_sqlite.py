"""A transaction of the driver's own is one with what goes through SQLAlchemy."""

import sqlite3

import pytest
from sqlalchemy import event, insert, select

from storage.index.engine import IndexEngine
from storage.index.migrate import migrate
from storage.index.prepared import Prepared
from storage.index.tables import counter

DRIVERS_OWN = Prepared(insert(counter))


@pytest.fixture
def index(tmp_path):
    engine = IndexEngine(f"sqlite:///{tmp_path}/index.db")
    migrate(engine)
    yield engine
    engine.close()


def write(connection, *, driver: str = "", library: str = "") -> None:
    if driver:
        DRIVERS_OWN.run(connection, [{"name": driver, "value": 1}])
    if library:
        connection.execute(insert(counter).values(name=library, value=1))


def names(index) -> set[str]:
    with index.read() as connection:
        return set(connection.execute(select(counter.c.name)).scalars()) - {"change", "forward"}


@pytest.mark.parametrize(
    "written", [{"driver": "a"}, {"library": "b"}, {"driver": "a", "library": "b"}, {}]
)
def test_what_both_have_written_is_committed_together(index, written):
    for _ in range(2):
        with index.write() as connection:
            write(connection, **written)
            assert names(index) == set()  # nobody else sees it yet
        assert names(index) == set(written.values())
        with index.write() as connection:
            connection.exec_driver_sql("DELETE FROM counter WHERE length(name) = 1")


@pytest.mark.parametrize(
    "written", [{"driver": "a"}, {"library": "b"}, {"driver": "a", "library": "b"}, {}]
)
def test_nothing_is_left_of_a_block_that_failed(index, written):
    def write_and_fail() -> None:
        with index.write() as connection:
            write(connection, **written)
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            write_and_fail()
        assert names(index) == set()
    with index.write() as connection:
        write(connection, driver="next")
    assert names(index) == {"next"}


def test_a_commit_that_fails_is_told_and_leaves_nothing(index):
    def write_what_refers_to_nothing() -> None:
        with index.write() as connection:
            write(connection, driver="a")
            driver = connection.connection.driver_connection
            driver.execute("PRAGMA defer_foreign_keys = ON")
            driver.execute("INSERT INTO series_term VALUES (17, 17)")

    for _ in range(2):
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            write_what_refers_to_nothing()
        assert names(index) == set()
    with index.write() as connection:
        write(connection, driver="next")
    assert names(index) == {"next"}


def test_all_migrations_are_one_transaction(tmp_path):
    engine = IndexEngine(f"sqlite:///{tmp_path / 'index.db'}")
    commits = []
    event.listen(engine.sqlalchemy, "commit", commits.append)
    migrate(engine)
    assert len(commits) == 1
    engine.close()
