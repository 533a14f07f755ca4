"""Reindexes: a notebook's way from one index spec to another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sourcebook.database.tables import JSON, UTCDateTime

revision = "0006"
down_revision = "0005"
compatible_since = "0006"  # nothing older was ever released


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "reindexes",
        sa.Column("id", sa.String(48), nullable=False),
        sa.Column("notebook_id", sa.String(48), nullable=False),
        sa.Column("from_spec_id", sa.String(48), nullable=False),
        sa.Column("to_spec_id", sa.String(48), nullable=False),
        sa.Column("pipeline", sa.String(100), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("job_id", sa.String(48), nullable=False),
        sa.Column("estimate", JSON, nullable=False),
        sa.Column("problem", JSON, nullable=True),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("switched_at", UTCDateTime(), nullable=True),
        sa.Column("finished_at", UTCDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["from_spec_id"], ["index_specs.id"], name=op.f("fk_reindexes_from_spec_id_index_specs")
        ),
        sa.ForeignKeyConstraint(["notebook_id"], ["notebooks.id"], name=op.f("fk_reindexes_notebook_id_notebooks")),
        sa.ForeignKeyConstraint(["to_spec_id"], ["index_specs.id"], name=op.f("fk_reindexes_to_spec_id_index_specs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reindexes")),
    )
    for column in ("notebook_id", "from_spec_id", "to_spec_id"):
        op.create_index(op.f(f"ix_reindexes_{column}"), "reindexes", [column], unique=False)


def downgrade() -> None:
    """Remove it."""
    op.drop_table("reindexes")
