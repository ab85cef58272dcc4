"""PostgreSQL: how many studies each day has, as SQLite has it, for deep pages of a list."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_DAYS = (
    'CREATE TABLE study_day (study_date TEXT COLLATE "C" NOT NULL,'
    ' collection TEXT COLLATE "C" NOT NULL, partition TEXT COLLATE "C" NOT NULL,'
    " studies BIGINT NOT NULL, PRIMARY KEY (study_date, collection, partition))"
)
# Whoever writes holds the counter of changes: no two wait for one another's days.
_COUNT = """
CREATE FUNCTION study_day_count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' AND old.number_of_instances > 0 THEN
    UPDATE study_day SET studies = studies - 1 WHERE study_date = old.study_date
      AND collection = old.collection AND partition = old.partition;
  END IF;
  IF TG_OP <> 'DELETE' AND new.number_of_instances > 0 THEN
    INSERT INTO study_day VALUES (new.study_date, new.collection, new.partition, 1)
      ON CONFLICT (study_date, collection, partition)
      DO UPDATE SET studies = study_day.studies + 1;
  END IF;
  RETURN NULL;
END $$
"""
_MOVED = (
    "(old.number_of_instances > 0) <> (new.number_of_instances > 0)"
    " OR old.study_date <> new.study_date OR old.collection <> new.collection"
    " OR old.partition <> new.partition"
)


def upgrade() -> None:
    """Make them on PostgreSQL; nothing on SQLite, which has them.

    Who writes waits while the studies are counted: half a second for a million.
    """
    if op.get_bind().dialect.name == "sqlite":
        return
    op.execute(_DAYS)
    op.execute(_COUNT)
    run = "ON study FOR EACH ROW"
    op.execute(
        f"CREATE TRIGGER study_day_added AFTER INSERT OR DELETE {run}"
        " EXECUTE FUNCTION study_day_count()"
    )
    op.execute(
        "CREATE TRIGGER study_day_moved AFTER UPDATE OF number_of_instances, study_date,"
        f" collection, partition {run} WHEN ({_MOVED}) EXECUTE FUNCTION study_day_count()"
    )
    # The triggers hold whoever writes from here on: what is counted is all there is.
    op.execute(
        "INSERT INTO study_day SELECT study_date, collection, partition, count(*) FROM study"
        " WHERE number_of_instances > 0 GROUP BY 1, 2, 3"
    )
