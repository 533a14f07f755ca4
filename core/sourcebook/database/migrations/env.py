"""Alembic's entry: the connection is handed over by `upgrade.py`."""

from alembic import context

from sourcebook.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
