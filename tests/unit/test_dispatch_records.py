"""How dispatches stand on record: the message, the rows, and what a restart reads from them."""

from dataclasses import replace

import pytest

from siaga_pbx.dispatch.compose import Heading, clean, compose, later, passed_on
from siaga_pbx.dispatch.followed import Followed, changes_of, first_rows, next_rows, past_of, plan_of
from siaga_pbx.dispatch.followup import FollowUp, Past
from siaga_pbx.dispatch.ladder import Alarm, Delivered, Escalated, GivenUp, Moved, Publish, Raised, State
from siaga_pbx.dispatch.message import Dispatch, Kind, Purpose
from siaga_pbx.dispatch.quarantine import KEPT, Quarantine
from siaga_pbx.dispatch.standing import Standing
from siaga_pbx.records.changes import Delete, Event, Insert, Update, Upsert
from siaga_pbx.records.ids import new_id
from siaga_pbx.records.reader import Record
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
}


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
        ({"lat": -6.7, "lon": 108.5}, {"lat": -6.7, "lon": 108.5, "radius_m": 200.0, "method": "cell"}),
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


def replace_sequence(sequence: int) -> Dispatch:
    return MESSAGE.model_copy(update={"sequence": sequence, "type": Kind.UPDATE})


def test_later_is_later() -> None:
    assert later("2026-11-23T23:59:59.500Z", 1.25) == "2026-11-24T00:00:00.750Z"


# --- the rows ---------------------------------------------------------------------------------------------------------


def test_a_new_dispatch_is_a_row_an_outbox_entry_and_an_event() -> None:
    insert, upsert, event = first_rows(MESSAGE)
    assert isinstance(insert, Insert)
    assert isinstance(upsert, Upsert)
    assert isinstance(event, Event)
    assert insert.row["state"] == "pending"
    assert insert.row["message"] == upsert.row["message"] == MESSAGE.encode().decode()
    assert (event.kind, event.call_id) == ("ordered", MESSAGE.call_id)


def test_a_closed_dispatch_that_begins_anew_loses_its_times() -> None:
    one = followed()
    one.followup.state = State.REJECTED
    update, _, event = next_rows(one, replace_sequence(2))
    assert isinstance(update, Update)
    assert isinstance(event, Event)
    assert (update.values["state"], update.values["received_at"]) == ("pending", None)
    assert (event.kind, event.data) == ("begun_anew", {"sequence": 2})


def test_a_step_of_the_ladder_fills_the_times_it_implies() -> None:
    outputs = [Moved(State.PUBLISHED, State.ON_SCENE, (State.RECEIVED, State.ACCEPTED, State.EN_ROUTE, State.ON_SCENE))]
    event, update = changes_of(followed(), outputs, AT, {"by": "Regu 1"})
    assert isinstance(update, Update)
    assert isinstance(event, Event)
    assert update.values == {"state": "on_scene", "received_at": AT, "accepted_at": AT, "arrived_at": AT}
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
        "arrived_at": None,
        "cleared_at": None,
    }
    events: list[Record] = [
        {"kind": "escalated", "at": "2026-11-24T00:01:00.000Z", "data": {"step": "resend"}},
        {"kind": "begun_anew", "at": "2026-11-24T00:02:00.000Z", "data": {"sequence": 2}},
        {"kind": "escalated", "at": "2026-11-24T00:03:00.000Z", "data": {"step": "resend"}},
        {"kind": "relieved", "at": "2026-11-24T00:04:00.000Z", "data": None},
    ]
    past = past_of(row, {"created_at": "2026-11-24T00:05:00.000Z"}, events, 1000.0, "2026-11-24T00:10:00.000Z")
    reached = frozenset({State.PUBLISHED, State.RECEIVED, State.ACCEPTED})
    expected = Past(520.0, 700.0, State.ACCEPTED, 3, 2, False, reached, 1, 580.0, True)
    assert past == expected
    assert past_of(row, None, events, 1000.0, "2026-11-24T00:10:00.000Z") == replace(
        expected, delivered=True, sequence_at=520.0
    )


def test_a_clock_that_was_set_back_gives_no_time_that_is_to_come() -> None:
    row: Record = dict.fromkeys(("published_at", "received_at", "accepted_at", "arrived_at", "cleared_at"))
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
