"""Notebooks count how often what is found in them has changed, so that searches can be remembered until then."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
compatible_since = "0007"  # nothing older was ever released


def upgrade() -> None:
    """Only adds."""
    op.add_column("notebooks", sa.Column("epoch", sa.Integer(), nullable=False, server_default="0"))
