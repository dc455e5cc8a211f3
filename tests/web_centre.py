"""A centre for the tests of the HTTP side and the commands: live state in memory, the same seam as the real one."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from siaga_pbx.dispatch.quarantine import Quarantined
from siaga_pbx.web.centre import (
    AgencyStatus,
    AlarmStatus,
    CallState,
    CancelRequest,
    CategoryStatus,
    Cause,
    CentreState,
    Check,
    DispatchOrder,
    DispatchReceipt,
    LiveCall,
    OutboxStatus,
    QueueStatus,
    Refused,
    Reloaded,
    SeatStatus,
    Status,
    TrunkStatus,
    UpdateRequest,
)
from siaga_pbx.web.records import Row


class Outage(Exception):
    """The records cannot be read."""


QUARANTINED = (Quarantined(7, "2026-11-24T08:00:00.000Z", "siaga/ack/damkar", "not JSON", "<script>alert(1)</script>"),)

TOKEN = "t0ken-of-the-tests-0123456789abcdef"
NUMBER = "+6281234567890"
AT = "2026-11-24T08:00:30.000Z"


def a_status() -> Status:
    return Status(
        centre="cirebon",
        name="Cirebon Siaga 112",
        node="pbx1",
        version="0.1.0",
        state=CentreState.RUNNING,
        at=AT,
        started_at="2026-11-24T05:00:00.000Z",
        queue=QueueStatus(waiting=1, oldest_s=12.5),
        seats=(
            SeatStatus(id="101", name="Meja 1", state="ready", since="2026-11-24T07:59:00.000Z", skills=("id", "jv")),
            SeatStatus(id="102", name="Meja 2", state="talking", since="2026-11-24T07:58:00.000Z", call_id="c2"),
            SeatStatus(id="103", name="Meja 3", state="paused", reason="istirahat", since="2026-11-24T07:50:00.000Z"),
            SeatStatus(id="104", name="Meja 4", state="offline"),
        ),
        calls=(
            LiveCall(
                id="c2",
                state=CallState.TALKING,
                trunk="telkomsel",
                received_at="2026-11-24T07:57:50.000Z",
                seat_id="102",
                identity_class="subscriber",
                callable=True,
                caller_number=NUMBER,
            ),
            LiveCall(
                id="c1",
                state=CallState.WAITING,
                trunk="indosat",
                received_at="2026-11-24T08:00:17.500Z",
                identity_class="no_sim",
                callable=False,
            ),
        ),
        trunks=(TrunkStatus(id="telkomsel", up=True), TrunkStatus(id="indosat", up=False), TrunkStatus(id="xl")),
        mqtt_connected=True,
        agencies=(AgencyStatus(id="damkar", name="Damkar", online=True), AgencyStatus(id="bpbd", name="BPBD")),
        outbox=OutboxStatus(pending=2, oldest_s=3.0),
        alarms=(AlarmStatus(name="trunk_down", since="2026-11-24T07:30:00.000Z", detail="indosat: no answer"),),
        categories=(CategoryStatus(id="fire", name="Kebakaran"), CategoryStatus(id="health", name="Kesehatan")),
    )


@dataclass
class ACentre:
    """Follows `CentreView`; remembers what it was asked for."""

    state: Status = field(default_factory=a_status)
    conditions: Sequence[Check] = (Check(name="sip", ok=True), Check(name="media", ok=True))
    known_calls: frozenset[str] = frozenset({"c1", "c2"})
    orders: list[DispatchOrder] = field(default_factory=list)
    changes: list[UpdateRequest | CancelRequest] = field(default_factory=list)
    dismissed: list[tuple[str, str]] = field(default_factory=list)
    reload_error: str | None = None

    def status(self) -> Status:
        return self.state

    def checks(self) -> Sequence[Check]:
        return self.conditions

    async def reload(self) -> Reloaded:
        if self.reload_error is not None:
            raise Refused(Cause.INVALID, self.reload_error)
        return Reloaded(restart=("sip.listen",))

    async def dispatch(self, order: DispatchOrder) -> DispatchReceipt:
        if order.call_id not in self.known_calls:
            raise Refused(Cause.UNKNOWN, f"no call {order.call_id} is on record")
        if order.category not in {category.id for category in self.state.categories}:
            raise Refused(Cause.INVALID, f"no category {order.category}; there are fire, health")
        self.orders.append(order)
        return DispatchReceipt(incident_id="i1", dispatch_ids=("d1", "d2"))

    async def update_dispatches(self, call_id: str, update: UpdateRequest) -> DispatchReceipt:
        return self._changed(call_id, update)

    async def cancel_dispatches(self, call_id: str, cancel: CancelRequest) -> DispatchReceipt:
        return self._changed(call_id, cancel)

    def _changed(self, call_id: str, asked: UpdateRequest | CancelRequest) -> DispatchReceipt:
        if call_id not in self.known_calls:
            raise Refused(Cause.UNKNOWN, f"no call {call_id} is on record")
        if asked.category is None:
            raise Refused(Cause.CONFLICT, f"call {call_id} has several open incidents: name the category")
        self.changes.append(asked)
        return DispatchReceipt(incident_id="i1", dispatch_ids=("d1", "d2"))

    def pause_seat(self, seat_id: str, reason: str | None) -> None:
        self._set(seat_id, "paused", reason)

    def ready_seat(self, seat_id: str) -> None:
        self._set(seat_id, "ready", None)

    async def dismiss_callback(self, call_id: str, reason: str) -> None:
        if call_id not in self.known_calls:
            raise Refused(Cause.UNKNOWN, f"call {call_id} is not on the call-back list")
        self.dismissed.append((call_id, reason))

    def _set(self, seat_id: str, state: str, reason: str | None) -> None:
        if seat_id not in {seat.id for seat in self.state.seats}:
            raise Refused(Cause.UNKNOWN, f"no seat {seat_id}")
        changed = {"state": state, "reason": reason}
        seats = tuple(seat.model_copy(update=changed) if seat.id == seat_id else seat for seat in self.state.seats)
        self.state = self.state.model_copy(update={"seats": seats})


@dataclass
class SomeRecords:
    """Follows `RecordsView`, over rows in memory."""

    call_rows: list[Row] = field(default_factory=list)
    event_rows: list[Row] = field(default_factory=list)
    incident_rows: list[Row] = field(default_factory=list)
    dispatch_rows: list[Row] = field(default_factory=list)
    fault: Exception | None = None

    def calls(self, *, since: str | None = None, limit: int | None = None) -> Sequence[Row]:
        self._fail()
        return _cut(self.call_rows, "received_at", since, limit)

    def call(self, id: str) -> Row | None:
        self._fail()
        return next((row for row in self.call_rows if row["id"] == id), None)

    def events(self, *, call_id: str | None = None) -> Sequence[Row]:
        return [row for row in self.event_rows if row["call_id"] == call_id]

    def incidents(
        self, *, call_id: str | None = None, since: str | None = None, limit: int | None = None
    ) -> Sequence[Row]:
        rows = [row for row in self.incident_rows if call_id in (None, row["call_id"])]
        return _cut(rows, "opened_at", since, limit)

    def dispatches(
        self, *, call_id: str | None = None, since: str | None = None, limit: int | None = None
    ) -> Sequence[Row]:
        self._fail()
        of_call = {row["id"] for row in self.incidents(call_id=call_id)}
        return _cut([row for row in self.dispatch_rows if row["incident_id"] in of_call], "created_at", since, limit)

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault

    def callbacks(self) -> Sequence[Row]:
        self._fail()
        return [row for row in self.call_rows if row["outcome"] == "abandoned"]


def a_call(number: int, outcome: str = "answered", **more: object) -> Row:
    return {
        "id": f"c{number}",
        "received_at": f"2026-11-24T07:{number:02d}:00.000Z",
        "ended_at": f"2026-11-24T07:{number:02d}:20.000Z",
        "caller_number": NUMBER,
        "trunk": "telkomsel",
        "outcome": outcome,
        "recording": None,
        "recording_sha256": None,
        "address": None,
        "answered_at": None,
        **more,
    }


def _cut(rows: Sequence[Row], column: str, since: str | None, limit: int | None) -> Sequence[Row]:
    later = [row for row in rows if str(row[column]) >= (since or "")]
    return later if limit is None else later[-limit:]
