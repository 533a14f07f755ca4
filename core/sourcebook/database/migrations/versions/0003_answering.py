"""Runs that other processes follow, conversations that are edited, and the key that signs links."""

import sqlalchemy as sa
from alembic import op

from sourcebook.database.tables import UTCDateTime

revision = "0003"
down_revision = "0002"
compatible_since = "0003"  # nothing older was ever released


def upgrade() -> None:
    """Add columns and a table; nothing that an older version reads changes."""
    op.create_table(
        "server_secrets",
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_server_secrets")),
    )
    op.add_column("conversations", sa.Column("origin", sa.String(length=20), server_default="", nullable=False))
    op.add_column("conversations", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("messages", sa.Column("replaced_at", UTCDateTime(), nullable=True))
    op.add_column("runs", sa.Column("followed_until", UTCDateTime(), nullable=True))
    op.create_index("ix_runs_state", "runs", ["state", "lease_until"], unique=False)
