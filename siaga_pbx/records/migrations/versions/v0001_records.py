"""The first schema: calls, events, incidents, dispatches, and what the daemon keeps for its own restart."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    _create_call()
    _create_event()
    _create_incident()
    _create_dispatch()
    _create_own()


def _create_call() -> None:
    op.create_table(
        "call",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("sip_call_id", sa.String),
        sa.Column("trunk", sa.String),
        sa.Column("called", sa.String),
        sa.Column("caller_number", sa.String),
        sa.Column("identity_class", sa.String),
        sa.Column("callable", sa.Boolean),
        sa.Column("language", sa.String),
        sa.Column("lat", sa.Float),
        sa.Column("lon", sa.Float),
        sa.Column("radius_m", sa.Float),
        sa.Column("location_method", sa.String),
        sa.Column("received_at", sa.String, nullable=False, index=True),
        sa.Column("answered_at", sa.String),
        sa.Column("offered_at", sa.String),
        sa.Column("connected_at", sa.String),
        sa.Column("ended_at", sa.String),
        sa.Column("seat_id", sa.String),
        sa.Column("outcome", sa.String),
        sa.Column("ended_by", sa.String),
        sa.Column("sip_status", sa.Integer),
        sa.Column("reason", sa.String),
        sa.Column("priority", sa.Integer),
        sa.Column("disposition", sa.String),
        sa.Column("recording", sa.String),
        sa.Column("rtp_lost", _WHOLE),
        sa.Column("rtp_jitter_ms", sa.Float),
        sa.Column("node", sa.String),
    )


def _create_event() -> None:
    op.create_table(
        "event",
        sa.Column("seq", _WHOLE, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("call_id", sa.String),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("data", sa.Text),
        sa.Column("salt", sa.String),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
    )
    of_calls, of_others = sa.text("call_id IS NOT NULL"), sa.text("subject <> 'call'")
    op.create_index("ix_event_call_id", "event", ["call_id"], sqlite_where=of_calls, postgresql_where=of_calls)
    op.create_index("ix_event_subject_id", "event", ["subject_id"], sqlite_where=of_others, postgresql_where=of_others)


def _create_incident() -> None:
    op.create_table(
        "incident",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("call_id", sa.String, sa.ForeignKey("call.id"), nullable=False, index=True),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("note", sa.String),
        sa.Column("address", sa.String),
        sa.Column("lat", sa.Float),
        sa.Column("lon", sa.Float),
        sa.Column("people", _WHOLE),
        sa.Column("protected", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("opened_at", sa.String, nullable=False),
        sa.Column("closed_at", sa.String),
        sa.Column("status", sa.String, nullable=False),
    )


def _create_dispatch() -> None:
    op.create_table(
        "dispatch",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("incident_id", sa.String, sa.ForeignKey("incident.id"), nullable=False),
        sa.Column("agency", sa.String, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("message", sa.Text),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("published_at", sa.String),
        sa.Column("received_at", sa.String),
        sa.Column("accepted_at", sa.String),
        sa.Column("arrived_at", sa.String),
        sa.Column("cleared_at", sa.String),
        sa.Column("next_attempt_at", sa.String),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.UniqueConstraint("incident_id", "agency"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("dispatch_id", sa.String, sa.ForeignKey("dispatch.id"), nullable=False, index=True),
        sa.Column("agency", sa.String, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("expires_at", sa.String),
        sa.Column("next_attempt_at", sa.String),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("published_at", sa.String),
        sa.Column("error", sa.String),
    )


def _create_own() -> None:
    op.create_table(
        "seat_binding",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("seat", sa.String, nullable=False, index=True),
        sa.Column("contact", sa.String, nullable=False),
        sa.Column("flow", sa.Text),
        sa.Column("via_is_source", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("expires_at", sa.String, nullable=False),
        sa.Column("call_id", sa.String, nullable=False),
        sa.Column("cseq", _WHOLE, nullable=False),
        sa.Column("path", sa.String),
        sa.Column("user_agent", sa.String),
    )
    op.create_table(
        "callback",
        sa.Column("id", sa.String, sa.ForeignKey("call.id"), primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("seat_id", sa.String),
        sa.Column("reason", sa.String),
    )
    op.create_table(
        "writer",
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("batch", _WHOLE, nullable=False),
        sa.Column("seq", _WHOLE, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
    )
