"""Alembic's entry: the steps run on the connection that `database.migrate` hands over, in its transaction."""

from alembic import context

from siaga_pbx.records.models import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
