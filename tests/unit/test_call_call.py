"""The call's machine: every state meets every event, and what time does to it."""

from dataclasses import dataclass, replace
from typing import TypeAlias

import pytest

from siaga_pbx.call import call as machine
from siaga_pbx.call.call import (
    OVERFLOW_RETRY_S,
    Call,
    Ending,
    Joining,
    LegEvent,
    Offering,
    Over,
    Overflow,
    Overflowed,
    Reach,
    Ring,
    State,
    Talking,
    Waiting,
)
from siaga_pbx.call.commands import (
    CallOver,
    Cause,
    Command,
    Connect,
    ConnectOverflow,
    DropCaller,
    DropOverflow,
    DropSeat,
    Hold,
    Noted,
    Offer,
    Outcome,
    Requeued,
    Resume,
    SeatMissed,
    StartOverflow,
    Withdraw,
    WithdrawOverflow,
)
from siaga_pbx.call.events import (
    CallerGone,
    Connected,
    EndedBy,
    Held,
    OverflowAnswered,
    OverflowFailed,
    OverflowGone,
    Resumed,
    SeatAnswered,
    SeatFailed,
    SeatGone,
    SeatRinging,
)

NOW, ARRIVED = 100.0, 90.0
RING_A, RING_B = Ring("a", 95.0, 107.0), Ring("b", 95.0, 107.0)


@dataclass(frozen=True)
class Settings:
    ring_s: float = 12.0
    rest_s: float = 20.0
    wrap_up_s: float = 10.0
    widen_s: float = 30.0
    overflow_s: float = 60.0
    overflow: str | None = "sip:112@192.0.2.9"
    announce_every_s: float = 0.0


SETTINGS = Settings()


def call_in(state: State, overflow: Overflow = Overflow.NONE, seat: str | None = None) -> Call:
    return Call("c", frozenset(), 0, ARRIVED, 1, state, seat=seat, overflow=overflow)


# A ring of seats a and b, or a call with seat a; ~ the overflow rings too, - it was told to stop and is not over yet.
STATES: dict[str, Call] = {
    "W": call_in(Waiting(ARRIVED)),
    "W~": call_in(Waiting(ARRIVED), Overflow.RINGING),
    "W-": call_in(Waiting(ARRIVED), Overflow.LEAVING),
    "O": call_in(Offering(ARRIVED, (RING_A, RING_B))),
    "O~": call_in(Offering(ARRIVED, (RING_A, RING_B)), Overflow.RINGING),
    "J": call_in(Joining(ARRIVED, "a")),
    "J-": call_in(Joining(ARRIVED, "a"), Overflow.LEAVING),
    "T": call_in(Talking("a"), seat="a"),
    "V": call_in(Overflowed(), Overflow.TALKING),
    "E": call_in(Ending(EndedBy.SEAT, Cause.SEAT_GONE), seat="a"),
    "X": call_in(Over()),
}
EVENTS: dict[str, LegEvent] = {
    "caller hangs up": CallerGone("c", EndedBy.CALLER),
    "caller is lost": CallerGone("c", EndedBy.FAULT),
    "a rings": SeatRinging("c", "a"),
    "a answers": SeatAnswered("c", "a"),
    "z answers": SeatAnswered("c", "z"),
    "a is connected": Connected("c", "a"),
    "z is connected": Connected("c", "z"),
    "a fails": SeatFailed("c", "a", 486),
    "z fails": SeatFailed("c", "z", 487),
    "a hangs up": SeatGone("c", "a", EndedBy.SEAT),
    "a is lost": SeatGone("c", "a", EndedBy.FAULT),
    "a is dropped": SeatGone("c", "a", EndedBy.SYSTEM),
    "z hangs up": SeatGone("c", "z", EndedBy.SEAT),
    "overflow answers": OverflowAnswered("c"),
    "overflow fails": OverflowFailed("c", 480),
    "overflow hangs up": OverflowGone("c", EndedBy.OVERFLOW),
    "overflow is lost": OverflowGone("c", EndedBy.FAULT),
    "a holds": Held("c", "a"),
    "a resumes": Resumed("c", "a"),
    "z holds": Held("c", "z"),
    "overflow holds": Held("c"),
    "overflow resumes": Resumed("c"),
}


Cell: TypeAlias = tuple[type[State], list[Command]]


def over(outcome: Outcome, by: EndedBy, cause: Cause = Cause.CALLER_GONE, seat: str | None = None) -> CallOver:
    return CallOver("c", outcome, by, cause, seat)


def drop(seat: str, cause: Cause) -> DropSeat:
    return DropSeat("c", seat, cause)


def withdraw(cause: Cause, *seats: str) -> list[Command]:
    return [Withdraw("c", seat, cause) for seat in seats]


GONE, ELSEWHERE = Cause.CALLER_GONE, Cause.ANSWERED_ELSEWHERE
STOP_OVERFLOW = WithdrawOverflow("c", GONE)
TO_HEAD = Requeued("c", Cause.LEG_LOST)


def too_late(seat: str) -> list[Command]:
    return [drop(seat, Cause.NO_ANSWER), Noted("c", "answer_too_late", {"seat": seat})]


def ends(outcome: Outcome, by: EndedBy) -> dict[str, Cell]:
    """The caller's leg is over, in every state."""
    lost = over(outcome, by)
    return {
        "W": (Over, [lost]),
        "W~": (Over, [STOP_OVERFLOW, lost]),
        "W-": (Over, [lost]),
        "O": (Over, [*withdraw(GONE, "a", "b"), lost]),
        "O~": (Over, [*withdraw(GONE, "a", "b"), STOP_OVERFLOW, lost]),
        "J": (Over, [drop("a", GONE), lost]),
        "J-": (Over, [drop("a", GONE), lost]),
        "T": (Over, [drop("a", GONE), over(Outcome.ANSWERED, by, seat="a")]),
        "V": (Over, [DropOverflow("c", GONE), over(Outcome.OVERFLOWED, by)]),
        "E": (Over, [over(Outcome.ANSWERED, EndedBy.SEAT, Cause.SEAT_GONE, "a")]),
        "X": (Over, []),
    }


def row(*cells: tuple[str, Cell]) -> dict[str, Cell]:
    """The states that an event changes; in all others it does nothing."""
    return {name: (type(call.state), []) for name, call in STATES.items()} | dict(cells)


def all_of(names: str, cell: Cell) -> list[tuple[str, Cell]]:
    return [(name, cell) for name in names.split()]


MISSED: list[Command] = [SeatMissed("c", "a", 486)]
MISSED_SILENTLY: list[Command] = [SeatMissed("c", "a")]
NOT_WANTED: list[Command] = [DropOverflow("c", ELSEWHERE)]
ENDS_CALL: list[Command] = [DropCaller("c", Cause.SEAT_GONE)]
OVERFLOW_ENDS: list[Command] = [DropCaller("c", Cause.OVERFLOW_GONE)]


def seat_a_goes(talking: Cell, missed: list[Command]) -> dict[str, Cell]:
    return row(
        *all_of("O O~", (Offering, missed)),
        *all_of("J J-", (Waiting, [*missed, TO_HEAD])),
        ("T", talking),
    )


LOST_IN_TALK: Cell = (Waiting, [TO_HEAD])
TABLE: dict[str, dict[str, Cell]] = {
    "caller hangs up": ends(Outcome.ABANDONED, EndedBy.CALLER),
    "caller is lost": ends(Outcome.FAILED, EndedBy.FAULT),
    "a rings": row(),
    "a answers": row(
        *all_of("W W~ W-", (Waiting, too_late("a"))),
        ("O", (Joining, [Connect("c", "a"), *withdraw(ELSEWHERE, "b")])),
        ("O~", (Joining, [Connect("c", "a"), *withdraw(ELSEWHERE, "b"), WithdrawOverflow("c", ELSEWHERE)])),
        ("V", (Overflowed, [drop("a", ELSEWHERE)])),
        ("E", (Ending, [drop("a", GONE)])),
        ("X", (Over, [drop("a", Cause.UNKNOWN_CALL)])),
    ),
    "z answers": row(
        *all_of("W W~ W-", (Waiting, too_late("z"))),
        *all_of("O O~", (Offering, too_late("z"))),
        *all_of("J J-", (Joining, [drop("z", ELSEWHERE)])),
        ("T", (Talking, [drop("z", ELSEWHERE)])),
        ("V", (Overflowed, [drop("z", ELSEWHERE)])),
        ("E", (Ending, [drop("z", GONE)])),
        ("X", (Over, [drop("z", Cause.UNKNOWN_CALL)])),
    ),
    "a is connected": row(*all_of("J J-", (Talking, []))),
    "z is connected": row(),
    "a fails": seat_a_goes(LOST_IN_TALK, MISSED),
    "z fails": row(),
    "a hangs up": seat_a_goes((Ending, ENDS_CALL), MISSED_SILENTLY),
    "a is lost": seat_a_goes(LOST_IN_TALK, MISSED_SILENTLY),
    "a is dropped": seat_a_goes(LOST_IN_TALK, MISSED_SILENTLY),
    "z hangs up": row(),
    "overflow answers": row(
        *all_of("W W-", (Waiting, NOT_WANTED)),
        ("W~", (Overflowed, [ConnectOverflow("c")])),
        ("O", (Offering, NOT_WANTED)),
        ("O~", (Overflowed, [ConnectOverflow("c"), *withdraw(ELSEWHERE, "a", "b")])),
        *all_of("J J-", (Joining, NOT_WANTED)),
        ("T", (Talking, NOT_WANTED)),
        ("E", (Ending, NOT_WANTED)),
        ("X", (Over, [DropOverflow("c", Cause.UNKNOWN_CALL)])),
    ),
    "overflow fails": row(("V", (Waiting, [TO_HEAD]))),
    "overflow hangs up": row(("V", (Ending, OVERFLOW_ENDS))),
    "overflow is lost": row(("V", (Waiting, [TO_HEAD]))),
    "a holds": row(("T", (Talking, [Hold("c")]))),
    "a resumes": row(("T", (Talking, [Resume("c")]))),
    "z holds": row(),
    "overflow holds": row(("V", (Overflowed, [Hold("c")]))),
    "overflow resumes": row(("V", (Overflowed, [Resume("c")]))),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_every_state_meets_every_event(state: str, event: str) -> None:
    expected_state, expected_commands = TABLE[event][state]
    call, commands = machine.step(STATES[state], EVENTS[event], NOW)
    assert (type(call.state), commands) == (expected_state, expected_commands)


def test_the_state_that_rings_alone_goes_back_to_waiting_and_keeps_its_place() -> None:
    alone = call_in(Offering(ARRIVED, (RING_A,)))
    call, _ = machine.step(alone, SeatFailed("c", "a", 486), NOW)
    assert call.state == Waiting(ARRIVED)
    assert call.place == alone.place


def test_a_caller_who_was_never_bridged_keeps_the_beginning_of_the_wait() -> None:
    call, _ = machine.step(STATES["J"], SeatGone("c", "a", EndedBy.FAULT), NOW)
    assert call.state == Waiting(ARRIVED)


def test_a_caller_cut_off_in_talk_keeps_the_place_and_waits_anew() -> None:
    talking = replace(STATES["T"], reach=Reach.ALL)
    call, _ = machine.step(talking, SeatGone("c", "a", EndedBy.FAULT), NOW)
    assert (call.state, call.reach, call.place) == (Waiting(NOW), Reach.SKILLED, talking.place)


def test_a_caller_cut_off_in_talk_who_gives_up_was_answered() -> None:
    call, _ = machine.step(STATES["T"], SeatGone("c", "a", EndedBy.FAULT), NOW)
    assert machine.step(call, CallerGone("c"), NOW)[1] == [over(Outcome.ANSWERED, EndedBy.CALLER, seat="a")]


def test_a_caller_cut_off_from_the_overflow_target_who_gives_up_was_lost() -> None:
    call, _ = machine.step(STATES["V"], OverflowGone("c", EndedBy.FAULT), NOW)
    assert machine.step(call, CallerGone("c"), NOW)[1] == [over(Outcome.ABANDONED, EndedBy.CALLER)]


def test_when_the_overflow_target_hangs_up_the_call_was_overflowed() -> None:
    call, _ = machine.step(STATES["V"], OverflowGone("c", EndedBy.OVERFLOW), NOW)
    _, commands = machine.step(call, CallerGone("c", EndedBy.SYSTEM), NOW)
    assert commands == [over(Outcome.OVERFLOWED, EndedBy.OVERFLOW, Cause.OVERFLOW_GONE)]


def test_an_overflow_leg_that_is_over_may_be_started_again_later() -> None:
    for name in ("W~", "W-", "J-"):
        call, _ = machine.step(STATES[name], OverflowFailed("c", 486), NOW)
        assert (call.overflow, call.overflow_after) == (Overflow.NONE, NOW + OVERFLOW_RETRY_S)


# Time


def test_a_seat_is_rung() -> None:
    call, commands = machine.offer(STATES["W"], "a", NOW, SETTINGS)
    assert call.state == Offering(ARRIVED, (Ring("a", NOW, NOW + 12.0),))
    assert commands == [Offer("c", "a")]
    call, commands = machine.offer(call, "b", NOW + 1, SETTINGS)
    assert [ring.seat for ring in call.rings] == ["a", "b"]
    assert commands == [Offer("c", "b")]


@pytest.mark.parametrize("name", ["J", "T", "V", "E", "X"])
def test_nobody_is_rung_for_a_call_that_does_not_wait(name: str) -> None:
    assert machine.offer(STATES[name], "b", NOW, SETTINGS) == (STATES[name], [])


def test_a_seat_that_rang_long_enough_is_withdrawn() -> None:
    later_ring = Ring("b", 99.0, 111.0)
    call = call_in(Offering(ARRIVED, (RING_A, later_ring)))
    assert machine.expire(call, 106.9, SETTINGS) == (call, [])
    call, commands = machine.expire(call, 107.0, SETTINGS)
    assert call.rings == (later_ring,)
    assert commands == [SeatMissed("c", "a"), Withdraw("c", "a", Cause.NO_ANSWER)]


def test_a_call_is_widened_once() -> None:
    call, commands = machine.expire(STATES["W"], ARRIVED + 29.9, SETTINGS)
    assert (call.reach, commands) == (Reach.SKILLED, [])
    call, commands = machine.expire(STATES["W"], ARRIVED + 30.0, SETTINGS)
    assert (call.reach, commands) == (Reach.ALL, [Noted("c", "widened")])
    assert machine.expire(call, ARRIVED + 31.0, SETTINGS) == (call, [])


def test_skills_count_until_the_call_is_widened() -> None:
    call = replace(STATES["W"], skills=frozenset({"jv"}))
    assert call.takes(frozenset({"jv", "id"}))
    assert not call.takes(frozenset({"id"}))
    assert replace(call, reach=Reach.ALL).takes(frozenset())
    assert STATES["W"].takes(frozenset())


def test_the_overflow_target_is_rung_after_the_wait() -> None:
    assert machine.overflow(STATES["W"], ARRIVED + 59.9, SETTINGS) == (STATES["W"], [])
    call, commands = machine.overflow(STATES["W"], ARRIVED + 60.0, SETTINGS)
    assert (call.overflow, commands) == (Overflow.RINGING, [StartOverflow("c")])
    assert isinstance(call.state, Waiting)
    assert machine.overflow(call, ARRIVED + 99.0, SETTINGS) == (call, [])


def test_with_no_overflow_target_nothing_is_rung() -> None:
    assert machine.overflow(STATES["W"], 9999.0, Settings(overflow=None)) == (STATES["W"], [])


@pytest.mark.parametrize("name", ["W-", "J", "T", "V", "E", "X"])
def test_the_overflow_target_is_not_rung_while_its_leg_lives_or_nobody_waits(name: str) -> None:
    assert machine.overflow(STATES[name], 9999.0, SETTINGS) == (STATES[name], [])


def test_a_seat_that_rings_when_the_overflow_is_due_is_waited_for_and_later_ones_are_not() -> None:
    due = ARRIVED + 60.0
    ringing = Ring("a", due - 2, due + 10)
    later = Ring("b", due + 5, due + 17)
    call = call_in(Offering(ARRIVED, (ringing, later)))
    assert machine.overflow(call, due + 9.9, SETTINGS)[1] == []
    assert machine.overflow(call, due + 10, SETTINGS)[1] == [StartOverflow("c")]
    assert machine.overflow(call_in(Offering(ARRIVED, (later,))), due + 6, SETTINGS)[1] == [StartOverflow("c")]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (STATES["W"], ARRIVED + 30.0),
        (replace(STATES["W"], reach=Reach.ALL), ARRIVED + 60.0),
        (replace(STATES["W~"], reach=Reach.ALL), None),
        (STATES["O"], 107.0),
        (replace(STATES["W"], reach=Reach.ALL, overflow_after=500.0), 500.0),
        (STATES["J"], None),
        (STATES["T"], None),
        (STATES["V"], None),
        (STATES["E"], None),
        (STATES["X"], None),
    ],
)
def test_a_state_owns_its_deadlines(call: Call, expected: float | None) -> None:
    assert machine.deadline(call, SETTINGS) == expected


def test_a_seat_that_cannot_take_the_call_after_all_is_withdrawn() -> None:
    call, commands = machine.unoffer(STATES["O"], "a", Cause.PAUSED)
    assert [ring.seat for ring in call.rings] == ["b"]
    assert commands == [Withdraw("c", "a", Cause.PAUSED)]
    assert machine.unoffer(STATES["O"], "z", Cause.PAUSED) == (STATES["O"], [])
    assert machine.unoffer(STATES["T"], "a", Cause.PAUSED) == (STATES["T"], [])


def test_the_place_is_priority_then_arrival() -> None:
    first, second = replace(STATES["W"], number=1), replace(STATES["W"], number=2)
    urgent, later = replace(STATES["W"], priority=1, arrived=99.0), replace(STATES["W"], arrived=91.0)
    assert sorted([later, second, first, urgent], key=lambda call: call.place) == [urgent, first, second, later]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_of_a_call_that_nobody_knows_leaves_no_leg_behind(event: str) -> None:
    assert machine.stray(EVENTS[event]) == TABLE[event]["X"][1]
