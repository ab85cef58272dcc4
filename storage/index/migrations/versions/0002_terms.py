"""Terms: every attribute can be searched, not only those with columns."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables; series that are there already are looked through without them."""
    op.create_table(
        "term",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_term")),
        sa.UniqueConstraint("path", "value", name=op.f("uq_term_path_value")),
    )
    op.create_table(
        "series_term",
        sa.Column("term_fk", _KEY, nullable=False),
        sa.Column("series_fk", _KEY, nullable=False),
        sa.ForeignKeyConstraint(["term_fk"], ["term.id"], name=op.f("fk_series_term_term_fk")),
        sa.ForeignKeyConstraint(
            ["series_fk"], ["series.id"], name=op.f("fk_series_term_series_fk")
        ),
        sa.PrimaryKeyConstraint("term_fk", "series_fk", name=op.f("pk_series_term")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_series_term_series_fk"), "series_term", ["series_fk"])
    op.add_column(
        "series",
        sa.Column(
            "terms_missing", sa.Boolean(), nullable=False, server_default=sa.text("false")
        ),
    )
    op.execute("UPDATE series SET terms_missing = true")
    # Of a sequence these held the first item alone; terms hold every one.
    op.drop_column("series", "scheduled_step_id")
    op.drop_column("series", "requested_procedure_id")
    op.create_index(
        "ix_series_terms_missing",
        "series",
        ["terms_missing"],
        sqlite_where=sa.text("terms_missing"),
        postgresql_where=sa.text("terms_missing"),
    )
