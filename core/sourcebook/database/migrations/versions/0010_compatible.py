"""The schema says which older versions can go on with it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
compatible_since = "0010"  # what is older refuses every schema that it does not know


def upgrade() -> None:
    """Add the table; `upgrade.py` writes its one row, from the newest migration that has run."""
    op.create_table(
        "schema_compatible",
        sa.Column("revision", sa.String(length=32), nullable=False),
        sa.Column("since", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_schema_compatible")),
    )
