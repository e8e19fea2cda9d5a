"""What Alembic runs to migrate: on the connection, and in the transaction, that `store/database.py` hands over."""

from __future__ import annotations

from alembic import context

from vedette_server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=context.config.attributes["version_table"],
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
