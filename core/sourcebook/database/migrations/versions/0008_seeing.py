"""How each run came about."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
compatible_since = "0008"  # nothing older was ever released


def upgrade() -> None:
    """Only adds."""
    op.create_table(
        "run_traces",
        sa.Column("run_id", sa.String(length=48), nullable=False),
        sa.Column("trace", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_traces_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_traces")),
    )
