"""What the switch writes down: a call's row, its steps, the seats' changes. One place that knows columns and events."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

from siaga_pbx.call.cell import read_cell
from siaga_pbx.call.emergency import EmergencyIds
from siaga_pbx.call.identity import Identity
from siaga_pbx.call.location import Location
from siaga_pbx.records.changes import Change, Event, Insert, Row, Update, Upsert
from siaga_pbx.records.store import Store
from siaga_pbx.sip.message import Request

NOTHING: Mapping[str, object] = {}

# What a carrier's engineer needs when a call was told apart wrongly, and no more.
_KEPT_HEADERS = (
    "From",
    "P-Asserted-Identity",
    "Privacy",
    "Diversion",
    "P-Access-Network-Info",
    "Geolocation",
    "Call-Info",
    "Resource-Priority",
    "Require",
)
_HEADER_LIMIT = 500


def _no_news(_call: str) -> None:
    """Nobody asks what changes."""


def columns_of(location: Location) -> dict[str, object]:
    """A location as columns of a call's row."""
    return {
        "lat": location.lat,
        "lon": location.lon,
        "radius_m": location.radius_m,
        "location_method": location.method,
        "address": location.address,
    }


class CallLog:
    """Writes the records of calls and seats through the store; never blocks, never raises."""

    def __init__(self, store: Store, utc: Callable[[], str], node: str) -> None:
        self._store, self._utc, self._node = store, utc, node
        self._rows: dict[str, dict[str, object]] = {}
        self.on_change: Callable[[str], None] = _no_news
        """Told of a live call when columns of its row change."""

    def arrived(
        self,
        call: str,
        trunk: str,
        request: Request,
        identity: Identity,
        location: Location | None,
        priority: int,
        ids: EmergencyIds,
        language: str | None,
    ) -> str:
        """The call's row, written when the INVITE is there, so that a crash leaves one. Returns its time."""
        at = self._utc()
        row: dict[str, object] = {
            "id": call,
            "sip_call_id": request.call_id,
            "trunk": trunk,
            "called": str(request.uri),
            "caller_number": identity.number,
            "identity_class": identity.class_.value,
            "callable": identity.callable,
            "language": language,
            "received_at": at,
            "priority": priority,
            "node": self._node,
        }
        if location is not None:
            row |= columns_of(location)
        headers = {
            name: [value[:_HEADER_LIMIT] for value in values]
            for name in _KEPT_HEADERS
            if (values := request.headers.get_all(name))
        }
        data: dict[str, object] = {"headers": headers, "emergency_call": ids.call, "emergency_incident": ids.incident}
        if location is not None and location.cell is not None and (cell := read_cell(location.cell)) is not None:
            data["cell"] = asdict(cell)
        self._rows[call] = dict(row)
        self._store.write([Insert("call", row), Event(at, "call", call, call, "received", data)])
        return at

    def row(self, call: str) -> Row:
        """The row of a live call, as it is or is going to be."""
        return self._rows.get(call, NOTHING)

    def resume(self, call: str, row: Row) -> None:
        """The row of a call that an earlier daemon had."""
        self._rows[call] = dict(row)

    def taken_over(self, call: str, data: Row) -> None:
        """The call goes on with us; what was written of it last may have got lost, the whole row even. What is in the
        row and newer is on file too, which is written each time (`on_change`) and sooner."""
        row = dict(self._rows[call])
        self._store.write([Upsert("call", row), Event(self._utc(), "call", call, call, "taken_over", data)])

    def step(
        self,
        call: str,
        kind: str,
        data: Row = NOTHING,
        columns: Row = NOTHING,
        stamp: str | None = None,
    ) -> None:
        """A step of a call, with the columns that it changes; `stamp` names a time column that it sets to now."""
        at = self._utc()
        changes: list[Change] = [Event(at, "call", call, call, kind, data)]
        if stamp is not None:
            columns = {**columns, stamp: at}
        if columns:
            changes.append(Update("call", call, columns))
            if (row := self._rows.get(call)) is not None:
                row.update(columns)
                self.on_change(call)
        if "ended_at" in columns:
            self._rows.pop(call, None)
        self._store.write(changes)

    def seat(self, seat: str, kind: str, data: Row = NOTHING, call: str | None = None) -> None:
        """A change of a seat."""
        self._store.write([Event(self._utc(), "seat", seat, call, kind, data)])

    def system(self, kind: str, data: Row = NOTHING) -> None:
        """Something of the centre itself."""
        self._store.write([Event(self._utc(), "system", self._node, None, kind, data)])

    def callback(self, call: str, state: str, seat: str | None, reason: str | None) -> None:
        """A call leaves the call-back list: called, or dismissed with a reason."""
        at = self._utc()
        row = {"id": call, "state": state, "at": at, "seat_id": seat, "reason": reason}
        event = Event(at, "call", call, call, f"callback_{state}", {"seat": seat, "reason": reason})
        self._store.write([Upsert("callback", row), event])

    def quality(self, call: str, side: str, stats: Row, columns: Row) -> None:
        """What the media worker counted on a leg that is closed."""
        self.step(call, "quality", {"side": side, **stats}, columns)
