"""Texts in PostgreSQL are sorted as SQLite sorts them, whatever the database's collation.

The databases of the tests have one that sorts as people do (`tests/postgresql.py`).
"""

import contextlib
import importlib
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import event, text

from storage.errors import IndexBusyError, IndexUnavailableError
from storage.index import migrate as migrations
from storage.index.engine import IndexEngine
from storage.index.insertion import InstanceInserter
from storage.index.levels import SearchLevel
from storage.index.migrate import current_revision, latest_revision, migrate
from storage.index.predicates import Between, Like, OneOf
from storage.index.scope import Scope
from storage.index.search import IndexQuery, IndexSearch
from tests.conftest import wait_until
from tests.storage.index.rows import new

pytestmark = pytest.mark.postgresql
EVERYTHING = Scope(collections=None, partitions=None)
# A collation of people puts case and punctuation last, and accents beside their letters.
NAMES = ("B", "a", "Ä", "ab", "A B", "a-b", "AB", "_b", "b", "10", "9", "Z", "é", "~", "A^B")
# Wide enough that none of them counts as small.
_LARGE = {
    "study": "attributes",
    "series": "attributes",
    "instance": "digest",
    "change": "digest",
}


@pytest.fixture
def old(postgres_url):
    """An index as it was before the migration, with something in it."""
    engine = IndexEngine(postgres_url)
    config = migrations._config()
    with migrations._alone(engine) as connection:
        config.attributes["connection"] = connection
        importlib.import_module("alembic.command").upgrade(config, "0007")
    InstanceInserter(engine).insert([named(number, name) for number, name in enumerate(NAMES)])
    yield engine
    engine.close()


@pytest.fixture
def large(old):
    with old.write() as connection:
        for table, column in _LARGE.items():
            wide = {"wide": os.urandom(9 << 20)}
            one = f"ctid = (SELECT min(ctid) FROM {table})"
            statement = text(f"UPDATE {table} SET {column} = :wide WHERE {one}")
            connection.execute(statement, wide)
    return old


def named(number: int, name: str):
    made = new(f"1.9.{number}.1", study=f"1.{number}", series=f"1.1.{number}")
    study = replace(made.study, patient_id=name, patient_name_key=name, accession_number=name)
    numbered = None if number % 2 else number % 3
    return replace(
        made,
        study=replace(study, study_date=f"2024010{number % 4}"),
        series=replace(made.series, series_number=numbered),
        instance=replace(made.instance, instance_number=numbered),
    )


def rows(engine, statement):
    with engine.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def indexes(engine):
    found = rows(
        engine,
        "SELECT indexname, replace(indexdef, ' COLLATE \"C\"', '') FROM pg_indexes"
        " WHERE schemaname = 'public' AND tablename <> 'study_day' ORDER BY 1",
    )
    return [one for one in found if one[0] != "ix_instance_series_fk_instance_number"]


def texts_of_another_collation(engine):
    return rows(
        engine,
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE data_type = 'text' AND table_schema = 'public'"
        " AND collation_name IS DISTINCT FROM 'C' ORDER BY 1, 2",
    )


LEFT = [("instance", "sop_instance_uid"), ("instance", "state")]


def test_small_tables_are_altered_as_they_are(old):
    assert len(texts_of_another_collation(old)) > 50
    before = indexes(old)
    migrate(old)
    assert texts_of_another_collation(old) == LEFT
    assert indexes(old) == before


def test_of_large_tables_nothing_is_written_anew_under_lock(large):
    before, said = indexes(large), []
    constraints = (
        "SELECT conname, contype, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace"
        " AND conname <> 'study_day_pkey' ORDER BY 1"
    )
    held = rows(large, constraints)
    with large.write() as connection:
        name = large.url.database
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET client_min_messages = debug1")
    large.close()
    event.listen(
        large.sqlalchemy,
        "connect",
        lambda made, _: made.add_notice_handler(lambda told: said.append(told.message_primary)),
    )
    migrate(large)
    assert texts_of_another_collation(large) == LEFT
    assert indexes(large) == before
    assert rows(large, constraints) == held
    of_large = [one for one in said if any(f'on table "{name}"' in one for name in _LARGE)]
    made = [one.split('"')[1] for one in of_large if one.startswith("building index")]
    assert len(made) > 10
    assert all(name.startswith("c_") for name in made)
    assert len(set(made)) == len(made)
    assert not [one for one in said if "rewriting" in one]


def test_a_migration_that_was_broken_off_is_taken_up(large):
    with large.sqlalchemy.connect() as connection:
        connection.exec_driver_sql(
            'CREATE INDEX c_ix_study_patient_id ON study (patient_id COLLATE "C")'
        )
        # As a CREATE INDEX CONCURRENTLY leaves it that did not come to its end.
        connection.exec_driver_sql(
            "CREATE INDEX c_ix_study_accession_number ON study (study_id)"
        )
        connection.exec_driver_sql(
            "UPDATE pg_index SET indisvalid = false"
            " WHERE indexrelid = 'c_ix_study_accession_number'::regclass"
        )
        connection.commit()
    before = [one for one in indexes(large) if not one[0].startswith("c_")]
    migrate(large)
    assert indexes(large) == before


def test_of_nodes_that_start_at_once_one_migrates_and_the_others_wait(large, postgres_url):
    others = [IndexEngine(postgres_url) for _ in range(2)]
    for engine in (large, *others):
        assert current_revision(engine) == "0007"
    with ThreadPoolExecutor(3) as nodes:
        for done in [nodes.submit(migrate, engine) for engine in (large, *others)]:
            done.result()
    for engine in (large, *others):
        assert current_revision(engine) == latest_revision()
        engine.close()


def test_whoever_reads_a_table_for_long_holds_up_the_migration_and_nobody_else(large):
    """The same role, but not the archive: its sessions are let be."""
    migrating = threading.Thread(target=migrate, args=(large,))
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'study'::regclass"
    address = large.url.set(drivername="postgresql").render_as_string()
    with (
        psycopg.connect(address) as holder,
        psycopg.connect(address, autocommit=True) as watcher,
    ):
        holder.execute("LOCK TABLE study IN ACCESS SHARE MODE")
        migrating.start()

        def is_waiting():
            return watcher.execute(waits).fetchone() != (0,)

        wait_until(is_waiting, what="a migration that waits for the table")
        wait_until(lambda: not is_waiting(), what="one that lets others before it")
        assert watcher.execute("SELECT count(*) FROM study").fetchone() == (len(NAMES),)
        holder.rollback()
        migrating.join()
    assert texts_of_another_collation(large) == LEFT


class Node:
    """What a node does: it searches and stores, and comes again when it is told to."""

    def __init__(self, url):
        self.engine = IndexEngine(url)
        self.inserter, self.searches = InstanceInserter(self.engine), IndexSearch(self.engine)
        self.numbers = itertools.count(100)
        self.stopping, self.failures = threading.Event(), []

    def search(self):
        query = IndexQuery(SearchLevel.STUDY, limit=5)
        page, _ = self.searches.page(EVERYTHING, query, beyond=1)
        assert len(page) == 5

    def insert(self):
        (done,) = self.inserter.insert([named(next(self.numbers), "X")])
        assert done.kind == "stored"

    def until_told(self, act):
        try:
            while not self.stopping.is_set():
                self.patiently(act)
        except BaseException as error:
            self.failures.append(error)

    def patiently(self, act):
        for _ in range(20):
            with contextlib.suppress(IndexBusyError, IndexUnavailableError):  # 503
                return act()
        raise AssertionError("refused again and again")


def test_a_node_that_runs_goes_on_while_another_one_migrates(large, postgres_url):
    """Its prepared statements know the tables as they were; so it has to open new sessions."""
    node = Node(postgres_url)
    threads = [
        threading.Thread(target=node.until_told, args=(act,))
        for act in (node.search, node.search, node.insert)
    ]
    for _ in range(10):
        node.search()
        node.insert()
    for thread in threads:
        thread.start()
    migrate(large)
    node.stopping.set()
    for thread in threads:
        thread.join()
    assert node.failures == []
    for _ in range(20):
        node.search()
        node.insert()
    node.engine.close()


def found(engine, *predicates, level=SearchLevel.STUDY, order=(), **window):
    search = IndexSearch(engine)
    query = IndexQuery(level, predicates, order=order, **window)
    columns = {
        SearchLevel.STUDY: "study_instance_uid",
        SearchLevel.SERIES: "series_instance_uid",
        SearchLevel.INSTANCE: "sop_instance_uid",
    }
    page, _ = search.page(EVERYTHING, query, beyond=0)
    return [getattr(row, columns[level]) for row in page]


QUERIES = [
    {"order": (("study.patient_id", False),)},
    {"order": (("study.patient_id", True),)},
    {"order": (("study.patient_name_key", False),), "limit": 4, "offset": 5},
    {"level": SearchLevel.SERIES, "order": (("series.series_number", False),)},
    {"level": SearchLevel.SERIES, "order": (("series.series_number", True),)},
    {"level": SearchLevel.INSTANCE, "order": (("instance.instance_number", False),)},
    {"level": SearchLevel.INSTANCE, "order": (("instance.sop_instance_uid", True),)},
    {"level": SearchLevel.INSTANCE},
    {"level": SearchLevel.SERIES},
]


@pytest.mark.parametrize("asked", QUERIES, ids=str)
def test_pages_are_those_of_sqlite(asked, both):
    on_sqlite, on_postgresql = (found(engine, **asked) for engine in both)
    assert on_sqlite == on_postgresql
    assert on_sqlite


@pytest.mark.parametrize(
    "predicate",
    [
        Between("study.accession_number", "A", "b"),
        Between("study.accession_number", None, "Z"),
        Like("study.patient_id", "A*"),
        Like("study.patient_id", "a?b"),
        OneOf("study.patient_id", ("a", "Ä")),
    ],
    ids=str,
)
def test_matches_are_those_of_sqlite(predicate, both):
    on_sqlite, on_postgresql = (found(engine, predicate) for engine in both)
    assert on_sqlite == on_postgresql
    assert on_sqlite


@pytest.fixture(scope="module")
def both(tmp_path_factory, postgres_cluster):
    """The same rows in SQLite and in PostgreSQL, made by one migration after another."""
    name = postgres_cluster.new_database()
    urls = [
        f"sqlite:///{tmp_path_factory.mktemp('both') / 'index.db'}",
        postgres_cluster.url(name).replace("://", "+psycopg://"),
    ]
    engines = [IndexEngine(url) for url in urls]
    for engine in engines:
        migrate(engine)
        rows_of = [named(number, name) for number, name in enumerate(NAMES)]
        InstanceInserter(engine).insert(rows_of)
    yield engines
    for engine in engines:
        engine.close()
    postgres_cluster.drop(name)


@pytest.mark.parametrize(
    ("index", "condition"),
    [
        ("ix_study_patient_id", "patient_id LIKE 'AB1%%'"),
        ("ix_study_patient_name_key", "patient_name_key LIKE 'doe^%%'"),
    ],
)
def test_what_begins_with_a_text_is_found_through_an_index(index, condition, both):
    with both[1].write() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")  # that of trigrams
        told = connection.exec_driver_sql(f"EXPLAIN SELECT id FROM study WHERE {condition}")
        plan = "\n".join(told.scalars())
    assert index in plan
    assert ">=" in plan
    assert "<" in plan
