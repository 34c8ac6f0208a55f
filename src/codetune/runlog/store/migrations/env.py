"""Runs the migrations on the connection that the caller has opened, inside its transaction."""

from alembic import context

from codetune.runlog.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,  # SQLite can, as long as the driver does not commit on its own
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
