"""Calls that are held: needed, so that nothing of them goes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "hold",
        sa.Column("id", sa.String, sa.ForeignKey("call.id"), primary_key=True),
        sa.Column("reason", sa.String),
        sa.Column("placed_at", sa.String, nullable=False),
        sa.Column("placed_by", sa.String, nullable=False),
        sa.Column("released_at", sa.String),
        sa.Column("released_by", sa.String),
    )
