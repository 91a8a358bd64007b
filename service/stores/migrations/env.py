"""How alembic runs our migrations: on the connection that `service.stores.migrate` opened."""

from alembic import context

from service.stores.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
