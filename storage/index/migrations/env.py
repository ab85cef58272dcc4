"""How Alembic runs here: on the connection that `storage.index.migrate` hands over."""

from alembic import context

from storage.index.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # One that begins outside of a transaction, as PostgreSQL's does, may leave it for a while:
    # an index of a large table is made CONCURRENTLY (`op.get_context().autocommit_block`).
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
