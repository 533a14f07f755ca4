"""Notebooks remember when they were last used."""

import sqlalchemy as sa
from alembic import op

from sourcebook.database.tables import UTCDateTime

revision = "0009"
down_revision = "0008"
compatible_since = "0009"  # nothing older was ever released


def upgrade() -> None:
    """Only adds: until it is used again, a notebook was last used when it was last edited."""
    op.add_column("notebooks", sa.Column("used_at", UTCDateTime(), nullable=True))
