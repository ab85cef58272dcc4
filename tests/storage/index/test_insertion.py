"""Identity, counters and the change feed, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from storage.index.changes import ChangeFilter
from storage.index.engine import IndexEngine
from storage.index.insertion import InstanceInserter
from storage.index.lifecycle import Act, InstanceLifecycle
from storage.index.migrate import current_revision, latest_revision, migrate
from storage.index.report import IndexReport
from storage.index.rows import Source
from storage.index.scope import Scope
from storage.index.selection import InstanceReader, Target
from storage.index.tables import metadata
from tests.storage.index.rows import new

EVERYTHING = Scope(collections=None, partitions=None)
ACT = Act(principal="operator", reason="sent by mistake", at_us=5)


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


def kinds(engine):
    return [
        row.kind for row in IndexReport(engine).changes(EVERYTHING, ChangeFilter(0, 1000))[0]
    ]


def test_migrations_make_the_schema_of_the_tables(engine):
    assert current_revision(engine) == latest_revision()
    with engine.read() as connection:
        context = MigrationContext.configure(connection)
        differences = [
            difference
            for difference in compare_metadata(context, metadata)
            # The trigram table and its indexes exist on one database each, by SQL of their own.
            if not any(
                name in str(difference) for name in ("study_text", "study_day", "trigram")
            )
        ]
    assert [d for d in differences if not _only_reflection(d)] == []


def _only_reflection(difference) -> bool:
    """Indexes with an order cannot be read back, so Alembic takes them for missing."""
    return difference[0] in {"add_index", "remove_index"} and difference[1].name in {
        "ix_study_study_date_id",
        "ix_study_listed",
        "ix_study_modality_modality_study_date",
        "ix_instance_series_fk_instance_number",
    }


def test_counters_grow_with_what_is_stored(engine):
    inserter = InstanceInserter(engine)
    inserter.insert([new("1.9.1"), new("1.9.2")])
    inserter.insert([new("1.9.3", series="1.1.2", modality="SR", size=50)])
    totals = IndexReport(engine).totals(EVERYTHING)
    assert (totals.patients, totals.studies, totals.series, totals.instances) == (1, 1, 2, 3)
    assert totals.bytes_ == 250
    assert totals.last_change == 3
    with engine.read() as connection:
        row = connection.exec_driver_sql("SELECT modalities, sop_classes FROM study").one()
        modalities = connection.exec_driver_sql(
            "SELECT modality FROM study_modality ORDER BY modality"
        ).scalars()
        assert list(modalities) == ["CT", "SR"]
    assert row.modalities == "CT\\SR"


def test_the_same_content_again_is_a_duplicate_and_changes_nothing_visible(engine):
    inserter = InstanceInserter(engine)
    assert inserter.insert([new("1.9.1")])[0].kind == "stored"
    again = inserter.insert([new("1.9.1"), new("1.9.1")])
    assert [(done.kind, done.keep) for done in again] == [("duplicate", False)] * 2
    totals = IndexReport(engine).totals(EVERYTHING)
    assert (totals.instances, totals.duplicates) == (1, 2)
    assert kinds(engine) == ["stored", "duplicate", "duplicate"]


def test_other_content_under_the_same_uids_is_held_and_the_first_stays(engine):
    inserter = InstanceInserter(engine)
    done = inserter.insert([new("1.9.1", content="a"), new("1.9.1", content="b")])
    assert [(one.kind, one.keep) for one in done] == [("stored", True), ("held", True)]
    once_more = inserter.insert([new("1.9.1", content="b")])[0]
    assert (once_more.kind, once_more.keep) == ("held", False)
    found = InstanceReader(engine).find(EVERYTHING, Target("1.1", "1.1.1", "1.9.1"))
    assert found is not None
    assert found[0].digest.startswith(b"a")
    assert IndexReport(engine).totals(EVERYTHING).held == 1
    assert [one.why for one in IndexReport(engine).unusual(EVERYTHING, 9)] == ["held version"]


def test_under_the_policy_replace_the_newcomer_is_shown_and_the_old_one_kept(engine):
    InstanceInserter(engine).insert([new("1.9.1", content="a", size=10)])
    done = InstanceInserter(engine, replace=True).insert([new("1.9.1", content="b", size=70)])
    assert (done[0].kind, done[0].keep) == ("replaced", True)
    found = InstanceReader(engine).find(EVERYTHING, Target("1.1", "1.1.1", "1.9.1"))
    assert found is not None
    assert found[0].digest.startswith(b"b")
    totals = IndexReport(engine).totals(EVERYTHING)
    assert (totals.instances, totals.held, totals.bytes_) == (1, 1, 70)
    assert kinds(engine) == ["stored", "replaced"]


def test_a_sop_uid_in_another_series_is_stored_and_flagged(engine):
    inserter = InstanceInserter(engine)
    inserter.insert([new("1.9.1")])
    done = inserter.insert([new("1.9.1", series="1.1.2")])[0]
    assert (done.kind, done.elsewhere) == ("stored", "1.1/1.1.1")
    assert IndexReport(engine).totals(EVERYTHING).elsewhere == 1
    feed = IndexReport(engine).changes(EVERYTHING, ChangeFilter(1, 10))[0]
    assert "1.1/1.1.1" in feed[0].reason


def test_deleting_hides_and_restoring_shows_again_with_exact_counts(engine):
    InstanceInserter(engine).insert(
        [new("1.9.1"), new("1.9.2"), new("1.9.3", series="1.1.2", modality="SR")]
    )
    lifecycle = InstanceLifecycle(engine)
    report = IndexReport(engine)
    assert lifecycle.delete(EVERYTHING, Target("1.1", "1.1.2"), ACT) == 1
    totals = report.totals(EVERYTHING)
    assert (totals.series, totals.instances, totals.deleted) == (1, 2, 1)
    assert lifecycle.delete(EVERYTHING, Target("1.1"), ACT) == 2
    assert report.totals(EVERYTHING).studies == 0
    assert list(InstanceReader(engine).iter_instances(EVERYTHING, [Target("1.1")])) == []
    assert lifecycle.restore(EVERYTHING, Target("1.1"), ACT) == 3
    totals = report.totals(EVERYTHING)
    assert (totals.studies, totals.series, totals.instances, totals.deleted) == (1, 2, 3, 0)
    assert kinds(engine) == ["stored"] * 3 + ["deleted"] * 3 + ["restored"] * 3


def test_what_was_deleted_and_is_sent_again_is_stored_anew(engine):
    inserter = InstanceInserter(engine)
    inserter.insert([new("1.9.1")])
    lifecycle = InstanceLifecycle(engine)
    lifecycle.delete(EVERYTHING, Target("1.1"), ACT)
    assert inserter.insert([new("1.9.1")])[0].kind == "stored"
    assert lifecycle.restore(EVERYTHING, Target("1.1"), ACT) == 0
    assert IndexReport(engine).totals(EVERYTHING).instances == 1


def test_a_purge_forgets_only_what_was_deleted_before(engine):
    InstanceInserter(engine).insert([new("1.9.1"), new("1.9.2")])
    lifecycle = InstanceLifecycle(engine)
    lifecycle.delete(EVERYTHING, Target("1.1", "1.1.1", "1.9.1"), ACT)
    assert lifecycle.deleted_before(5, 10) == []
    (entry,) = lifecycle.deleted_before(6, 10)
    lifecycle.forget([entry[0]], ACT)
    assert lifecycle.deleted_before(6, 10) == []
    assert [one.sop_instance_uid for one in _instances(engine)] == ["1.9.2"]
    assert kinds(engine)[-1] == "purged"


def _instances(engine):
    return list(InstanceReader(engine).iter_instances(EVERYTHING, [Target("1.1")]))


def test_eight_writers_at_once_leave_a_gapless_feed_and_exact_counts(engine):
    def store(worker: int) -> None:
        inserter = InstanceInserter(engine)
        for n in range(10):
            inserter.insert(
                [new(f"1.9.{worker}{n}"), new(f"1.8.{n}", study="1.2", series="1.2.1")]
            )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store, range(8)))
    feed = IndexReport(engine).changes(EVERYTHING, ChangeFilter(0, 1000))[0]
    assert [row.sequence for row in feed] == list(range(1, 161))
    totals = IndexReport(engine).totals(EVERYTHING)
    assert (totals.studies, totals.instances, totals.duplicates) == (2, 90, 70)


def test_what_is_outside_the_scope_is_not_there(engine):
    other = Source(site="south", collection="secret", protocol="import", principal="x")
    InstanceInserter(engine).insert([new("1.9.1"), new("1.9.2", study="1.2", source=other)])
    scope = Scope(collections=frozenset({"default"}), partitions=None)
    reader = InstanceReader(engine)
    assert reader.find(scope, Target("1.2", "1.1.1", "1.9.2")) is None
    assert reader.last_change(scope, Target("1.2")) is None
    assert IndexReport(engine).totals(scope).studies == 1
    assert len(IndexReport(engine).changes(scope, ChangeFilter(0, 10))[0]) == 1
    nothing = Scope(collections=frozenset(), partitions=None)
    assert IndexReport(engine).totals(nothing).studies == 0
    sequestered = Scope(collections=None, partitions=frozenset({"sequestered"}))
    assert list(reader.iter_instances(sequestered, [Target("1.1")])) == []
