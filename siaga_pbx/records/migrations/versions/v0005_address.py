"""The address that a caller's network gives with, or instead of, a place on the map."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("call", sa.Column("address", sa.String))
