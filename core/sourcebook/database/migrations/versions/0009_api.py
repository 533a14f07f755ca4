"""Limits of a key's own."""

import sqlalchemy as sa
from alembic import op

from sourcebook.database.tables import JSON

revision = "0009"
down_revision = "0006"


def upgrade() -> None:
    """Only adds."""
    op.add_column("keys", sa.Column("limits", JSON, nullable=True))
