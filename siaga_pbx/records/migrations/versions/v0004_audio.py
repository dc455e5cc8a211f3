"""How well the caller was heard, and what the call's recording was when it was complete."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("call", sa.Column("rtp_mos", sa.Float))
    op.add_column("call", sa.Column("recording_sha256", sa.String))
