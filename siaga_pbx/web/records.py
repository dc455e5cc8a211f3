"""What the HTTP side reads of the records, and its form: rows whose keys are the column names of the tables.

The models below only describe the rows in OpenAPI: rows are sent as they are read, and a test compares the models with
the tables.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from pydantic import BaseModel, Field, JsonValue

Row: TypeAlias = Mapping[str, object]


class RecordsView(Protocol):
    """Reads of the records, in worker threads: `siaga_pbx.records.reader.Reader` serves.

    Rows come oldest first with their JSON columns decoded; `since` is UTC text; `limit` keeps the newest.
    """

    def calls(self, *, since: str | None = None, limit: int | None = None) -> Sequence[Row]:
        """Calls by their time of arrival."""

    def call(self, id: str) -> Row | None:
        """One call."""

    def events(self, *, call_id: str | None = None) -> Sequence[Row]:
        """The steps of a call."""

    def incidents(
        self, *, call_id: str | None = None, since: str | None = None, limit: int | None = None
    ) -> Sequence[Row]:
        """Incidents by the time they were opened."""

    def dispatches(
        self, *, call_id: str | None = None, since: str | None = None, limit: int | None = None
    ) -> Sequence[Row]:
        """Dispatches by the time they were made."""

    def callbacks(self) -> Sequence[Row]:
        """The call-back list: calls that were lost and can be called back, neither called nor dismissed yet."""


class CallRecord(BaseModel):
    """A call, from its arrival to its end."""

    id: str
    sip_call_id: str | None
    trunk: str | None
    called: str | None
    caller_number: str | None = Field(description="E.164 where there is one")
    identity_class: str | None = Field(description="subscriber, no_credit, no_sim or withheld")
    callable: bool | None
    language: str | None
    lat: float | None
    lon: float | None
    radius_m: float | None
    location_method: str | None
    received_at: str
    answered_at: str | None = Field(description="our 200")
    offered_at: str | None = Field(description="first offer to a seat")
    connected_at: str | None = Field(description="both legs answered")
    ended_at: str | None = Field(description="the caller's leg ended")
    seat_id: str | None
    outcome: str | None = Field(description="answered, abandoned, overflowed, test, failed or interrupted")
    ended_by: str | None
    sip_status: int | None
    reason: str | None
    priority: int | None
    disposition: str | None = Field(description="normal, prank, ghost or information")
    recording: str | None
    rtp_lost: int | None
    rtp_jitter_ms: float | None
    node: str | None
    rtp_mos: float | None = Field(description="how well the caller was heard, 1 to 4.5 (ITU-T G.107)")
    recording_sha256: str | None = Field(description="of the audio file, once it is complete")
    address: str | None = Field(description="as the network gave it; perhaps the subscriber's, not the caller's")


class EventRecord(BaseModel):
    """One step on record, chained to the one before it."""

    seq: int
    id: str
    at: str
    subject: str
    subject_id: str
    call_id: str | None
    kind: str
    data: JsonValue
    salt: str | None
    digest: str
    hash: str


class IncidentRecord(BaseModel):
    """What happened, as the call-taker understood it."""

    id: str
    call_id: str
    category: str
    note: str | None
    address: str | None
    lat: float | None
    lon: float | None
    people: int | None
    protected: bool
    opened_at: str
    closed_at: str | None
    status: str
    radius_m: float | None
    location_method: str | None = Field(description="how lat, lon were found; manual: the call-taker's word")
    callers: int = Field(description="how many calls have reported it")


class DispatchRecord(BaseModel):
    """One agency's part in one incident."""

    id: str
    incident_id: str
    agency: str
    sequence: int
    state: str = Field(
        description="pending, published, received, accepted, rejected, en_route, on_scene, cleared, failed or cancelled"
    )
    message: JsonValue = Field(description="what was sent")
    created_at: str
    published_at: str | None
    received_at: str | None
    accepted_at: str | None
    arrived_at: str | None
    cleared_at: str | None
    next_attempt_at: str | None
    attempts: int
    en_route_at: str | None
    rejected_at: str | None
    reason: str | None = Field(description="why it was rejected, or cancelled")
    accept_by: str | None = Field(description="until then a person has to accept, or the next step is taken")
    arrive_by: str | None = Field(description="until then they have to be on scene, or the next step is taken")


class CallDetail(BaseModel):
    """A call with its steps and what was dispatched for it."""

    call: CallRecord
    events: list[EventRecord]
    incidents: list[IncidentRecord]
    dispatches: list[DispatchRecord]
