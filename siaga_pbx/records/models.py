"""The tables. `call`, `event`, `incident` and `dispatch` are contract: other programs read them by these names.

Times are text, UTC, always `2026-11-24T00:00:00.000Z`; ids are UUIDv7. Columns that hold JSON hold it as text, so that
what was hashed is what is stored. Defaults are the database's own, for the writer runs plain statements. The schema is
made by the migrations; a test compares it with these models.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text, UniqueConstraint, false, text
from sqlmodel import Field, SQLModel

# SQLite's integers have 64 bits by themselves, and a primary key that is called otherwise would not be its row id.
_WHOLE = Integer().with_variant(BigInteger(), "postgresql")
_OF_CALLS = text("call_id IS NOT NULL")
_OF_OTHERS = text("subject <> 'call'")


class CallRow(SQLModel, table=True):
    """One call; the row is written when the INVITE arrives and closed (`ended_at`) when the caller's leg ends."""

    __tablename__ = "call"

    id: str = Field(primary_key=True)
    sip_call_id: str | None = None
    trunk: str | None = None
    called: str | None = None
    caller_number: str | None = None
    identity_class: str | None = None
    callable: bool | None = None
    language: str | None = None
    lat: float | None = None
    lon: float | None = None
    radius_m: float | None = None
    location_method: str | None = None
    received_at: str = Field(index=True)
    answered_at: str | None = None
    offered_at: str | None = None
    connected_at: str | None = None
    ended_at: str | None = None
    seat_id: str | None = None
    outcome: str | None = None
    ended_by: str | None = None
    sip_status: int | None = None
    reason: str | None = None
    priority: int | None = None
    disposition: str | None = None
    recording: str | None = None
    rtp_lost: int | None = Field(default=None, sa_type=_WHOLE)
    rtp_jitter_ms: float | None = None
    node: str | None = None
    rtp_mos: float | None = None
    recording_sha256: str | None = None
    address: str | None = None


class EventRow(SQLModel, table=True):
    """One step, chained to the one before it (see `chain`). `data` and `salt` are null once erased."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_call_id", "call_id", sqlite_where=_OF_CALLS, postgresql_where=_OF_CALLS),
        Index("ix_event_subject_id", "subject_id", sqlite_where=_OF_OTHERS, postgresql_where=_OF_OTHERS),
    )

    seq: int = Field(primary_key=True, sa_type=_WHOLE, sa_column_kwargs={"autoincrement": False})
    id: str = Field(unique=True)
    at: str
    subject: str
    subject_id: str
    call_id: str | None = None
    kind: str
    data: str | None = Field(default=None, sa_type=Text)
    salt: str | None = None
    digest: str
    hash: str


class IncidentRow(SQLModel, table=True):
    """What happened, as the call-taker understood it."""

    __tablename__ = "incident"

    id: str = Field(primary_key=True)
    call_id: str = Field(foreign_key="call.id", index=True)
    category: str
    note: str | None = None
    address: str | None = None
    lat: float | None = None
    lon: float | None = None
    people: int | None = Field(default=None, sa_type=_WHOLE)
    protected: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))
    opened_at: str
    closed_at: str | None = None
    status: str
    radius_m: float | None = None
    location_method: str | None = None
    callers: int = Field(default=1, sa_column=Column(Integer, nullable=False, server_default=text("1")))


class DispatchRow(SQLModel, table=True):
    """One agency's part in one incident, for life; an update keeps the row and raises `sequence`."""

    __tablename__ = "dispatch"
    __table_args__ = (UniqueConstraint("incident_id", "agency"),)

    id: str = Field(primary_key=True)
    incident_id: str = Field(foreign_key="incident.id")
    agency: str
    sequence: int
    state: str
    message: str | None = Field(default=None, sa_type=Text)
    created_at: str
    published_at: str | None = None
    received_at: str | None = None
    accepted_at: str | None = None
    arrived_at: str | None = None
    cleared_at: str | None = None
    next_attempt_at: str | None = None
    attempts: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default=text("0")))
    en_route_at: str | None = None
    rejected_at: str | None = None
    reason: str | None = None
    accept_by: str | None = None
    arrive_by: str | None = None


class OutboxRow(SQLModel, table=True):
    """A message to be published until its agency says "received"; written with its dispatch, deleted when done."""

    __tablename__ = "outbox"

    id: str = Field(primary_key=True)
    dispatch_id: str = Field(foreign_key="dispatch.id", index=True)
    agency: str
    sequence: int
    message: str = Field(sa_type=Text)
    created_at: str
    expires_at: str | None = None
    next_attempt_at: str | None = None
    attempts: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default=text("0")))
    published_at: str | None = None
    error: str | None = None


class SeatBindingRow(SQLModel, table=True):
    """A live registration (RFC 3261 10): a restart loses no seat. `flow` (JSON): where the REGISTER came from."""

    __tablename__ = "seat_binding"

    id: str = Field(primary_key=True)
    seat: str = Field(index=True)
    contact: str
    flow: str | None = Field(default=None, sa_type=Text)
    via_is_source: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))
    expires_at: str
    call_id: str
    cseq: int = Field(sa_type=_WHOLE)
    path: str | None = None
    user_agent: str | None = None


class CallbackRow(SQLModel, table=True):
    """What became of a call on the call-back list: `called` or `dismissed` (with a reason). `id` is the call's."""

    __tablename__ = "callback"

    id: str = Field(primary_key=True, foreign_key="call.id")
    state: str
    at: str
    seat_id: str | None = None
    reason: str | None = None


class HoldRow(SQLModel, table=True):
    """A call that is needed, by a court or an inquiry: until it is released nothing of it goes. `id` is the call's."""

    __tablename__ = "hold"

    id: str = Field(primary_key=True, foreign_key="call.id")
    reason: str | None = None
    placed_at: str
    placed_by: str
    released_at: str | None = None
    released_by: str | None = None


class WriterRow(SQLModel, table=True):
    """How far a run of the writer came: its last batch (the journal is replayed from there) and its last event."""

    __tablename__ = "writer"

    run: str = Field(primary_key=True)
    batch: int = Field(sa_type=_WHOLE)
    seq: int = Field(sa_type=_WHOLE)
    hash: str


METADATA = SQLModel.metadata


def tables() -> dict[str, Table]:
    """Every table by its name."""
    return dict(METADATA.tables)
