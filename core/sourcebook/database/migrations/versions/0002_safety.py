"""Generations may bring bytes of their own; an archive's tree counts its seconds."""

import sqlalchemy as sa
from alembic import op

from sourcebook.database.tables import JSON

revision = "0002"
down_revision = "0001"
compatible_since = "0002"  # nothing older was ever released


def upgrade() -> None:
    """Add columns, all of which may be empty."""
    op.add_column("generations", sa.Column("blob_key", sa.String(length=64), nullable=True))
    op.add_column("generations", sa.Column("content", JSON, nullable=True))
    op.add_column("sources", sa.Column("tree_seconds", sa.Float(), nullable=False, server_default="0"))
