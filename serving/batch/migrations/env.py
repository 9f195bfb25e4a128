"""Run by Alembic, which `serving.batch.migrate` gives a connection in a transaction."""

from __future__ import annotations

from alembic import context

from serving.batch.migrations.schema_compare import same_type
from serving.batch.tables import VERSION, Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION,
    compare_type=same_type,
    compare_server_default=False,
    # SQLite changes a table by making it anew.
    render_as_batch=True,
)
context.run_migrations()
