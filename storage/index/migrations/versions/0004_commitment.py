"""Storage commitment: requests are remembered until they are answered."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default="")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "commitment",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("ae_title", sa.Text(), nullable=False),
        _text("principal"),
        _text("site"),
        _text("collections"),
        _text("partitions"),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("duplicate", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("requested", sa.LargeBinary(), nullable=False),
        sa.Column("failed", sa.LargeBinary(), nullable=False),
        _count("number_of_instances"),
        _count("number_failed"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer()),
        _text("reason"),
        _count("attempts"),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        _count("checked_at"),
        sa.Column("state_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        _text("lease_owner"),
        _count("lease_until"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment")),
        sa.UniqueConstraint(
            "ae_title",
            "transaction_uid",
            "digest",
            name=op.f("uq_commitment_ae_title_transaction_uid_digest"),
        ),
    )
    not_duplicate = sa.text("NOT duplicate")
    op.create_index(
        "uq_commitment_transaction",
        "commitment",
        ["ae_title", "transaction_uid"],
        unique=True,
        sqlite_where=not_duplicate,
        postgresql_where=not_duplicate,
    )
    due = sa.text("state IN ('accepted', 'checked', 'unaddressed')")
    op.create_index(
        "ix_commitment_due", "commitment", ["due_at"], sqlite_where=due, postgresql_where=due
    )
