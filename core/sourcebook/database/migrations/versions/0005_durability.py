"""Fair shares of the queue, failures counted apart from leases, and files of more than 2 GiB."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
compatible_since = "0005"  # nothing older was ever released


def upgrade() -> None:
    """Add what the queue counts by; widen the size of a file where a width was set."""
    op.add_column("jobs", sa.Column("failures", sa.Integer(), server_default="0", nullable=False))
    op.create_index(op.f("ix_jobs_share"), "jobs", ["state", "owner_id", "priority", "run_at"], unique=False)
    op.create_table(
        "owner_turns",
        sa.Column("owner_id", sa.String(length=48), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_owner_turns_owner_id_owners"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("owner_id", name=op.f("pk_owner_turns")),
    )
    if op.get_bind().dialect.name != "sqlite":  # whose integers have no width
        op.alter_column("sources", "size", type_=sa.BigInteger(), existing_type=sa.Integer(), existing_nullable=False)
