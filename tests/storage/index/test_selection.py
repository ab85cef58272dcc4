"""One instance is found by its UIDs, however many its study has."""

import sqlite3

import pytest
from sqlalchemy.dialects import sqlite

from benchmarks.filling import fill
from storage.index.scope import Scope
from storage.index.selection import Target, select_instances, visible


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("selection") / "index.db"
    fill(path, 20)
    opened = sqlite3.connect(path)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "scope",
    [Scope(None, None), Scope(collections=frozenset({"a"}), partitions=frozenset({"b"}))],
)
def test_an_instance_is_found_by_three_unique_keys(index, scope):
    target = Target("1.2", "1.2.3", "1.2.3.4")
    statement = select_instances().where(target.condition(), visible(scope))
    compiled = statement.compile(
        dialect=sqlite.dialect(), compile_kwargs={"render_postcompile": True}
    )
    values = [compiled.params[name] for name in compiled.positiontup]
    plan = [
        row[3].partition(" INDEX ")[2]
        for row in index.execute(f"EXPLAIN QUERY PLAN {compiled}", values)
    ]
    assert plan == [
        "sqlite_autoindex_study_1 (study_instance_uid=?)",
        "sqlite_autoindex_series_1 (study_fk=? AND series_instance_uid=?)",
        "uq_instance_released (series_fk=? AND sop_instance_uid=?)",
    ]
