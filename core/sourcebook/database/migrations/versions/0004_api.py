"""Limits of a key's own."""

import sqlalchemy as sa
from alembic import op

from sourcebook.database.tables import JSON

revision = "0004"
down_revision = "0003"
compatible_since = "0004"  # nothing older was ever released


def upgrade() -> None:
    """Only adds."""
    op.add_column("keys", sa.Column("limits", JSON, nullable=True))
