"""The watchdog: every way in which the queue's belief may differ from the dialogs is found, and repaired."""

from dataclasses import dataclass

import pytest

from siaga_pbx.call.audit import STUCK_S, Fault
from siaga_pbx.call.commands import (
    Alarm,
    AlarmName,
    CallOver,
    Cause,
    Command,
    DropSeat,
    Noted,
    Offer,
    Outcome,
    SeatChanged,
    SeatState,
)
from siaga_pbx.call.events import (
    CallArrived,
    CallerGone,
    Connected,
    EndedBy,
    SeatAnswered,
    SeatFailed,
    SeatGone,
    SeatRegistered,
)
from siaga_pbx.call.queue import Queue


@dataclass(frozen=True)
class Settings:
    ring_s: float = 120.0
    rest_s: float = 20.0
    wrap_up_s: float = 10.0
    widen_s: float = 300.0
    overflow_s: float = 600.0
    overflow: str | None = None
    announce_every_s: float = 0.0


@dataclass(frozen=True)
class Seat:
    id: str
    skills: frozenset[str] = frozenset()


def centre(*seats: str) -> Queue:
    queue = Queue(Settings(), [Seat(seat) for seat in seats])
    for now, seat in enumerate(seats):
        queue.handle(SeatRegistered(seat), float(now))
    return queue


def audit(queue: Queue, dialogs: dict[str, str], callers: set[str], now: float = 100.0) -> list[Command]:
    """Two in a row; SeatChanged left out."""
    first = queue.audit(dialogs, callers, now)
    assert [command for command in first if not isinstance(command, Alarm)] == [], "repaired at first sight"
    return [command for command in queue.audit(dialogs, callers, now) if not isinstance(command, SeatChanged)]


def repaired(fault: Fault, call: str, seat: str | None = None) -> Noted:
    return Noted(call, "repaired", {"fault": fault.value} | ({"seat": seat} if seat else {}))


def alarm(*faults: Fault) -> Alarm:
    return Alarm(AlarmName.QUEUE_REPAIRED, True, ", ".join(faults))


def state(queue: Queue, seat: str) -> SeatState:
    return next(each.state for each in queue.view().seats if each.seat == seat)


@pytest.fixture
def talking() -> Queue:
    queue = centre("a", "b")
    for event in (CallArrived("1"), SeatAnswered("1", "a"), Connected("1", "a")):
        queue.handle(event, 10.0)
    return queue


def test_where_nothing_is_wrong_nothing_is_done(talking: Queue) -> None:
    talking.handle(CallArrived("2"), 11.0)
    assert audit(talking, {"a": "1", "b": "2"}, {"1", "2"}) == []


def test_a_caller_who_is_gone_leaves_the_queue(talking: Queue) -> None:
    talking.handle(CallArrived("2"), 11.0)
    talking.handle(CallArrived("3"), 12.0)
    assert audit(talking, {"a": "1", "b": "2"}, {"1", "2"}) == [
        repaired(Fault.CALLER_LOST, "3"),
        CallOver("3", Outcome.FAILED, EndedBy.FAULT, Cause.CALLER_GONE),
        alarm(Fault.CALLER_LOST),
    ]


def test_a_caller_whom_the_queue_does_not_know_is_taken_in(talking: Queue) -> None:
    assert audit(talking, {"a": "1"}, {"1", "2"}) == [
        repaired(Fault.CALLER_UNKNOWN, "2"),
        alarm(Fault.CALLER_UNKNOWN),
        Offer("2", "b"),
    ]


def test_a_talk_whose_seat_is_gone_goes_back_to_the_queue(talking: Queue) -> None:
    commands = audit(talking, {}, {"1"})
    assert commands[0] == repaired(Fault.LEG_LOST, "1", "a")
    assert commands[-1] == Offer("1", "b")
    assert state(talking, "a") is SeatState.RESTING


def test_a_seat_that_rings_for_nobody_is_free_again(talking: Queue) -> None:
    talking.handle(CallArrived("2"), 99.0)
    assert state(talking, "b") is SeatState.OFFERED
    assert repaired(Fault.LEG_LOST, "2", "b") in audit(talking, {"a": "1"}, {"1", "2"})
    assert state(talking, "b") is SeatState.RESTING
    assert [caller.call for caller in talking.view().waiting] == ["2"]


def test_a_seat_whose_end_was_never_told_is_not_stuck() -> None:
    queue = centre("a")
    for event in (CallArrived("1"), CallerGone("1")):
        queue.handle(event, 10.0)
    assert state(queue, "a") is SeatState.OFFERED
    assert audit(queue, {}, set()) == [repaired(Fault.LEG_LOST, "1", "a"), alarm(Fault.LEG_LOST)]
    assert state(queue, "a") is SeatState.READY


def test_a_leg_that_the_queue_does_not_know_is_dropped_and_its_seat_not_free_before(talking: Queue) -> None:
    assert audit(talking, {"a": "1", "b": "ghost"}, {"1"}) == [
        repaired(Fault.LEG_UNKNOWN, "ghost", "b"),
        DropSeat("ghost", "b", Cause.AUDIT),
        alarm(Fault.LEG_UNKNOWN),
    ]
    assert talking.handle(CallArrived("2"), 101.0) == []
    assert Offer("2", "b") in talking.handle(SeatGone("ghost", "b", EndedBy.SYSTEM), 102.0)


def test_a_seat_with_another_call_than_believed_loses_both(talking: Queue) -> None:
    commands = audit(talking, {"a": "ghost"}, {"1"})
    assert repaired(Fault.LEG_LOST, "1", "a") in commands
    assert DropSeat("ghost", "a", Cause.AUDIT) in commands
    assert Offer("1", "b") in commands
    assert state(talking, "a") is SeatState.OFFERED


def test_a_talk_that_lives_on_after_its_caller_is_dropped_again(talking: Queue) -> None:
    talking.handle(CallerGone("1"), 50.0)
    assert audit(talking, {"a": "1"}, set()) == [
        repaired(Fault.LEG_STUCK, "1", "a"),
        DropSeat("1", "a", Cause.AUDIT),
        alarm(Fault.LEG_STUCK),
    ]


def test_a_ring_that_does_not_stop_is_dropped_again_after_its_time() -> None:
    queue = centre("a")
    for event in (CallArrived("1"), CallerGone("1")):
        queue.handle(event, 10.0)
    assert audit(queue, {"a": "1"}, set(), 10.0 + STUCK_S) == []
    assert DropSeat("1", "a", Cause.AUDIT) in audit(queue, {"a": "1"}, set(), 10.1 + STUCK_S)


def test_what_is_about_to_be_told_anyway_is_not_repaired(talking: Queue) -> None:
    assert talking.audit({}, {"1"}, 100.0) == []
    talking.handle(SeatGone("1", "a"), 100.1)
    talking.handle(CallerGone("1", EndedBy.SYSTEM), 100.2)
    assert talking.audit({}, set(), 105.0) == []


def test_the_alarm_is_cleared_when_all_is_well(talking: Queue) -> None:
    audit(talking, {"a": "1", "b": "ghost"}, {"1"})
    talking.handle(SeatFailed("ghost", "b", 487), 101.0)
    assert talking.audit({"a": "1"}, {"1"}, 105.0) == [Alarm(AlarmName.QUEUE_REPAIRED, False)]
    assert talking.audit({"a": "1"}, {"1"}, 110.0) == []
