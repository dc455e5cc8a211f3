"""A dispatch's steps with their times and deadlines, and why it was rejected; how many people report an incident."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for name in ("en_route_at", "rejected_at", "reason", "accept_by", "arrive_by"):
        op.add_column("dispatch", sa.Column(name, sa.String))
    op.add_column("incident", sa.Column("radius_m", sa.Float))
    op.add_column("incident", sa.Column("location_method", sa.String))
    op.add_column("incident", sa.Column("callers", sa.Integer, nullable=False, server_default=sa.text("1")))
