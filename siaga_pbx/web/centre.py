"""What the HTTP side asks of the running centre. `CentreView` is the seam: `app.py` implements it.

Live state is read and commands are given on the event loop, so nothing here may block. What is on record is read
through `siaga_pbx.web.records.RecordsView` in a worker thread instead.
"""

from collections.abc import Sequence
from enum import Enum, StrEnum
from typing import Annotated, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Cause(Enum):
    """Why the centre refuses what it was asked; the value is the HTTP status that says so."""

    UNKNOWN = 404
    CONFLICT = 409
    INVALID = 422
    UNAVAILABLE = 503


class Refused(Exception):
    """The centre does not do what it was asked, and nothing has changed. The message is one line for a person."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class View(BaseModel):
    """Base of what is shown: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CentreState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"


class CallState(StrEnum):
    """Where a live call stands."""

    WAITING = "waiting"
    OFFERED = "offered"
    TALKING = "talking"
    OVERFLOW = "overflow"
    TEST = "test"
    CALLBACK = "callback"


UtcTime = Annotated[
    str, Field(description="UTC, as in 2026-11-24T00:00:00.000Z", examples=["2026-11-24T00:00:00.000Z"])
]


class QueueStatus(View):
    waiting: int = Field(description="callers without a seat")
    oldest_s: float = Field(0.0, description="seconds the longest of them has waited; 0 when nobody waits")


class SeatStatus(View):
    id: str
    name: str
    state: str = Field(description="offline, ready, offered, talking, wrap_up, paused or resting")
    reason: str | None = Field(None, description="why it is paused, where a reason was given")
    since: UtcTime | None = Field(None, description="when it entered this state")
    call_id: str | None = Field(None, description="the call it is offered or talks to")
    skills: tuple[str, ...] = ()


class CallerPlace(View):
    """A point on the map within so many metres, an address, or both."""

    lat: float | None = Field(None, description="degrees, WGS 84")
    lon: float | None = None
    radius_m: float | None = None
    method: str | None = Field(None, description="how it was found, in the network's word")
    address: str | None = Field(None, description="perhaps the subscriber's, not the caller's")


class LiveCall(View):
    id: str = Field(description="the call's id in the records")
    state: CallState
    trunk: str
    received_at: UtcTime
    since: UtcTime | None = Field(None, description="when it entered this state")
    seat_id: str | None = None
    identity_class: str | None = Field(None, description="subscriber, no_credit, no_sim or withheld")
    callable: bool | None = None
    priority: int | None = None
    caller_number: str | None = Field(None, description="E.164; only shown with the token")
    place: CallerPlace | None = Field(
        None, description="where the network says the caller is; only shown with the token"
    )
    on_hold_since: UtcTime | None = Field(None, description="when the seat put the caller on hold; null: it does not")
    unheard: tuple[str, ...] = Field((), description="whose audio does not arrive though it should: caller, seat ...")


class TrunkStatus(View):
    id: str
    up: bool | None = Field(None, description="null: not checked, the trunk has no health_uri")


class AgencyStatus(View):
    id: str
    name: str
    online: bool | None = Field(None, description="null: nothing heard of it yet")


class OutboxStatus(View):
    pending: int = Field(0, description="dispatches that no agency's endpoint has received yet")
    oldest_s: float = Field(0.0, description="seconds the oldest of them has waited")


class AlarmStatus(View):
    name: str
    since: UtcTime
    detail: str = Field("", description="one line for a person; it never carries a caller's number")


class CategoryStatus(View):
    id: str
    name: str


class Status(View):
    """The centre at one moment."""

    centre: str = Field(description="the centre's id")
    name: str
    node: str = ""
    version: str
    state: CentreState
    at: UtcTime
    started_at: UtcTime
    queue: QueueStatus
    seats: tuple[SeatStatus, ...] = ()
    calls: tuple[LiveCall, ...] = Field((), description="calls that have not ended, oldest first")
    trunks: tuple[TrunkStatus, ...] = ()
    mqtt_connected: bool = False
    agencies: tuple[AgencyStatus, ...] = ()
    outbox: OutboxStatus = OutboxStatus()
    journal_pending: int = Field(0, description="record entries that wait for the database to work again")
    alarms: tuple[AlarmStatus, ...] = ()
    categories: tuple[CategoryStatus, ...] = Field((), description="what a dispatch can be for")

    def without_callers(self) -> "Status":
        """The same with nothing in it that shows a caller."""
        return self.model_copy(
            update={
                "calls": tuple(call.model_copy(update={"caller_number": None, "place": None}) for call in self.calls)
            }
        )


class Check(View):
    """One condition of readiness."""

    name: str
    ok: bool
    detail: str = Field("", description="what is wrong, when not ok")


class Reloaded(View):
    """What a reload did. `restart` names changed keys that only a restart brings into force."""

    restart: tuple[str, ...] = ()


Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)]
Address = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)]


Category = Annotated[str, StringConstraints(min_length=1, max_length=32)]


class Place(View):
    """Where it is, by whoever knows better than the network."""

    lat: Annotated[float, Field(ge=-90, le=90)] = Field(description="degrees, WGS 84")
    lon: Annotated[float, Field(ge=-180, le=180)] = Field(description="degrees, WGS 84")
    radius_m: Annotated[float, Field(ge=0)] | None = Field(None, description="metres around it")
    method: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        "manual", description="how it was found; what is manual stands until it is corrected"
    )


class Report(View):
    """What is known; what is left out stays as it was."""

    note: Note = Field("", description="what happened, in the call-taker's words", examples=["Rumah terbakar"])
    address: Address | None = Field(None, description="where, in words", examples=["Jl. Siliwangi 1"])
    people: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(None, description="how many people are affected")
    place: Place | None = Field(None, description="where, in degrees")
    protected: bool = Field(False, description="the informant's number is in no message to an agency")


class DispatchRequest(Report):
    """What a call-taker sends to the agencies of a category."""

    category: Category = Field(description="a category of the dialplan", examples=["fire"])


class UpdateRequest(Report):
    """More is known: those who are dispatched are told."""

    category: Category | None = Field(None, description="which incident of the call, if it has several")
    incident_id: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="another call's incident that this call is about too: one caller more"
    )


class CancelRequest(View):
    """Nobody is to go any more."""

    category: Category | None = Field(None, description="which incident of the call, if it has several")
    agency: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        None, description="this agency alone; all of the incident's without it"
    )
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = Field(
        "", description="why; the agencies read it", examples=["Alarm palsu"]
    )


DispatchAsked: TypeAlias = DispatchRequest | UpdateRequest | CancelRequest


class DispatchOrder(DispatchRequest):
    """The same, with the call it is for."""

    call_id: str


class DispatchReceipt(View):
    """Given once incident, dispatches and outbox are committed; delivery is followed from there."""

    incident_id: str
    dispatch_ids: tuple[str, ...]


class CentreView(Protocol):
    """The running centre as the HTTP side sees it. Called on the event loop; `Refused` is the only error."""

    def status(self) -> Status:
        """Everything live, callers' numbers included; who may not see them gets `without_callers()`."""

    def checks(self) -> Sequence[Check]:
        """The conditions of readiness: configuration, sip, media, and not draining or starting."""

    async def reload(self) -> Reloaded:
        """Read the configuration again. Refused (INVALID, all errors in the message): the old one stays in force."""

    async def dispatch(self, order: DispatchOrder) -> DispatchReceipt:
        """Commit incident and dispatches. Refused: UNKNOWN call, INVALID category, UNAVAILABLE store; none written."""

    async def update_dispatches(self, call_id: str, update: UpdateRequest) -> DispatchReceipt:
        """Commit the next sequences. Refused: UNKNOWN call or incident, CONFLICT: which one?, UNAVAILABLE store."""

    async def cancel_dispatches(self, call_id: str, cancel: CancelRequest) -> DispatchReceipt:
        """The same; UNKNOWN as well when the agency is not dispatched."""

    def pause_seat(self, seat_id: str, reason: str | None) -> None:
        """Offer the seat no more calls (a running one goes on). Refused: UNKNOWN seat."""

    def ready_seat(self, seat_id: str) -> None:
        """Offer the seat calls again. Refused: UNKNOWN seat, CONFLICT when it is not registered."""

    async def dismiss_callback(self, call_id: str, reason: str) -> None:
        """Take a call off the call-back list. Refused: UNKNOWN when it is not on it, UNAVAILABLE store."""
