"""What an agency is told: the message, from the call, the incident and the order."""

from dataclasses import dataclass

from siaga_pbx.dispatch.followup import LIFETIME_S
from siaga_pbx.dispatch.message import Callback, Dispatch, Kind, Location, Purpose
from siaga_pbx.dispatch.order import MANUAL, Report
from siaga_pbx.records.reader import Record
from siaga_pbx.records.times import later

NOTE_LIMIT = 2000
ADDRESS_LIMIT = 500
METHOD_LIMIT = 64
_MOST_URGENT, _LEAST_URGENT = 0, 9


@dataclass(frozen=True, slots=True)
class Heading:
    """What differs from one message of an incident to the next. `accept_by` is UTC text."""

    dispatch_id: str
    agency: str
    sequence: int
    kind: Kind
    purpose: Purpose
    sent_at: str
    accept_by: str
    seat: str | None
    centre: str


def compose(heading: Heading, call: Record, incident: Record, reason: str = "") -> Dispatch:
    """The message. `call` and `incident` are their rows; the caller's number is left out when it is protected.

    `reason`: why nobody is to go any more, which says more then than what happened.
    """
    protected = bool(incident["protected"])
    return Dispatch(
        schema=1,
        dispatch_id=heading.dispatch_id,
        incident_id=str(incident["id"]),
        call_id=str(call["id"]),
        sequence=heading.sequence,
        type=heading.kind,
        status=heading.purpose,
        sent_at=heading.sent_at,
        expires_at=later(heading.sent_at, LIFETIME_S),
        accept_by=heading.accept_by,
        priority=_priority(call["priority"]),
        category=str(incident["category"]),
        agency=heading.agency,
        location=_location(incident),
        callback=Callback(
            number=None if protected else _text(call["caller_number"], 64),
            callable=bool(call["callable"]),
            identity_class=_text(call["identity_class"], 32),
        ),
        protected=protected,
        people=_count(incident["people"]),
        callers=_count(incident["callers"]) or 1,
        note=_text(reason or incident["note"], NOTE_LIMIT) or "",
        seat=_text(heading.seat, 64),
        centre=heading.centre,
    )


def passed_on(message: Dispatch, dispatch_id: str, agency: str, sent_at: str, accept_by: str) -> Dispatch:
    """The same incident for another agency, as a dispatch of its own."""
    change = {"dispatch_id": dispatch_id, "agency": agency, "sequence": 1, "type": Kind.ALERT}
    times = {"sent_at": sent_at, "expires_at": later(sent_at, LIFETIME_S), "accept_by": accept_by}
    return message.model_copy(update=change | times)


def clean(text: str | None, limit: int) -> str | None:
    """Text that JSON in UTF-8 can hold (no half surrogate pairs), not longer than the schema allows."""
    return None if text is None else text.encode("utf-8", "replace").decode()[:limit]


def told_by(report: Report) -> Record:
    """The columns of the incident that a report fills; what it leaves out stays as it was."""
    told: Record = {}
    if report.note:
        told["note"] = clean(report.note, NOTE_LIMIT)
    if report.address:
        told["address"] = clean(report.address, ADDRESS_LIMIT)
    if report.people is not None:
        told["people"] = report.people
    if report.protected:
        told["protected"] = True
    return told


def improved(report: Report, incident: Record, call: Record) -> Record:
    """The columns of a better location: the one that the report gives, or else the call's, if it is better.

    A person's word stands until another person corrects it. The incident's own call may be located anew; another
    caller's place counts if it is known more exactly. The address that the network gives its own caller is better than
    none.
    """
    own = call["id"] == incident["call_id"]
    known: Record = {}
    if own and incident["address"] is None and (address := _text(call.get("address"), ADDRESS_LIMIT)) is not None:
        known["address"] = address
    if report.place is not None:
        place = report.place
        return known | _place(place.lat, place.lon, place.radius_m, clean(place.method, METHOD_LIMIT))
    return known | _of_call(incident, call)


def _of_call(incident: Record, call: Record) -> Record:
    """The place of a call, if it is better than the incident's."""
    if call["lat"] is None or call["lon"] is None or incident["location_method"] == MANUAL:
        return {}
    old, new = _number(incident["radius_m"]), _number(call["radius_m"])
    closer = incident["lat"] is None or (new is not None and (old is None or new < old))
    if not closer and call["id"] != incident["call_id"]:
        return {}
    return _place(call["lat"], call["lon"], call["radius_m"], call["location_method"])


def _place(lat: object, lon: object, radius_m: object, method: object) -> Record:
    return {"lat": lat, "lon": lon, "radius_m": radius_m, "location_method": method}


def _location(incident: Record) -> Location | None:
    lat, lon, address = _number(incident["lat"]), _number(incident["lon"]), _text(incident["address"], ADDRESS_LIMIT)
    if lat is None or lon is None:
        return None if address is None else Location(address=address)
    radius, method = _number(incident["radius_m"]), _text(incident["location_method"], METHOD_LIMIT)
    return Location(lat=lat, lon=lon, radius_m=radius, method=method, address=address)


def _priority(value: object) -> int:
    return min(max(value, _MOST_URGENT), _LEAST_URGENT) if isinstance(value, int) else _MOST_URGENT


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _text(value: object, limit: int) -> str | None:
    return clean(value, limit) if isinstance(value, str) and value else None
