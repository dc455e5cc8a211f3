"""Who is offered which call, and when: the rules of a 112 queue, one test each."""

from dataclasses import dataclass, replace

from siaga_pbx.call.commands import (
    Alarm,
    AlarmName,
    CallOver,
    Cause,
    Command,
    Connect,
    ConnectOverflow,
    DropCaller,
    DropOverflow,
    DropSeat,
    Noted,
    Offer,
    Outcome,
    Requeued,
    SeatChanged,
    SeatMissed,
    SeatState,
    StartOverflow,
    Withdraw,
    WithdrawOverflow,
)
from siaga_pbx.call.events import (
    CallArrived,
    CallerGone,
    Connected,
    EndedBy,
    Event,
    OverflowAnswered,
    OverflowFailed,
    OverflowGone,
    SeatAnswered,
    SeatBusy,
    SeatFailed,
    SeatGone,
    SeatIdle,
    SeatPaused,
    SeatReady,
    SeatRegistered,
    SeatSuspect,
    SeatUnregistered,
)
from siaga_pbx.call.queue import Queue
from siaga_pbx.call.seats import RETRY_S
from siaga_pbx.call.view import SeatView


@dataclass(frozen=True)
class Settings:
    ring_s: float = 12.0
    rest_s: float = 20.0
    wrap_up_s: float = 10.0
    widen_s: float = 30.0
    overflow_s: float = 60.0
    overflow: str | None = "sip:112@192.0.2.9"
    announce_every_s: float = 0.0


@dataclass(frozen=True)
class Seat:
    id: str
    skills: frozenset[str] = frozenset()


class Centre:
    """A queue and its clock. `do` and `wait` return the commands other than SeatChanged."""

    def __init__(self, *seats: Seat | str, settings: Settings | None = None) -> None:
        self.now = 1000.0
        self.settings = settings or Settings()
        self.queue = Queue(self.settings, [Seat(seat) if isinstance(seat, str) else seat for seat in seats])
        self.changes: list[SeatChanged] = []

    def do(self, *events: Event) -> list[Command]:
        return self.keep([command for event in events for command in self.queue.handle(event, self.now)])

    def wait(self, seconds: float) -> list[Command]:
        commands: list[Command] = []
        end = self.now + seconds
        while (deadline := self.queue.next_deadline()) is not None and deadline <= end:
            self.now = deadline
            commands += self.queue.handle_timer(self.now)
        self.now = end
        return self.keep(commands)

    def keep(self, commands: list[Command]) -> list[Command]:
        self.changes += [command for command in commands if isinstance(command, SeatChanged)]
        return [command for command in commands if not isinstance(command, SeatChanged)]

    def seat(self, id: str) -> SeatView:
        return next(seat for seat in self.queue.view().seats if seat.seat == id)

    def state(self, id: str) -> SeatState:
        return self.seat(id).state

    def register(self, *seats: str) -> None:
        """A second apart, so that the first is idle longest."""
        for seat in seats:
            self.do(SeatRegistered(seat))
            self.wait(1.0)

    def talk(self, call: str, seat: str) -> None:
        self.do(SeatAnswered(call, seat), Connected(call, seat))


def centre(*seats: str, settings: Settings | None = None) -> Centre:
    made = Centre(*seats, settings=settings)
    made.register(*seats)
    return made


# Offering


def test_a_caller_is_offered_at_once_to_the_seat_idle_longest() -> None:
    desk = centre("a", "b")
    assert desk.do(CallArrived("c")) == [Offer("c", "a")]
    assert (desk.state("a"), desk.seat("a").call, desk.state("b")) == (SeatState.OFFERED, "c", SeatState.READY)
    assert desk.do(CallArrived("d")) == [Offer("d", "b")]


def test_after_a_talk_a_seat_is_idle_anew() -> None:
    desk = centre("a", "b")
    desk.do(CallArrived("c"))
    desk.talk("c", "a")
    desk.do(SeatGone("c", "a"), CallerGone("c", EndedBy.SYSTEM))
    desk.wait(10.0)
    assert desk.do(CallArrived("d")) == [Offer("d", "b")]
    assert desk.do(CallArrived("e")) == [Offer("e", "a")]


def test_a_caller_with_no_free_seat_waits_and_is_offered_the_first_that_is_free() -> None:
    desk = centre("a")
    desk.do(CallArrived("c"))
    desk.talk("c", "a")
    assert desk.do(CallArrived("d")) == []
    desk.do(SeatGone("c", "a"), CallerGone("c", EndedBy.SYSTEM))
    assert desk.wait(9.9) == []
    assert desk.wait(0.1) == [Offer("d", "a")]


def test_a_route_with_skills_rings_who_has_them_all() -> None:
    desk = Centre(Seat("a", frozenset({"id"})), Seat("b", frozenset({"id", "jv"})), Seat("c", frozenset({"jv"})))
    desk.register("a", "b", "c")
    assert desk.do(CallArrived("1", frozenset({"id", "jv"}))) == [Offer("1", "b")]
    assert desk.do(CallArrived("2", frozenset({"jv"}))) == [Offer("2", "c")]
    assert desk.do(CallArrived("3", frozenset({"jv"}))) == []
    assert desk.do(CallArrived("4")) == [Offer("4", "a")]


def test_a_later_caller_may_be_served_first_only_by_a_seat_that_the_earlier_one_cannot_have() -> None:
    desk = Centre(Seat("a", frozenset({"id"})), Seat("b", frozenset({"jv"})))
    desk.do(CallArrived("1", frozenset({"jv"})), CallArrived("2", frozenset({"id"})))
    assert Offer("2", "a") in desk.do(SeatRegistered("a"))
    assert desk.do(SeatRegistered("b")) == [Offer("1", "b")]


def test_a_higher_priority_goes_first_and_then_who_came_first() -> None:
    desk = Centre("a")
    desk.do(CallArrived("1"), CallArrived("2", priority=1), CallArrived("3", priority=1), CallArrived("4"))
    assert [caller.call for caller in desk.queue.view().waiting] == ["2", "3", "1", "4"]
    assert Offer("2", "a") in desk.do(SeatRegistered("a"))


def test_a_suspect_seat_is_offered_last_but_is_offered() -> None:
    desk = centre("a", "b")
    desk.do(SeatSuspect("a"))
    assert desk.do(CallArrived("c")) == [Offer("c", "b")]
    assert desk.do(CallArrived("d")) == [Offer("d", "a")]


# Not answered


def test_a_seat_that_does_not_answer_is_withdrawn_and_the_next_one_rings() -> None:
    desk = centre("a", "b")
    desk.do(CallArrived("c"))
    assert desk.wait(11.9) == []
    assert desk.wait(0.1) == [SeatMissed("c", "a"), Withdraw("c", "a", Cause.NO_ANSWER), Offer("c", "b")]
    assert desk.state("a") is SeatState.OFFERED  # its leg is not over yet
    desk.do(SeatFailed("c", "a", 487))
    desk.talk("c", "b")
    assert desk.wait(19.9) == []
    assert desk.state("a") is SeatState.RESTING
    desk.wait(0.1)
    assert desk.state("a") is SeatState.READY


def test_a_seat_that_refuses_does_not_cost_the_ring_time() -> None:
    desk = centre("a", "b")
    desk.do(CallArrived("c"))
    desk.wait(3.0)
    assert desk.do(SeatFailed("c", "a", 486)) == [SeatMissed("c", "a", 486), Offer("c", "b")]
    assert desk.state("a") is SeatState.RESTING


def test_a_missed_caller_goes_back_to_the_head() -> None:
    desk = centre("a")
    desk.do(CallArrived("c"))
    desk.wait(1.0)
    desk.do(CallArrived("d"), CallArrived("e"))
    desk.do(SeatFailed("c", "a", 603))
    assert [caller.call for caller in desk.queue.view().waiting] == ["c", "d", "e"]
    assert desk.wait(1.0) == [Offer("c", "a")]  # resting, but there is no other


def test_a_resting_seat_is_not_offered_while_a_rested_one_is_free() -> None:
    desk = centre("a", "b")
    desk.do(CallArrived("c"), SeatFailed("c", "a", 486))
    desk.talk("c", "b")
    desk.do(SeatGone("c", "b"), CallerGone("c", EndedBy.SYSTEM), SeatReady("b"))
    assert desk.state("a") is SeatState.RESTING
    assert desk.do(CallArrived("d")) == [Offer("d", "b")]
    desk.wait(RETRY_S)
    assert desk.do(CallArrived("e")) == [Offer("e", "a")]


def test_a_lone_seat_that_refuses_at_once_is_not_rung_in_a_storm() -> None:
    desk = centre("a")
    desk.do(CallArrived("c"))
    offers = 1
    for _ in range(100):
        commands = desk.do(SeatFailed("c", "a", 486)) if desk.state("a") is SeatState.OFFERED else desk.wait(0.1)
        offers += commands.count(Offer("c", "a"))
    assert 3 <= offers <= 6


def test_a_seat_told_to_stop_is_offered_nothing_before_its_leg_is_over() -> None:
    desk = centre("a")
    desk.do(CallArrived("c"))
    assert desk.wait(12.0) == [SeatMissed("c", "a"), Withdraw("c", "a", Cause.NO_ANSWER)]
    assert desk.do(CallArrived("d")) == []
    assert desk.wait(2.0) == []
    assert desk.do(SeatFailed("c", "a", 487)) == [Offer("c", "a")]


def test_an_answer_that_comes_too_late_is_hung_up_and_its_seat_is_offered_the_caller_again() -> None:
    desk = centre("a")
    desk.do(CallArrived("c"))
    desk.wait(12.0)
    late = desk.do(SeatAnswered("c", "a"))
    assert late == [DropSeat("c", "a", Cause.NO_ANSWER), Noted("c", "answer_too_late", {"seat": "a"})]
    assert desk.do(SeatGone("c", "a", EndedBy.SYSTEM)) == [Offer("c", "a")]


# Offered to all


def test_after_a_while_every_free_seat_rings_whatever_its_skills_and_the_first_answer_wins() -> None:
    desk = centre("a", "b", "c")
    desk.do(CallArrived("1", frozenset({"jv"})))
    assert desk.wait(29.9) == []
    assert desk.wait(0.1) == [Noted("1", "widened"), Offer("1", "a"), Offer("1", "b"), Offer("1", "c")]
    assert desk.do(SeatAnswered("1", "b")) == [
        Connect("1", "b"),
        Withdraw("1", "a", Cause.ANSWERED_ELSEWHERE),
        Withdraw("1", "c", Cause.ANSWERED_ELSEWHERE),
    ]
    assert desk.do(SeatAnswered("1", "c")) == [DropSeat("1", "c", Cause.ANSWERED_ELSEWHERE)]
    assert desk.do(SeatFailed("1", "a", 487), SeatGone("1", "c", EndedBy.SYSTEM)) == []
    assert [desk.state(seat) for seat in "abc"] == [SeatState.READY, SeatState.TALKING, SeatState.READY]


def test_a_seat_that_becomes_free_rings_along() -> None:
    desk = centre("a", "b")
    desk.do(SeatPaused("b"), CallArrived("1", frozenset({"jv"})))
    desk.wait(31.0)
    assert desk.do(SeatReady("b")) == [Offer("1", "b")]


def test_of_several_callers_who_are_for_all_everyone_rings_somewhere_first() -> None:
    desk = centre("a", "b", "c")
    needs = frozenset({"jv"})
    desk.do(CallArrived("1", needs), CallArrived("2", needs))
    offers = [command for command in desk.wait(30.0) if isinstance(command, Offer)]
    assert offers == [Offer("1", "a"), Offer("2", "b"), Offer("1", "c")]


def test_when_all_have_missed_all_ring_again() -> None:
    desk = centre("a", "b", settings=replace(Settings(), ring_s=5.0, overflow=None))
    desk.do(CallArrived("1", frozenset({"jv"})))
    desk.wait(30.0)
    desk.wait(5.0)
    assert desk.do(SeatFailed("1", "a", 487)) == [Offer("1", "a")]
    assert desk.do(SeatFailed("1", "b", 487)) == [Offer("1", "b")]


def test_a_resting_seat_is_spared_while_a_rested_one_rings() -> None:
    desk = centre("a", "b", "c", settings=replace(Settings(), rest_s=100.0))
    desk.do(CallArrived("1"), SeatFailed("1", "a", 486))
    assert desk.queue.view().waiting[0].offered == ("b",)
    desk.do(CallerGone("1"), SeatFailed("1", "b", 487), CallArrived("2", frozenset({"jv"})))
    offers = [command for command in desk.wait(30.0) if isinstance(command, Offer)]
    assert offers == [Offer("2", "b"), Offer("2", "c")]


# Nobody there


def test_the_overflow_target_rings_beside_the_seats_after_the_wait() -> None:
    desk = centre("a")
    desk.do(CallArrived("1"))
    desk.talk("1", "a")
    desk.do(CallArrived("2"))
    assert desk.wait(59.9) == [Noted("2", "widened")]
    assert desk.wait(0.1) == [StartOverflow("2")]
    assert desk.queue.view().waiting[0].overflowing
    desk.do(SeatGone("1", "a"), CallerGone("1", EndedBy.SYSTEM))
    assert desk.wait(10.0) == [Offer("2", "a")]
    assert desk.do(SeatAnswered("2", "a")) == [
        Connect("2", "a"),
        WithdrawOverflow("2", Cause.ANSWERED_ELSEWHERE),
    ]
    assert desk.do(OverflowAnswered("2")) == [DropOverflow("2", Cause.ANSWERED_ELSEWHERE)]
    assert desk.do(OverflowGone("2", EndedBy.SYSTEM)) == []


def test_the_overflow_target_may_have_the_call() -> None:
    desk = centre("a", settings=replace(Settings(), ring_s=100.0))
    desk.do(CallArrived("1"))
    desk.wait(99.0)
    assert desk.wait(1.0) == [SeatMissed("1", "a"), Withdraw("1", "a", Cause.NO_ANSWER), StartOverflow("1")]
    desk.do(SeatFailed("1", "a", 487))
    assert desk.queue.view().waiting[0].offered == ("a",)
    assert desk.do(OverflowAnswered("1")) == [
        ConnectOverflow("1"),
        Withdraw("1", "a", Cause.ANSWERED_ELSEWHERE),
    ]
    assert desk.queue.view().waiting == ()
    assert desk.do(OverflowGone("1")) == [DropCaller("1", Cause.OVERFLOW_GONE)]
    assert desk.do(CallerGone("1", EndedBy.SYSTEM)) == [
        CallOver("1", Outcome.OVERFLOWED, EndedBy.OVERFLOW, Cause.OVERFLOW_GONE)
    ]


def test_an_overflow_target_that_fails_is_an_alarm_and_is_tried_again() -> None:
    desk = Centre("a")
    desk.do(CallArrived("1"))
    desk.wait(60.0)
    failed = Alarm(AlarmName.OVERFLOW_FAILED, True, "the overflow target answered 486")
    assert desk.do(OverflowFailed("1", 486)) == [failed]
    assert desk.wait(10.0) == [StartOverflow("1")]
    assert desk.do(OverflowAnswered("1")) == [Alarm(AlarmName.OVERFLOW_FAILED, False), ConnectOverflow("1")]


def test_a_reload_with_another_overflow_target_clears_its_alarm() -> None:
    desk = Centre("a")
    desk.do(CallArrived("1"))
    desk.wait(60.0)
    desk.do(OverflowFailed("1", 486))
    other = replace(Settings(), overflow="tel:+62231112")
    assert desk.keep(desk.queue.configure(other, [Seat("a")], desk.now)) == [Alarm(AlarmName.OVERFLOW_FAILED, False)]


def test_no_seat_registered_is_an_alarm_at_once() -> None:
    desk = Centre("a", "b")
    raised = Alarm(AlarmName.NO_SEAT_REGISTERED, True, "of 2 seats none is registered")
    assert desk.queue.start(desk.now) == [raised]
    assert desk.do(SeatRegistered("a")) == [Alarm(AlarmName.NO_SEAT_REGISTERED, False)]
    assert desk.do(SeatRegistered("b"), SeatUnregistered("a")) == []
    assert desk.do(SeatUnregistered("b")) == [raised]


def test_seats_restored_before_the_start_raise_no_alarm() -> None:
    desk = centre("a")
    assert desk.queue.start(desk.now) == []


# A caller leaves


def test_a_caller_who_hangs_up_while_waiting_was_abandoned() -> None:
    desk = Centre("a")
    desk.do(CallArrived("1"))
    assert desk.do(CallerGone("1")) == [CallOver("1", Outcome.ABANDONED, EndedBy.CALLER, Cause.CALLER_GONE)]
    assert desk.queue.next_deadline() is None


def test_a_caller_who_hangs_up_while_a_seat_rings() -> None:
    desk = centre("a")
    desk.do(CallArrived("1"))
    assert desk.do(CallerGone("1")) == [
        Withdraw("1", "a", Cause.CALLER_GONE),
        CallOver("1", Outcome.ABANDONED, EndedBy.CALLER, Cause.CALLER_GONE),
    ]
    desk.do(SeatFailed("1", "a", 487))
    assert desk.state("a") is SeatState.READY  # it missed nothing


def test_a_caller_who_hangs_up_between_answer_and_bridge_was_not_answered() -> None:
    desk = centre("a")
    desk.do(CallArrived("1"), SeatAnswered("1", "a"))
    assert desk.do(CallerGone("1")) == [
        DropSeat("1", "a", Cause.CALLER_GONE),
        CallOver("1", Outcome.ABANDONED, EndedBy.CALLER, Cause.CALLER_GONE),
    ]


def test_a_caller_who_hangs_up_in_talk_and_the_wrap_up_that_follows() -> None:
    desk = centre("a")
    desk.do(CallArrived("1"))
    desk.talk("1", "a")
    assert desk.do(CallerGone("1")) == [
        DropSeat("1", "a", Cause.CALLER_GONE),
        CallOver("1", Outcome.ANSWERED, EndedBy.CALLER, Cause.CALLER_GONE, "a"),
    ]
    desk.wait(5.0)
    assert desk.state("a") is SeatState.TALKING  # until its own dialog is over
    desk.do(SeatGone("1", "a", EndedBy.SYSTEM))
    assert desk.state("a") is SeatState.WRAP_UP
    desk.wait(10.0)
    assert desk.state("a") is SeatState.READY


def test_a_caller_who_is_lost_while_waiting_has_failed() -> None:
    desk = Centre("a")
    desk.do(CallArrived("1"))
    assert desk.do(CallerGone("1", EndedBy.FAULT)) == [CallOver("1", Outcome.FAILED, EndedBy.FAULT, Cause.CALLER_GONE)]


def test_a_call_is_over_once_and_its_legs_are_not_left_behind() -> None:
    desk = centre("a")
    desk.do(CallArrived("1"), CallerGone("1"))
    assert desk.do(CallerGone("1")) == []
    assert desk.do(SeatAnswered("1", "a")) == [DropSeat("1", "a", Cause.UNKNOWN_CALL)]
    assert desk.do(OverflowAnswered("1")) == [DropOverflow("1", Cause.UNKNOWN_CALL)]


def test_a_call_that_arrives_twice_is_one_call() -> None:
    desk = centre("a", "b")
    desk.do(CallArrived("1"))
    assert desk.do(CallArrived("1")) == []
    assert len(desk.queue.view().waiting) == 1


# A seat leaves


def test_a_seat_that_hangs_up_ends_the_call() -> None:
    desk = centre("a")
    desk.do(CallArrived("1"))
    desk.talk("1", "a")
    assert desk.do(SeatGone("1", "a")) == [DropCaller("1", Cause.SEAT_GONE)]
    assert desk.do(CallerGone("1", EndedBy.SYSTEM)) == [
        CallOver("1", Outcome.ANSWERED, EndedBy.SEAT, Cause.SEAT_GONE, "a")
    ]


def test_a_caller_whose_seat_crashed_goes_to_the_head_and_to_the_next_seat() -> None:
    desk = centre("a", "b")
    desk.do(CallArrived("1"))
    desk.talk("1", "a")
    desk.do(CallArrived("2"))
    desk.talk("2", "b")
    desk.do(CallArrived("3"))
    assert desk.do(SeatGone("1", "a", EndedBy.FAULT)) == [Requeued("1", Cause.LEG_LOST)]
    assert [caller.call for caller in desk.queue.view().waiting] == ["1", "3"]
    desk.do(SeatGone("2", "b"), SeatReady("b"))
    assert desk.queue.view().waiting[0].offered == ("b",)


def test_a_lone_seat_that_crashed_has_its_caller_back_when_it_is_there_again() -> None:
    desk = centre("a")
    desk.do(CallArrived("1"))
    desk.talk("1", "a")
    desk.do(SeatGone("1", "a", EndedBy.FAULT))
    assert desk.wait(RETRY_S) == [Offer("1", "a")]


def test_a_seat_that_unregisters_while_it_rings_goes_on_ringing() -> None:
    desk = centre("a", "b")
    desk.do(CallArrived("1"))
    assert desk.do(SeatUnregistered("a")) == []
    assert desk.state("a") is SeatState.OFFERED
    assert desk.do(SeatAnswered("1", "a")) == [Connect("1", "a")]


def test_a_seat_that_unregisters_while_it_rings_and_does_not_answer_is_offline() -> None:
    desk = centre("a", "b")
    desk.do(CallArrived("1"), SeatUnregistered("a"))
    assert desk.wait(12.0)[-1] == Offer("1", "b")
    desk.do(SeatFailed("1", "a", 487))
    assert desk.state("a") is SeatState.OFFLINE


def test_a_seat_that_unregisters_while_it_talks_is_offline_when_its_dialog_is_over() -> None:
    desk = centre("a")
    desk.do(CallArrived("1"))
    desk.talk("1", "a")
    desk.do(SeatUnregistered("a"))
    assert desk.state("a") is SeatState.TALKING
    desk.do(SeatGone("1", "a"))
    assert desk.state("a") is SeatState.OFFLINE
    desk.do(SeatRegistered("a"))
    assert desk.state("a") is SeatState.WRAP_UP


def test_a_pause_while_it_rings_gives_the_caller_to_the_next_seat() -> None:
    desk = centre("a", "b")
    desk.do(CallArrived("1"))
    assert desk.do(SeatPaused("a", "makan")) == [Withdraw("1", "a", Cause.PAUSED), Offer("1", "b")]
    desk.do(SeatFailed("1", "a", 487))
    assert (desk.state("a"), desk.seat("a").reason) == (SeatState.PAUSED, "makan")


def test_a_call_of_its_own_while_it_rings_gives_the_caller_to_the_next_seat() -> None:
    desk = centre("a", "b")
    desk.do(CallArrived("1"))
    assert desk.do(SeatBusy("a")) == [Withdraw("1", "a", Cause.BUSY), Offer("1", "b")]
    desk.do(SeatFailed("1", "a", 487))
    assert desk.state("a") is SeatState.TALKING
    desk.do(SeatIdle("a"))
    assert desk.state("a") is SeatState.READY


def test_ready_ends_a_wrap_up_and_takes_the_next_caller() -> None:
    desk = centre("a")
    desk.do(CallArrived("1"))
    desk.talk("1", "a")
    desk.do(CallArrived("2"), SeatGone("1", "a"), CallerGone("1", EndedBy.SYSTEM))
    assert desk.do(SeatReady("a")) == [Offer("2", "a")]


# Reload


def test_a_reload_keeps_what_seats_are_doing() -> None:
    desk = centre("a", "b", "c", "d")
    desk.do(CallArrived("1"))
    desk.talk("1", "a")
    desk.do(CallArrived("2"), SeatPaused("c", "makan"))
    before = {seat.seat: (seat.state, seat.since, seat.call, seat.reason) for seat in desk.queue.view().seats}
    skilled = Seat("d", frozenset({"jv"}))
    commands = desk.queue.configure(desk.settings, [Seat("a"), Seat("b"), Seat("c"), skilled, Seat("e")], desk.now)
    assert commands == []
    after = {seat.seat: (seat.state, seat.since, seat.call, seat.reason) for seat in desk.queue.view().seats}
    assert {id: after[id] for id in before} == before
    assert after["e"] == (SeatState.OFFLINE, desk.now, None, None)
    assert desk.seat("d").skills == {"jv"}


def test_a_seat_that_is_no_more_leaves_at_once_when_free_and_after_its_call_when_not() -> None:
    desk = centre("a", "b", "c")
    desk.do(CallArrived("1"))
    desk.talk("1", "a")
    desk.do(CallArrived("2"))
    commands = desk.keep(desk.queue.configure(desk.settings, [Seat("c")], desk.now))
    assert commands == [Withdraw("2", "b", Cause.REMOVED), Offer("2", "c")]
    assert [seat.seat for seat in desk.queue.view().seats] == ["c", "a", "b"]
    desk.do(SeatFailed("2", "b", 487))
    assert desk.do(SeatGone("1", "a")) == [DropCaller("1", Cause.SEAT_GONE)]
    assert [seat.seat for seat in desk.queue.view().seats] == ["c"]
    assert desk.do(SeatRegistered("a")) == []


def test_new_times_count_for_calls_that_wait_already() -> None:
    desk = Centre("a")
    desk.do(CallArrived("1"))
    desk.wait(10.0)
    sooner = replace(Settings(), overflow_s=5.0, widen_s=5.0)
    assert desk.queue.configure(sooner, [Seat("a")], desk.now) == [Noted("1", "widened"), StartOverflow("1")]


# What is told


def test_every_change_of_a_seat_is_told_once_with_its_cause() -> None:
    desk = centre("a")
    desk.do(CallArrived("1"))
    desk.talk("1", "a")
    desk.do(SeatGone("1", "a"), CallerGone("1", EndedBy.SYSTEM))
    desk.wait(10.0)
    desk.do(SeatPaused("a", "makan"), SeatPaused("a", "rapat"), SeatReady("a"), SeatUnregistered("a"))
    offline, ready, offered, talking, wrap_up, paused, _ = (
        SeatState.OFFLINE,
        SeatState.READY,
        SeatState.OFFERED,
        SeatState.TALKING,
        SeatState.WRAP_UP,
        SeatState.PAUSED,
        SeatState.RESTING,
    )
    assert desk.changes == [
        SeatChanged("a", offline, ready, Cause.REGISTERED),
        SeatChanged("a", ready, offered, Cause.OFFERED, "1"),
        SeatChanged("a", offered, talking, Cause.ANSWERED, "1"),
        SeatChanged("a", talking, wrap_up, Cause.LEG_OVER, "1"),
        SeatChanged("a", wrap_up, ready, Cause.WRAP_UP_OVER),
        SeatChanged("a", ready, paused, Cause.PAUSED, None, "makan"),
        SeatChanged("a", paused, paused, Cause.PAUSED, None, "rapat"),
        SeatChanged("a", paused, ready, Cause.READY),
        SeatChanged("a", ready, offline, Cause.UNREGISTERED),
    ]


def test_the_view() -> None:
    desk = centre("a", "b")
    desk.do(SeatPaused("b", "makan"), CallArrived("1", priority=2))
    desk.wait(3.0)
    desk.do(CallArrived("2"))
    view = desk.queue.view()
    assert [(caller.call, caller.offered, caller.priority) for caller in view.waiting] == [
        ("1", ("a",), 2),
        ("2", (), 0),
    ]
    assert view.oldest_since == view.waiting[0].since == desk.now - 3.0
    assert (view.seats[1].state, view.seats[1].reason) == (SeatState.PAUSED, "makan")
    assert view.seats_by_state == dict.fromkeys(SeatState, 0) | {SeatState.OFFERED: 1, SeatState.PAUSED: 1}


def test_an_empty_view() -> None:
    view = Centre().queue.view()
    assert (view.seats, view.waiting, view.oldest_since) == ((), (), None)


def test_events_of_seats_that_nobody_knows_harm_nothing() -> None:
    desk = centre("a")
    unknown: tuple[Event, ...] = (SeatRegistered("x"), SeatPaused("x"), SeatBusy("x"), SeatReady("x"))
    assert desk.do(*unknown) == []
    assert desk.do(SeatGone("1", "x"), SeatFailed("1", "x", 500)) == []
    assert desk.do(SeatAnswered("1", "x")) == [DropSeat("1", "x", Cause.UNKNOWN_CALL)]


def test_a_configured_seat_and_queue_fit_as_they_are() -> None:
    from siaga_pbx.config import QueueSettings
    from siaga_pbx.config import Seat as ConfiguredSeat

    queue = Queue(QueueSettings(), [ConfiguredSeat(id="101", password="x", skills=frozenset({"jv"}))])
    assert [seat.skills for seat in queue.view().seats] == [{"jv"}]
