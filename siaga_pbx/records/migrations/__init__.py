"""The schema's history (Alembic). `database.migrate` runs it when the store opens; nothing else needs to."""
