"""Forwarding: rules, what is to be sent, and what was."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default="")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def upgrade() -> None:
    """Make the tables; what is stored already has not newly arrived."""
    op.create_table(
        "forward_rule",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        _count("since"),
        _text("principal"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_forward_rule")),
    )
    op.create_table(
        "forward_job",
        sa.Column("id", _KEY, nullable=False),
        _text("rule"),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        _text("series_instance_uid"),
        _text("sop_instance_uid"),
        sa.Column("state", sa.Text(), nullable=False),
        _count("change"),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        _count("sent"),
        _count("refused"),
        _count("failed"),
        _text("reason"),
        _text("claim"),
        _count("lease_until"),
        _text("principal"),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forward_job")),
        sa.UniqueConstraint(
            "rule",
            "destination",
            "study_instance_uid",
            "series_instance_uid",
            "sop_instance_uid",
            name="uq_forward_job",
        ),
    )
    op.create_index(
        op.f("ix_forward_job_state_due_at_destination"),
        "forward_job",
        ["state", "due_at", "destination"],
    )
    op.create_index(
        op.f("ix_forward_job_study_instance_uid"), "forward_job", ["study_instance_uid"]
    )
    op.create_table(
        "forward_delivery",
        sa.Column("instance_fk", _KEY, autoincrement=False, nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer()),
        _text("reason"),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_fk"],
            ["instance.id"],
            name=op.f("fk_forward_delivery_instance_fk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("instance_fk", "destination", name=op.f("pk_forward_delivery")),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO counter (name, value) "
        "SELECT 'forward', value FROM counter WHERE name = 'change'"
    )
