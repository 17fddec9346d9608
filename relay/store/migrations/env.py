"""Alembic's entry: runs the migrations on the connection that :func:`relay.store.engine.migrate` hands over."""

from alembic import context

from relay.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
