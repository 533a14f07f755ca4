"""Notebooks count how often what is found in them has changed, so that searches can be remembered until then."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Only adds."""
    op.add_column("notebooks", sa.Column("epoch", sa.Integer(), nullable=False, server_default="0"))
