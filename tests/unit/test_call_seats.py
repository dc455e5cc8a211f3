"""The seat's machine: every line meets every signal; its state is derived from the dialogs first."""

from dataclasses import dataclass, replace

import pytest

from siaga_pbx.call.commands import Cause, DropSeat, Offer, SeatMissed, SeatState, Withdraw
from siaga_pbx.call.events import (
    Connected,
    EndedBy,
    SeatAnswered,
    SeatBusy,
    SeatFailed,
    SeatGone,
    SeatIdle,
    SeatPaused,
    SeatReady,
    SeatRegistered,
    SeatRinging,
    SeatSuspect,
    SeatTrusted,
    SeatUnregistered,
)
from siaga_pbx.call.seats import (
    RETRY_S,
    Answered,
    Barred,
    Free,
    Leaving,
    Line,
    Offered,
    Pause,
    Respite,
    Rested,
    Resting,
    Seat,
    Signal,
    Talking,
    WrapUp,
    cause_of,
    expire,
    remove,
    step,
)


@dataclass(frozen=True)
class Settings:
    ring_s: float = 12.0
    rest_s: float = 20.0
    wrap_up_s: float = 10.0
    widen_s: float = 30.0
    overflow_s: float = 60.0
    overflow: str | None = None
    announce_every_s: float = 0.0


SETTINGS = Settings()
NOW, SINCE = 100.0, 90.0


def seat_with(line: Line, respite: Respite | None = None) -> Seat:
    return Seat("s", frozenset(), line, respite or Rested(), registered=True, since=SINCE, idle_since=SINCE)


LINES: dict[str, Line] = {
    "free": Free(),
    "offered": Offered("c", SINCE),
    "leaving": Leaving("c", SINCE),
    "answered": Answered("c", SINCE),
    "talking": Talking("c", SINCE),
}
SIGNALS: dict[str, Signal] = {
    "offer": Offer("c", "s"),
    "withdraw": Withdraw("c", "s", Cause.NO_ANSWER),
    "drop": DropSeat("c", "s", Cause.CALLER_GONE),
    "missed": SeatMissed("c", "s"),
    "rings": SeatRinging("c", "s"),
    "answers": SeatAnswered("c", "s"),
    "connected": Connected("c", "s"),
    "fails": SeatFailed("c", "s", 486),
    "hangs up": SeatGone("c", "s", EndedBy.SEAT),
    "is lost": SeatGone("c", "s", EndedBy.FAULT),
    "is dropped": SeatGone("c", "s", EndedBy.SYSTEM),
}
FREE, LEAVING = Free(), Leaving("c", NOW)
# The line after each signal about its own call; a signal that is not listed leaves it as it is.
TABLE: dict[str, dict[str, Line]] = {
    "free": {"offer": Offered("c", NOW), "answers": LEAVING},
    "offered": {
        "withdraw": LEAVING,
        "drop": LEAVING,
        "answers": Answered("c", NOW),
        "fails": FREE,
        "hangs up": FREE,
        "is lost": FREE,
        "is dropped": FREE,
    },
    "leaving": {"fails": FREE, "hangs up": FREE, "is lost": FREE, "is dropped": FREE},
    "answered": {
        "withdraw": LEAVING,
        "drop": LEAVING,
        "connected": Talking("c", NOW),
        "fails": FREE,
        "hangs up": FREE,
        "is lost": FREE,
        "is dropped": FREE,
    },
    "talking": {"fails": FREE, "hangs up": FREE, "is lost": FREE, "is dropped": FREE},
}


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("line", LINES)
def test_every_line_meets_every_signal(line: str, signal: str) -> None:
    seat = step(seat_with(LINES[line]), SIGNALS[signal], NOW, SETTINGS)
    assert seat.line == TABLE[line].get(signal, LINES[line])


@pytest.mark.parametrize("signal", [name for name in SIGNALS if name != "offer"])
@pytest.mark.parametrize("line", [Offered("x", 1.0), Leaving("x", 1.0), Answered("x", 1.0), Talking("x", 1.0)])
def test_a_signal_about_another_call_changes_nothing(line: Line, signal: str) -> None:
    seat = seat_with(line)
    assert step(seat, SIGNALS[signal], NOW, SETTINGS) == seat


# What comes after a call


@pytest.mark.parametrize("by", [EndedBy.SEAT, EndedBy.SYSTEM])
def test_a_talk_is_wrapped_up(by: EndedBy) -> None:
    seat = step(seat_with(Talking("c", SINCE)), SeatGone("c", "s", by), NOW, SETTINGS)
    assert (seat.state, seat.respite, seat.since) == (SeatState.WRAP_UP, WrapUp(NOW + 10.0), NOW)
    assert expire(seat, NOW + 9.9).state is SeatState.WRAP_UP
    seat = expire(seat, NOW + 10.0)
    assert (seat.state, seat.deadline, seat.idle_since) == (SeatState.READY, None, NOW + 10.0)


@pytest.mark.parametrize("signal", [SeatGone("c", "s", EndedBy.FAULT), SeatFailed("c", "s", 408)])
def test_a_phone_that_was_lost_in_talk_rests_and_can_be_offered_the_caller_again(signal: Signal) -> None:
    seat = step(seat_with(Talking("c", SINCE)), signal, NOW, SETTINGS)
    assert (seat.state, seat.offerable) == (SeatState.RESTING, False)
    seat = expire(seat, NOW + RETRY_S)
    assert (seat.state, seat.offerable, seat.resting) == (SeatState.RESTING, True, True)


def test_a_seat_that_missed_rests_from_then_on_and_goes_to_the_end_of_the_idle() -> None:
    seat = step(seat_with(Offered("c", SINCE)), SeatMissed("c", "s"), NOW, SETTINGS)
    assert (seat.state, seat.respite, seat.idle_since) == (SeatState.OFFERED, Resting(NOW + 20.0), NOW)
    seat = step(seat, Withdraw("c", "s", Cause.NO_ANSWER), NOW, SETTINGS)
    assert (seat.state, seat.offerable) == (SeatState.OFFERED, False)
    seat = step(seat, SeatFailed("c", "s", 487), NOW + 2, SETTINGS)
    assert (seat.state, seat.offerable) == (SeatState.RESTING, True)
    assert expire(seat, NOW + 20.0).state is SeatState.READY


def test_a_seat_that_refuses_at_once_is_left_alone_for_a_moment() -> None:
    offered = step(seat_with(Free()), Offer("c", "s"), NOW, SETTINGS)
    seat = step(offered, SeatMissed("c", "s", 486), NOW + 0.5, SETTINGS)
    seat = step(seat, SeatFailed("c", "s", 486), NOW + 0.5, SETTINGS)
    assert seat.respite == Barred(NOW + RETRY_S, NOW + 20.5)
    assert (seat.state, seat.offerable, seat.deadline) == (SeatState.RESTING, False, NOW + RETRY_S)
    seat = expire(seat, NOW + RETRY_S)
    assert (seat.respite, seat.offerable, seat.state) == (Resting(NOW + 20.5), True, SeatState.RESTING)


def test_a_rest_that_is_shorter_than_the_moment_is_over_with_it() -> None:
    offered = step(seat_with(Free()), Offer("c", "s"), NOW, SETTINGS)
    seat = step(offered, SeatMissed("c", "s", 486), NOW, Settings(rest_s=0.5))
    assert expire(seat, NOW + RETRY_S).respite == Rested()


def test_a_seat_that_is_lost_before_both_hear_each_other_rests() -> None:
    seat = step(seat_with(Answered("c", SINCE)), SeatMissed("c", "s"), NOW, SETTINGS)
    seat = step(seat, SeatGone("c", "s", EndedBy.SEAT), NOW, SETTINGS)
    assert (seat.state, seat.offerable) == (SeatState.RESTING, False)


def test_a_seat_whose_caller_left_before_both_heard_each_other_is_free_at_once() -> None:
    seat = step(seat_with(Answered("c", SINCE)), DropSeat("c", "s", Cause.CALLER_GONE), NOW, SETTINGS)
    assert seat.state is SeatState.OFFERED
    seat = step(seat, SeatGone("c", "s", EndedBy.SYSTEM), NOW, SETTINGS)
    assert (seat.state, seat.idle_since) == (SeatState.READY, SINCE)


def test_an_offer_that_another_seat_took_costs_no_place_among_the_idle() -> None:
    seat = step(seat_with(Free()), Offer("c", "s"), NOW, SETTINGS)
    seat = step(seat, Withdraw("c", "s", Cause.ANSWERED_ELSEWHERE), NOW, SETTINGS)
    seat = step(seat, SeatFailed("c", "s", 487), NOW + 1, SETTINGS)
    assert (seat.state, seat.since, seat.idle_since) == (SeatState.READY, NOW + 1, SINCE)


def test_an_answer_a_moment_too_late_ends_the_rest() -> None:
    seat = step(seat_with(Leaving("c", SINCE), Resting(NOW + 15)), SeatAnswered("c", "s"), NOW, SETTINGS)
    assert (seat.line, seat.respite) == (Leaving("c", SINCE), Rested())


# What the seat itself says


def test_ready_ends_wrap_up_rest_and_pause() -> None:
    respites: tuple[Respite, ...] = (WrapUp(NOW + 5), Barred(NOW + 1, NOW + 9), Resting(NOW + 5))
    for respite in respites:
        seat = step(replace(seat_with(Free(), respite), pause=Pause("x")), SeatReady("s"), NOW, SETTINGS)
        assert (seat.state, seat.offerable, seat.deadline) == (SeatState.READY, True, None)


def test_nothing_else_ends_a_wrap_up() -> None:
    seat = seat_with(Free(), WrapUp(NOW + 5))
    signals: tuple[Signal, ...] = (SeatUnregistered("s"), SeatRegistered("s"), SeatBusy("s"), SeatIdle("s"))
    for signal in signals:
        seat = step(seat, signal, NOW, SETTINGS)
        assert not seat.offerable
    assert seat.state is SeatState.WRAP_UP
    assert expire(step(seat, SeatPaused("s"), NOW, SETTINGS), NOW + 5).state is SeatState.PAUSED


def test_a_pause_has_a_reason_and_survives_a_new_registration() -> None:
    seat = step(seat_with(Free()), SeatPaused("s", "makan"), NOW, SETTINGS)
    assert (seat.state, seat.reason, seat.offerable) == (SeatState.PAUSED, "makan", False)
    seat = step(seat, SeatUnregistered("s"), NOW + 1, SETTINGS)
    assert (seat.state, seat.reason) == (SeatState.OFFLINE, None)
    seat = step(seat, SeatRegistered("s"), NOW + 2, SETTINGS)
    assert (seat.state, seat.reason) == (SeatState.PAUSED, "makan")


def test_a_pause_in_talk_shows_when_the_talk_is_over() -> None:
    seat = step(seat_with(Talking("c", SINCE)), SeatPaused("s", "makan"), NOW, SETTINGS)
    assert (seat.state, seat.reason) == (SeatState.TALKING, None)
    assert step(seat, SeatGone("c", "s"), NOW, SETTINGS).state is SeatState.PAUSED


@pytest.mark.parametrize("line", ["offered", "leaving", "answered", "talking"])
def test_a_seat_goes_offline_only_when_its_leg_is_over(line: str) -> None:
    seat = seat_with(LINES[line])
    unregistered = step(seat, SeatUnregistered("s"), NOW, SETTINGS)
    assert (unregistered.state, unregistered.line) == (seat.state, seat.line)
    assert step(unregistered, SeatGone("c", "s"), NOW, SETTINGS).state is SeatState.OFFLINE


def test_a_refreshed_registration_changes_nothing() -> None:
    seat = replace(seat_with(Free()), suspect=True)
    assert step(seat, SeatRegistered("s"), NOW, SETTINGS) == seat


def test_a_suspect_seat_is_ready_and_comes_last() -> None:
    seat = step(seat_with(Free()), SeatSuspect("s"), NOW, SETTINGS)
    assert (seat.state, seat.offerable, seat.suspect) == (SeatState.READY, True, True)
    idle_for_less = replace(seat_with(Free()), idle_since=NOW)
    resting = seat_with(Free(), Resting(NOW + 9))
    assert sorted([resting, seat, idle_for_less], key=lambda each: each.turn) == [idle_for_less, seat, resting]
    assert not step(seat, SeatTrusted("s"), NOW, SETTINGS).suspect
    assert not step(step(seat, SeatUnregistered("s"), NOW, SETTINGS), SeatRegistered("s"), NOW, SETTINGS).suspect
    assert not step(Seat("s", frozenset()), SeatSuspect("s"), NOW, SETTINGS).suspect


def test_a_seat_in_a_call_of_its_own_is_talking_and_not_offered() -> None:
    seat = step(seat_with(Free()), SeatBusy("s"), NOW, SETTINGS)
    assert (seat.state, seat.call, seat.offerable) == (SeatState.TALKING, None, False)
    seat = step(seat, SeatIdle("s"), NOW + 3, SETTINGS)
    assert (seat.state, seat.offerable, seat.idle_since) == (SeatState.READY, True, NOW + 3)


def test_a_removed_seat_is_gone_when_its_leg_is_over() -> None:
    assert remove(seat_with(Free()), NOW).gone
    seat = remove(seat_with(Talking("c", SINCE)), NOW)
    assert (seat.state, seat.gone) == (SeatState.TALKING, False)
    assert step(seat, SeatGone("c", "s"), NOW, SETTINGS).gone


def test_idle_longest_counts_from_the_last_thing_done() -> None:
    seat = step(Seat("s", frozenset()), SeatRegistered("s"), 1.0, SETTINGS)
    assert seat.idle_since == 1.0
    seat = step(step(seat, SeatPaused("s"), 2.0, SETTINGS), SeatReady("s"), 3.0, SETTINGS)
    assert seat.idle_since == 3.0
    resting = step(replace(seat, line=Offered("c", 3.0)), SeatMissed("c", "s"), 5.0, SETTINGS)
    assert resting.idle_since == 5.0


def test_the_cause_of_a_change() -> None:
    assert cause_of(seat_with(Offered("c", 0)), SeatFailed("c", "s", 486)) is Cause.REJECTED
    assert cause_of(seat_with(Leaving("c", 0)), SeatFailed("c", "s", 487)) is Cause.LEG_OVER
    assert cause_of(seat_with(Offered("c", 0)), Withdraw("c", "s", Cause.BUSY)) is Cause.BUSY
    for signal in SIGNALS.values():
        assert cause_of(seat_with(Free()), signal) in Cause
