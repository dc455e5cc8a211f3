"""How dispatches stand on record: the message, the rows, and what a restart reads from them."""

from dataclasses import replace

import pytest

from siaga_pbx.dispatch.compose import Heading, clean, compose, improved, passed_on
from siaga_pbx.dispatch.followed import TIME_COLUMNS, Followed, changes_of, first_rows, next_rows, past_of, plan_of
from siaga_pbx.dispatch.followup import FollowUp
from siaga_pbx.dispatch.ladder import Alarm, Delivered, Escalated, GivenUp, Moved, Publish, Raised, State
from siaga_pbx.dispatch.message import Dispatch, Kind, Purpose
from siaga_pbx.dispatch.order import MANUAL, Place
from siaga_pbx.dispatch.order import Update as Update_
from siaga_pbx.dispatch.plan import Past
from siaga_pbx.dispatch.quarantine import KEPT, Quarantine
from siaga_pbx.dispatch.standing import Standing
from siaga_pbx.records.changes import Delete, Event, Insert, Update, Upsert
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Record
from siaga_pbx.records.times import later
from tests.unit.test_dispatch_message import AT, DISPATCH, encoded

MESSAGE = Dispatch.parse(encoded(DISPATCH))
HEADING = Heading(
    dispatch_id=new_id(),
    agency="damkar",
    sequence=1,
    kind=Kind.ALERT,
    purpose=Purpose.ACTUAL,
    sent_at=AT,
    accept_by="2026-11-24T00:01:00.000Z",
    seat="101",
    centre="cirebon",
)
CALL: Record = {
    "id": new_id(),
    "caller_number": "+6281200000789",
    "identity_class": "subscriber",
    "callable": True,
    "priority": None,
    "radius_m": 200.0,
    "location_method": "cell",
}
INCIDENT: Record = {
    "id": new_id(),
    "category": "fire",
    "note": "Rumah terbakar",
    "address": None,
    "lat": None,
    "lon": None,
    "people": 2,
    "protected": False,
    "call_id": CALL["id"],
    "radius_m": None,
    "location_method": None,
    "callers": 1,
}
PLACE: Record = {"lat": -6.7, "lon": 108.5, "radius_m": 200.0, "location_method": "cell"}
PLAN = plan_of(None)


def followed() -> Followed:
    return Followed(MESSAGE, FollowUp(plan_of(None), Past(0.0, 0.0)))


# --- the message ------------------------------------------------------------------------------------------------------


def test_a_protected_informants_number_is_in_no_message() -> None:
    assert b"6281200000789" in compose(HEADING, CALL, INCIDENT).encode()
    protected = compose(HEADING, CALL, INCIDENT | {"protected": True})
    assert b"6281200000789" not in protected.encode()
    assert protected.protected


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, None),
        ({"address": "Jl. Siliwangi 1"}, {"address": "Jl. Siliwangi 1"}),
        (PLACE, {"lat": -6.7, "lon": 108.5, "radius_m": 200.0, "method": "cell"}),
        ({"lat": -6.7, "lon": None}, None),
    ],
)
def test_the_place_is_what_is_known_of_it(known: Record, expected: dict[str, object] | None) -> None:
    location = compose(HEADING, CALL, INCIDENT | known).location
    assert (location and location.model_dump(exclude_none=True)) == expected


@pytest.mark.parametrize(("priority", "expected"), [(None, 0), (3, 3), (-1, 0), (99, 9)])
def test_the_priority_is_within_its_bounds(priority: int | None, expected: int) -> None:
    assert compose(HEADING, CALL | {"priority": priority}, INCIDENT).priority == expected


def test_whatever_was_typed_can_be_sent() -> None:
    assert clean("caf\udce9 \N{FIRE}", 100) == "caf? \N{FIRE}"
    note = clean("x\ud800" * 5000, 2000)
    assert Dispatch.parse(compose(HEADING, CALL, INCIDENT | {"note": note}).encode()).note == note


def test_for_another_agency_it_is_a_dispatch_of_its_own() -> None:
    other = passed_on(replace_sequence(4), new_id(), "bpbd", "2026-11-24T00:02:00.000Z", "2026-11-24T00:04:00.000Z")
    assert (other.agency, other.sequence, other.type) == ("bpbd", 1, Kind.ALERT)
    assert other.dispatch_id != MESSAGE.dispatch_id
    assert other.incident_id == MESSAGE.incident_id
    assert Dispatch.parse(other.encode()) == other


def replace_sequence(sequence: int, kind: Kind = Kind.UPDATE) -> Dispatch:
    return MESSAGE.model_copy(update={"sequence": sequence, "type": kind})


# --- better locations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "call", "expected"),
    [
        ({}, {}, {}),
        ({}, PLACE, PLACE),
        (PLACE, PLACE | {"radius_m": 900.0}, PLACE | {"radius_m": 900.0}),
        (PLACE, PLACE | {"id": "another", "radius_m": 900.0}, {}),
        (PLACE, PLACE | {"id": "another", "radius_m": None}, {}),
        (PLACE, PLACE | {"id": "another", "radius_m": 20.0}, PLACE | {"radius_m": 20.0}),
        ({}, PLACE | {"id": "another", "radius_m": None}, PLACE | {"radius_m": None}),
        (PLACE | {"location_method": MANUAL}, PLACE | {"radius_m": 20.0}, {}),
    ],
)
def test_a_location_is_taken_if_it_is_better(known: Record, call: Record, expected: Record) -> None:
    row: Record = CALL | dict.fromkeys(PLACE) | call
    assert improved(Update_("x"), INCIDENT | known, row) == expected


def test_what_a_person_says_of_the_place_comes_first() -> None:
    said = {"lat": -6.8, "lon": 108.6, "radius_m": None, "location_method": MANUAL}
    assert improved(Update_("x", place=Place(-6.8, 108.6)), INCIDENT | PLACE, CALL | PLACE) == said


def test_later_is_later() -> None:
    assert later("2026-11-23T23:59:59.500Z", 1.25) == "2026-11-24T00:00:00.750Z"


# --- the rows ---------------------------------------------------------------------------------------------------------


def test_a_new_dispatch_is_a_row_an_outbox_entry_and_an_event() -> None:
    insert, upsert, event = first_rows(MESSAGE, PLAN)
    assert isinstance(insert, Insert)
    assert isinstance(upsert, Upsert)
    assert isinstance(event, Event)
    assert insert.row["state"] == "pending"
    deadlines = (insert.row["accept_by"], insert.row["arrive_by"])
    assert deadlines == ("2026-11-24T00:01:00.000Z", "2026-11-24T00:15:00.000Z")
    assert insert.row["message"] == upsert.row["message"] == MESSAGE.encode().decode()
    assert (event.kind, event.call_id) == ("ordered", MESSAGE.call_id)


def test_a_closed_dispatch_that_begins_anew_loses_its_times() -> None:
    one = followed()
    one.followup.state = State.REJECTED
    update, _, event = next_rows(one, replace_sequence(2, Kind.ALERT))
    assert isinstance(update, Update)
    assert isinstance(event, Event)
    gone = ("received_at", "en_route_at", "rejected_at", "reason")
    assert [update.values[name] for name in ("state", *gone)] == ["pending", None, None, None, None]
    assert update.values["arrive_by"] == later(AT, 900)
    assert (event.kind, event.data) == ("begun_anew", {"sequence": 2})


def test_a_cancellation_and_its_reason_are_one_batch_with_its_message() -> None:
    update, upsert, event = next_rows(followed(), replace_sequence(2, Kind.CANCEL), "false alarm")
    assert isinstance(update, Update)
    assert isinstance(upsert, Upsert)
    assert isinstance(event, Event)
    assert (update.values["state"], update.values["reason"]) == ("cancelled", "false alarm")
    assert upsert.row["sequence"] == 2
    assert (event.kind, event.data["reason"]) == ("cancel_ordered", "false alarm")


def test_a_rejection_leaves_its_time_and_reason_until_they_think_better_of_it() -> None:
    one = followed()
    rejected = changes_of(one, [Moved(State.RECEIVED, State.REJECTED, ())], AT, {"by": "Regu 1", "reason": "no engine"})
    assert rejected[-1] == Update("dispatch", one.id, {"state": "rejected", "rejected_at": AT, "reason": "no engine"})
    accepted = changes_of(one, [Moved(State.REJECTED, State.ACCEPTED, (State.ACCEPTED,))], AT)
    assert accepted[-1] == Update(
        "dispatch", one.id, {"state": "accepted", "accepted_at": AT, "rejected_at": None, "reason": None}
    )
    cancelled = changes_of(one, [Moved(State.REJECTED, State.CANCELLED, ())], AT)
    assert cancelled[-1] == Update("dispatch", one.id, {"state": "cancelled"}), "its own reason stays"


def test_a_step_of_the_ladder_fills_the_times_it_implies() -> None:
    outputs = [Moved(State.PUBLISHED, State.ON_SCENE, (State.RECEIVED, State.ACCEPTED, State.EN_ROUTE, State.ON_SCENE))]
    event, update = changes_of(followed(), outputs, AT, {"by": "Regu 1"})
    assert isinstance(update, Update)
    assert isinstance(event, Event)
    times = dict.fromkeys(("received_at", "accepted_at", "en_route_at", "arrived_at"), AT)
    assert update.values == {"state": "on_scene"} | times
    assert (event.kind, event.data) == ("on_scene", {"by": "Regu 1", "from": "published"})


def test_other_outputs_on_record() -> None:
    one = followed()
    changes = changes_of(one, [Publish(1), Raised(Alarm.FAILED, "why"), Escalated("resend", "late")], AT)
    assert [change.kind for change in changes if isinstance(change, Event)] == ["dispatch_failed", "escalated"]
    assert changes[-1] == Update("dispatch", one.id, {"attempts": 1})
    for done in (Delivered(1), GivenUp(1)):
        assert Delete("outbox", one.id) in changes_of(one, [done], AT)
    assert changes_of(one, [], AT) == []


def test_a_restart_reads_back_what_was_written() -> None:
    row: Record = {
        "created_at": "2026-11-24T00:00:00.000Z",
        "sequence": 3,
        "state": "accepted",
        "published_at": AT,
        "received_at": AT,
        "accepted_at": AT,
        "en_route_at": None,
        "arrived_at": None,
        "cleared_at": None,
    }
    events: list[Record] = [
        {"kind": "escalated", "at": "2026-11-24T00:01:00.000Z", "data": {"step": "resend"}},
        {"kind": "dispatch_unanswered", "at": "2026-11-24T00:01:30.000Z", "data": {"detail": "not accepted in time"}},
        {"kind": "begun_anew", "at": "2026-11-24T00:02:00.000Z", "data": {"sequence": 2}},
        {"kind": "escalated", "at": "2026-11-24T00:03:00.000Z", "data": {"step": "resend"}},
        {"kind": "relieved", "at": "2026-11-24T00:04:00.000Z", "data": None},
        {"kind": "dispatch_refused", "at": "2026-11-24T00:04:00.000Z", "data": {"detail": "quota"}},
        {"kind": "dispatch_withdrawn", "at": "2026-11-24T00:05:00.000Z", "data": {"detail": "broke down"}},
        {"kind": "dispatch_refused_over", "at": "2026-11-24T00:06:00.000Z", "data": {}},
    ]
    past = past_of(row, {"created_at": "2026-11-24T00:05:00.000Z"}, events, 1000.0, "2026-11-24T00:10:00.000Z")
    reached = frozenset({State.PUBLISHED, State.RECEIVED, State.ACCEPTED})
    expected = Past(
        520.0,
        700.0,
        State.ACCEPTED,
        3,
        2,
        False,
        reached,
        ("resend",),
        580.0,
        True,
        {Alarm.WITHDRAWN: "broke down"},
        rejected=True,
    )
    assert past == expected
    assert past_of(row, None, events, 1000.0, "2026-11-24T00:10:00.000Z") == replace(
        expected, delivered=True, sequence_at=520.0
    )


def test_a_clock_that_was_set_back_gives_no_time_that_is_to_come() -> None:
    row: Record = dict.fromkeys(TIME_COLUMNS.values())
    row |= {"created_at": "2026-11-24T01:00:00.000Z", "sequence": 1, "state": "pending"}
    assert past_of(row, None, [], 5.0, AT).ordered_at == 5.0


# --- what needs a person's eye ----------------------------------------------------------------------------------------


def test_an_alarm_of_the_daemon_stands_while_one_dispatch_stands_in_it() -> None:
    told: list[tuple[str, bool, str]] = []
    standing = Standing(lambda name, active, detail: told.append((name, active, detail)))
    for number in range(5):
        standing.raise_(Alarm.UNANSWERED, str(number), f"dispatch {number}")
    assert told[-1] == ("dispatch_unanswered", True, "dispatch 2; dispatch 3; dispatch 4; 2 more")
    for number in range(5):
        standing.lower(Alarm.UNANSWERED, str(number))
    assert told[-1] == ("dispatch_unanswered", False, "")
    standing.lower(Alarm.UNANSWERED, "0")
    assert len(told) == 10


def test_the_quarantine_is_bounded_in_memory_and_on_record() -> None:
    recorded: list[Event] = []
    quarantine = Quarantine(recorded.append)
    for number in range(KEPT + 50):
        quarantine.add(AT, "siaga/x/ack/damkar", f"{number}".encode(), "not JSON")
    assert quarantine.count == KEPT + 50
    assert len(quarantine.kept) == KEPT
    assert quarantine.kept[-1].payload == f"{KEPT + 49}"
    assert len(recorded) == 30
    quarantine.add("2026-11-24T00:01:00.000Z", "t", b"\xff" * 5000, "not JSON")
    assert recorded[-1].data["payload"] == "\N{REPLACEMENT CHARACTER}" * 1000
