"""How Alembic runs here: on the connection that `storage.index.migrate` hands over."""

from alembic import context

from storage.index.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
