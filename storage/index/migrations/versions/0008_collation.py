"""PostgreSQL: texts are compared and sorted by code points, whatever the database's collation.

What an index of texts is good for follows from how it sorts: ranges, beginnings, pages of an
answer. To give a column another collation would make its indexes anew while nobody may read the
table. So those of large tables are made first, CONCURRENTLY, as they will be; then the column
is altered, which takes them as they are and writes nothing (PostgreSQL, ALTER TABLE, Notes).
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Neither is compared otherwise than for equality, which no collation changes; and the index
# that guards both has a condition, which PostgreSQL would make anew under lock.
_LEFT: Final = {"instance": ("sop_instance_uid", "state")}
# Below this the indexes of a table are made anew faster than anybody notices.
_SMALL_BYTES: Final = 8 << 20
# Whoever waits for a table has all others wait behind it: not for long, but again and again.
_LOCK_TIMEOUT_MS: Final = 2000
_PAUSE_S: Final = 5.0
_ATTEMPTS: Final = 720
_LOCK_NOT_AVAILABLE: Final = "55P03"
_DRAINED_S: Final = 30.0
_POLL_S: Final = 0.01
_FUTURE: Final = datetime.max.replace(tzinfo=UTC)

_COLUMNS = sa.text("""
    SELECT c.relname, array_agg(quote_ident(a.attname) ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
      AND c.relname <> 'alembic_version'
      AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'text'::regtype
      AND a.attcollation <> '"C"'::regcollation
    GROUP BY c.relname ORDER BY c.relname
""")
# Indexes of a table that hold texts, each part as CREATE INDEX takes it.
_INDEXES = sa.text("""
    SELECT i.relname AS name, x.indisunique AS is_unique, m.amname AS method,
      pg_get_expr(x.indpred, x.indrelid) AS condition, n.contype AS constraint_type,
      array_agg(
        pg_get_indexdef(x.indexrelid, k.place, true)
        || CASE WHEN x.indcollation[k.place - 1] <> 0 THEN ' COLLATE "C"' ELSE '' END
        || CASE WHEN o.opcdefault THEN '' ELSE ' ' || o.opcname END
        || (ARRAY ['', ' DESC NULLS LAST', ' NULLS FIRST', ' DESC'])
             [x.indoption[k.place - 1] + 1]
        ORDER BY k.place) AS parts
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
      LEFT JOIN pg_constraint n ON n.conindid = x.indexrelid AND n.contype IN ('p', 'u')
      CROSS JOIN generate_series(1, x.indnkeyatts) AS k (place)
      JOIN pg_opclass o ON o.oid = x.indclass[k.place - 1]
    WHERE x.indrelid = to_regclass(:table) AND x.indnatts = x.indnkeyatts
      AND NOT starts_with(i.relname, 'c_') AND EXISTS (
      SELECT FROM unnest(x.indkey) AS key
        JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = key
      WHERE quote_ident(a.attname) = ANY (:columns))
    GROUP BY i.relname, x.indexrelid, x.indisunique, m.amname, x.indpred, x.indrelid, n.contype
    ORDER BY i.relname
""")
# Plans that a session keeps know the columns as they were: PostgreSQL refuses them.
_END_SESSIONS = sa.text("""
    SELECT count(*), count(pg_terminate_backend(pid)) FILTER (WHERE state = 'idle')
    FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user
      AND application_name = current_setting('application_name')
      AND backend_start < :before AND pid <> pg_backend_pid()
""")


def upgrade() -> None:
    """Alter every text; nothing on SQLite, which knows nothing else."""
    bind = op.get_bind()
    if bind.dialect.name == "sqlite":
        return
    small = {}
    for table, found in bind.execute(_COLUMNS).all():
        columns = [name for name in found if name not in _LEFT.get(table, ())]
        size = sa.text("SELECT pg_table_size(to_regclass(:name))")
        if bind.execute(size, {"name": table}).scalar_one() < _SMALL_BYTES:
            small[table] = columns
        elif columns:
            _alter_online(table, columns)
    for table, columns in small.items():
        if columns:
            op.execute(_altered(table, columns))
    with op.get_context().autocommit_block():
        _end_sessions()
        op.execute("ANALYZE")
    _remake_by_number()


def _altered(table: str, columns: list[str]) -> str:
    changes = (f'ALTER COLUMN {name} TYPE text COLLATE "C"' for name in columns)
    return f"ALTER TABLE {table} {', '.join(changes)}"


def _alter_online(table: str, columns: list[str]) -> None:
    indexes = op.get_bind().execute(_INDEXES, {"table": table, "columns": columns}).all()
    with _unbounded_waits():
        for index in indexes:
            _make_beside(table, index)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with op.get_bind().begin_nested():
                _exchange(table, columns, indexes)
        except sa.exc.OperationalError as error:
            is_locked = getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE
            if not is_locked or attempt == _ATTEMPTS:
                raise
            time.sleep(_PAUSE_S)
        else:
            break
    with op.get_context().autocommit_block():
        _end_sessions()
        # An altered column has lost its statistics; nobody waits for those of other tables.
        op.execute(f"ANALYZE {table}")


@contextlib.contextmanager
def _unbounded_waits() -> Iterator[None]:
    """Outside of transactions: what is made CONCURRENTLY waits for all of them, exports too."""
    with op.get_context().autocommit_block():
        bind = op.get_bind()
        limit = bind.execute(sa.text("SELECT current_setting('lock_timeout')")).scalar_one()
        bind.execute(sa.text("SET lock_timeout = 0"))
        yield
        bind.execute(sa.text(f"SET lock_timeout = '{limit}'"))


def _remake_by_number() -> None:
    """Sort instances without a number first, as SQLite does and searches ask."""
    name = "ix_instance_series_fk_instance_number"
    with _unbounded_waits():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS c_{name}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY c_{name} ON instance"
            " (series_fk, instance_number NULLS FIRST)"
        )
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(f"ALTER INDEX c_{name} RENAME TO {name}")


def _make_beside(table: str, index: sa.Row[Any]) -> None:
    """Make an index as it will be, under a name of its own, unless an earlier try has."""
    name = f"c_{index.name}"
    # What an earlier try broke off in the middle of is there, and of no use.
    is_broken = sa.text(
        "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
    )
    if op.get_bind().execute(is_broken, {"name": name}).scalar():
        op.execute(f"DROP INDEX CONCURRENTLY {name}")
    unique = "UNIQUE " if index.is_unique else ""
    condition = f" WHERE {index.condition}" if index.condition else ""
    op.execute(
        f"CREATE {unique}INDEX CONCURRENTLY IF NOT EXISTS {name} ON {table}"
        f" USING {index.method} ({', '.join(index.parts)}){condition}"
    )


def _exchange(table: str, columns: list[str], indexes: Sequence[sa.Row[Any]]) -> None:
    """Put the new indexes in the place of the old ones, and alter the columns."""
    op.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
    op.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    for index in indexes:
        if index.constraint_type:
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {index.name}")
        else:
            op.execute(f"DROP INDEX {index.name}")
    op.execute(_altered(table, columns))
    kinds = {"p": "PRIMARY KEY", "u": "UNIQUE"}
    for index in indexes:
        if index.constraint_type:
            op.execute(
                f"ALTER TABLE {table} ADD CONSTRAINT {index.name}"
                f" {kinds[index.constraint_type]} USING INDEX c_{index.name}"
            )
        else:
            op.execute(f"ALTER INDEX c_{index.name} RENAME TO {index.name}")
    # Those that wait for this table now are the only ones to meet it altered.
    op.get_bind().execute(_END_SESSIONS, {"before": _FUTURE})


def _end_sessions() -> None:
    """End the sessions that began before, each when it rests: nodes open others by themselves.

    A long write is not waited for: its session forgets its plans when a transaction fails.
    """
    bind = op.get_bind()
    before = bind.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
    end = time.monotonic() + _DRAINED_S
    while bind.execute(_END_SESSIONS, {"before": before}).one()[0] and time.monotonic() < end:
        time.sleep(_POLL_S)
