"""What is measured on a filled index holds for the archive: both write the same rows."""

import sqlite3

import psycopg
import pytest

from benchmarks.filling import Filling, population
from benchmarks.population import instances
from storage.index import clock
from storage.index.engine import IndexEngine
from storage.index.insertion import InstanceInserter
from storage.index.migrate import migrate
from tests.conftest import new_database

MOMENT_US = 1_700_000_000_000_000
# Terms have no order of their own: they are compared by what they say.
_TERMS = (
    "SELECT path, value, series_fk FROM series_term JOIN term ON term.id = term_fk"
    " ORDER BY 1, 2, 3"
)


def test_filled_index_equals_one_that_the_archive_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "now_us", lambda: MOMENT_US)
    engine = IndexEngine(f"sqlite:///{tmp_path / 'written.db'}")
    migrate(engine)
    inserter = InstanceInserter(engine)
    # Patients come again with their third study of a thousand: both ways find them.
    numbers = [*range(40), *range(1000, 1010)]
    for number in numbers:
        inserter.insert(list(instances(number)))
    engine.close()
    for first, count in ((0, 40), (1000, 10)):
        filling = Filling(tmp_path / "filled.db", at_us=MOMENT_US)
        for study in population(first, count):
            filling.add(study)
        filling.close()
    written, filled = (_contents(tmp_path / name) for name in ("written.db", "filled.db"))
    assert written.keys() == filled.keys()
    for table, rows in written.items():
        assert rows == filled[table], table
    assert len(written["instance"]) == sum(len(list(instances(number))) for number in numbers)


@pytest.mark.postgresql
def test_what_is_filled_in_postgresql_equals_what_the_archive_wrote_there(
    postgres_cluster, monkeypatch
):
    monkeypatch.setattr(clock, "now_us", lambda: MOMENT_US)
    written, filled = (new_database(postgres_cluster) for _ in range(2))
    engine = IndexEngine(written.replace("://", "+psycopg://"))
    migrate(engine)
    inserter = InstanceInserter(engine)
    numbers = [*range(20), *range(1000, 1005)]
    for number in numbers:
        inserter.insert(list(instances(number)))
    engine.close()
    for first, count in ((0, 20), (1000, 5)):
        filling = Filling(filled, at_us=MOMENT_US)
        for study in population(first, count):
            filling.add(study)
        filling.close()
    expected, found = _postgres_contents(written), _postgres_contents(filled)
    for table, rows in expected.items():
        assert rows == found[table], table
    assert len(found["instance"]) == sum(len(list(instances(number))) for number in numbers)


def test_studies_are_the_same_whatever_else_is_made():
    assert list(instances(7)) == list(instances(7))
    assert sum(1 for number in range(10) for _ in instances(number)) == 100


def _contents(path):
    connection = sqlite3.connect(path)
    tables = [
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master"
            " WHERE type = 'table' AND name NOT LIKE 'study_text%'"
        )
    ]
    contents = {
        name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr)
        for name in tables
        if name not in ("term", "series_term")
    }
    contents["terms"] = connection.execute(_TERMS).fetchall()
    contents["schema"] = sorted(
        connection.execute("SELECT name, sql FROM sqlite_master"), key=repr
    )
    contents["text"] = connection.execute(
        "SELECT rowid FROM study_text WHERE study_text MATCH 'mul' ORDER BY 1"
    ).fetchall()
    connection.execute(
        "INSERT INTO study_text (study_text, rank) VALUES ('integrity-check', 1)"
    )
    connection.close()
    return contents


def _postgres_contents(url):
    with psycopg.connect(url) as connection:

        def rows(statement):
            return sorted(connection.execute(statement).fetchall(), key=repr)

        tables = rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        contents = {
            name: rows(f"SELECT * FROM {name}")
            for (name,) in tables
            if name not in ("term", "series_term")
        }
        contents["terms"] = connection.execute(_TERMS).fetchall()
        contents["indexes"] = rows(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
        )
        contents["constraints"] = rows(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        )
        contents["next"] = connection.execute(
            "SELECT nextval(pg_get_serial_sequence('instance', 'id'))"
        ).fetchall()
    return contents
