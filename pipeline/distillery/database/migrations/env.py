"""Alembic's entry point; called by :mod:`distillery.database.migrate`, never by the ``alembic`` command."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
