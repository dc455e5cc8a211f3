"""The follow-up of one dispatch: delivery, the ladder, what is due."""

from collections.abc import Callable

import pytest

from siaga_pbx.dispatch.followup import CALL_S, LIFETIME_S, RECEIPT_S, RETRY_S, FollowUp
from siaga_pbx.dispatch.ladder import (
    Alarm,
    Answer,
    Call,
    Delivered,
    Engage,
    Escalated,
    GivenUp,
    Lowered,
    Moved,
    Noted,
    Output,
    Publish,
    Raised,
    State,
)
from siaga_pbx.dispatch.plan import Past, Plan

ANSWERS: tuple[Answer, ...] = (
    State.RECEIVED,
    State.ACCEPTED,
    State.REJECTED,
    State.EN_ROUTE,
    State.ON_SCENE,
    State.CLEARED,
)


def follow(*escalate: str, accept: float = 60, arrive: float = 900, past: Past | None = None) -> FollowUp:
    return FollowUp(Plan(accept, arrive, escalate), past or Past(0.0, 0.0))


def received(*escalate: str, accept: float = 60, arrive: float = 900) -> FollowUp:
    """A dispatch that the agency's end has."""
    one = follow(*escalate, accept=accept, arrive=arrive)
    one.start(0)
    one.published(1, 0)
    one.answered(State.RECEIVED, 1, 0)
    return one


def due(one: FollowUp) -> tuple[float, list[Output]]:
    """The next deadline, and what happens then."""
    at = one.next_deadline()
    assert at is not None
    return at, one.handle_timer(at)


# --- delivery ---------------------------------------------------------------------------------------------------------


def test_it_is_published_at_once_and_again_until_the_agency_has_it() -> None:
    one = follow(accept=10_000)
    assert one.start(0) == [Publish(1)]
    assert one.published(1, 0.1) == [Moved(State.PENDING, State.PUBLISHED, (State.PUBLISHED,))]
    now = 0.1
    for wait in (*RECEIPT_S, RECEIPT_S[-1]):
        at, outputs = due(one)
        assert at == pytest.approx(now + wait)
        assert outputs == [Publish(1)]
        now = at
        assert one.published(1, now) == []
    assert one.answered(State.RECEIVED, 1, now) == [
        Delivered(1),
        Moved(State.PUBLISHED, State.RECEIVED, (State.RECEIVED,)),
    ]
    assert one.next_deadline() == 10_000


def test_while_a_publication_is_under_way_none_follows() -> None:
    one = follow(accept=10_000)
    one.start(0)
    assert one.next_deadline() == 10_000
    assert one.connected(1) == []


def test_a_publication_that_fails_is_repeated_ever_more_slowly() -> None:
    one = follow(accept=10_000)
    one.start(0)
    now = 0.0
    for wait in (*RETRY_S, RETRY_S[-1]):
        assert one.unpublished(now) == []
        at, outputs = due(one)
        assert outputs == [Publish(1)]
        assert at - now == pytest.approx(wait)
        now = at


def test_a_connection_that_is_back_ends_the_wait() -> None:
    one = follow()
    one.start(0)
    one.unpublished(0)
    assert one.connected(0.2) == [Publish(1)]
    one.published(1, 0.3)
    assert one.connected(0.4) == [Publish(1)], "the broker may have forgotten it"
    one.published(1, 0.5)
    one.answered(State.RECEIVED, 1, 0.6)
    assert one.connected(0.7) == []


def test_a_refusal_of_the_broker_is_an_alarm_until_it_takes_it() -> None:
    one = follow()
    one.start(0)
    assert one.unpublished(0, "Not authorized (0x87)") == [Raised(Alarm.REFUSED, "Not authorized (0x87)")]
    assert one.unpublished(1, "Not authorized (0x87)") == [], "the alarm stands already"
    assert one.state is State.PENDING
    assert Lowered(Alarm.REFUSED) in one.published(1, 2)


def test_a_refusal_of_what_the_agency_has_by_then_is_none() -> None:
    one = follow()
    one.start(0)
    one.answered(State.RECEIVED, 1, 1)
    assert one.unpublished(2, "quota exceeded") == []


def test_no_subscriber_is_an_alarm_until_the_agency_has_it() -> None:
    one = follow()
    one.start(0)
    assert Raised(Alarm.NO_SUBSCRIBER, "the broker has no subscriber for it") in one.published(1, 0, no_subscriber=True)
    one.handle_timer(5)
    assert one.published(1, 5) == [], "that somebody subscribes now proves nothing"
    assert one.alarms
    assert Lowered(Alarm.NO_SUBSCRIBER) in one.answered(State.RECEIVED, None, 6)
    assert not one.alarms


def test_an_answer_may_come_before_the_brokers_own() -> None:
    one = follow()
    one.start(0)
    one.answered(State.ACCEPTED, 1, 0.1)
    assert one.published(1, 0.2, no_subscriber=True) == []
    assert (one.state, one.alarms) == (State.ACCEPTED, {})


def test_what_nobody_receives_for_a_day_has_failed_and_stands_in_alarm() -> None:
    one = follow("alarm")
    one.start(0)
    one.published(1, 0)
    outputs: list[Output] = []
    while one.state is not State.FAILED:
        at, outputs = due(one)
        if Publish(1) in outputs:
            one.published(1, at)
    assert at == LIFETIME_S
    assert GivenUp(1) in outputs
    assert Moved(State.PUBLISHED, State.FAILED, ()) in outputs
    assert Alarm.FAILED in one.alarms
    assert one.next_deadline() is None
    assert one.settled


def test_an_agency_that_comes_back_after_that_counts() -> None:
    one = follow(past=Past(0, 0, State.FAILED, alarms={Alarm.FAILED: "sequence 1 was not received"}))
    assert one.start(LIFETIME_S) == []
    assert Alarm.FAILED in one.alarms
    outputs = one.answered(State.ACCEPTED, 1, LIFETIME_S + 5)
    assert Lowered(Alarm.FAILED) in outputs
    assert one.state is State.ACCEPTED


# --- the ladder -------------------------------------------------------------------------------------------------------


def test_a_later_state_implies_the_earlier_ones() -> None:
    one = follow()
    one.start(0)
    one.published(1, 0)
    assert one.answered(State.ON_SCENE, None, 5)[-1] == Moved(
        State.PUBLISHED, State.ON_SCENE, (State.RECEIVED, State.ACCEPTED, State.EN_ROUTE, State.ON_SCENE)
    )


@pytest.mark.parametrize("first", ANSWERS)
@pytest.mark.parametrize("second", ANSWERS)
def test_states_never_go_back(first: Answer, second: Answer) -> None:
    one = received()
    one.answered(first, 1, 1)
    before = one.state
    one.answered(second, 1, 2)
    order = [State.RECEIVED, State.ACCEPTED, State.EN_ROUTE, State.ON_SCENE, State.CLEARED]
    rank = {state: order.index(state) for state in order} | {State.REJECTED: order.index(State.ACCEPTED)}
    assert rank[one.state] == max(rank[before], rank[second])


def test_a_repeated_answer_changes_nothing() -> None:
    for answer in ANSWERS:
        one = received("agency:bpbd")
        one.answered(answer, 1, 1, "no engine")
        deadline = one.next_deadline()
        assert one.answered(answer, 1, 2, "no engine") == []
        assert one.next_deadline() == deadline


def test_what_people_have_said_counts_and_what_is_not_kept_is_published_on() -> None:
    one = follow()
    one.start(0)
    one.published(1, 0)
    assert one.answered(State.RECEIVED, 1, 1, kept=False) == []
    one.answered(State.ACCEPTED, 1, 2, kept=False)
    assert (one.state, one.wanted, one.next_deadline()) == (State.ACCEPTED, True, 5)
    assert Publish(1) in one.handle_timer(5)
    one.published(1, 5)
    assert one.answered(State.ACCEPTED, 1, 6) == [Delivered(1)]
    assert not one.wanted


def test_a_missed_acceptance_takes_one_step_after_the_other() -> None:
    one = received("resend", "agency:bpbd", "call:sip:113@192.0.2.9", "alarm")
    cause = "not accepted in time"
    assert due(one) == (60, [Escalated("resend", cause), Publish(1)])
    one.published(1, 60)
    assert due(one) == (120, [Engage("bpbd", cause)])
    assert due(one) == (180, [Escalated("call:sip:113@192.0.2.9", cause), Call("sip:113@192.0.2.9")])
    assert due(one) == (180 + CALL_S, [Escalated("alarm", cause), Raised(Alarm.UNANSWERED, cause)])
    assert one.next_deadline() is None
    assert one.answered(State.ACCEPTED, 1, 300)[-1] == Lowered(Alarm.UNANSWERED)


def test_every_ladder_ends_in_an_alarm() -> None:
    for ladder in ((), ("resend",), ("resend", "alarm")):
        one = received(*ladder)
        while one.next_deadline() is not None:
            at, outputs = due(one)
            if Publish(1) in outputs:
                one.published(1, at)
        assert Alarm.UNANSWERED in one.alarms


def test_a_step_that_cannot_be_carried_out_is_an_alarm_and_the_next_follows_at_once() -> None:
    one = received("call:tel:113", "agency:bpbd")
    at, _ = due(one)
    assert one.not_carried_out("call:tel:113", "nobody answers", at) == [
        Raised(Alarm.STEP_FAILED, "call:tel:113: nobody answers"),
        Engage("bpbd", "call:tel:113: nobody answers"),
    ]
    assert one.calling is None


def test_who_accepts_by_voice_has_accepted_and_the_machine_still_has_to_receive_it() -> None:
    one = follow("call:tel:113")
    one.start(0)
    one.published(1, 0, no_subscriber=True)
    while one.calling is None:
        at, outputs = due(one)
        if outputs == [Publish(1)]:
            one.published(1, at)
    assert one.calling == "tel:113"
    outputs = one.spoken(70)
    assert outputs[0] == Moved(State.PUBLISHED, State.ACCEPTED, (State.RECEIVED, State.ACCEPTED))
    over = one.calling is None
    assert over
    assert (one.taken, one.delivered, one.wanted) == (True, False, True)
    assert Alarm.NO_SUBSCRIBER in one.alarms, "their machine is still away"
    assert Delivered(1) in one.answered(State.RECEIVED, 1, 100)
    assert one.state is State.ACCEPTED


def test_a_rejection_that_is_only_repeated_does_not_undo_what_was_accepted_by_voice() -> None:
    one = received("call:tel:113", "alarm")
    one.answered(State.REJECTED, 1, 5, "no engine")
    assert one.calling == "tel:113"
    one.spoken(20)
    assert one.answered(State.REJECTED, 1, 30, "no engine") == []
    assert one.state is State.ACCEPTED
    one.answered(State.EN_ROUTE, 1, 40)
    one.answered(State.REJECTED, 1, 50, "broke down")
    assert Alarm.WITHDRAWN in one.alarms, "but this is news"


def test_a_voice_call_is_over_once_nobody_needs_it() -> None:
    def called() -> FollowUp:
        one = received("call:tel:113", "alarm")
        assert due(one)[1] == [Escalated("call:tel:113", "not accepted in time"), Call("tel:113")]
        assert one.calling == "tel:113"
        return one

    ends: tuple[Callable[[FollowUp], list[Output]], ...] = (
        lambda one: one.answered(State.ACCEPTED, 1, 61),
        lambda one: one.relieved(61),
        lambda one: one.cancel(61),
        lambda one: one.handle_timer(60 + CALL_S),
    )
    for end in ends:
        one = called()
        end(one)
        assert one.calling is None
        assert one.not_carried_out("call:tel:113", "busy", 300) == []
    one = called()
    one.update(61, anew=False)
    assert one.calling == "tel:113", "more is known; that somebody has to go stands"
    one.answered(State.REJECTED, 2, 62)
    assert Alarm.UNANSWERED in one.alarms
    assert one.calling is None


def test_a_call_because_nobody_is_on_scene_changes_no_state() -> None:
    one = received("call:tel:113", "alarm", arrive=100)
    one.answered(State.EN_ROUTE, 1, 5)
    assert due(one) == (100, [Escalated("call:tel:113", "not on scene in time"), Call("tel:113")])
    assert one.spoken(110) == []
    assert (one.state, one.calling) == (State.EN_ROUTE, None)
    assert due(one) == (
        100 + CALL_S,
        [Escalated("alarm", "not on scene in time"), Raised(Alarm.UNANSWERED, "not on scene in time")],
    )


def test_a_rejection_takes_the_next_step_that_asks_somebody_else_at_once() -> None:
    one = received("resend", "agency:bpbd", "alarm")
    assert one.answered(State.REJECTED, 1, 5, "all engines out") == [
        Moved(State.RECEIVED, State.REJECTED, ()),
        Escalated("resend", "rejected: all engines out", skipped="the agency has rejected it"),
        Engage("bpbd", "rejected: all engines out"),
    ]
    assert due(one)[0] == 65
    assert Alarm.UNANSWERED in one.alarms
    assert not one.settled


def test_who_is_relieved_by_another_agency_is_left_alone() -> None:
    one = received("agency:bpbd", "alarm")
    one.answered(State.REJECTED, 1, 5)
    one.relieved(6)
    assert one.next_deadline() is None
    assert one.settled


def test_who_is_relieved_and_comes_all_the_same_is_followed_to_the_end() -> None:
    one = received("agency:bpbd")
    one.relieved(70)
    assert one.settled
    one.answered(State.EN_ROUTE, 1, 80)
    assert not one.settled
    one.answered(State.CLEARED, 1, 90)
    assert one.settled


def test_a_rejection_can_be_taken_back_and_an_acceptance_too() -> None:
    one = received("alarm")
    one.answered(State.REJECTED, 1, 5)
    assert Lowered(Alarm.UNANSWERED) in one.answered(State.ACCEPTED, 1, 6)
    assert one.next_deadline() == 900
    assert Raised(Alarm.UNANSWERED, "rejected: broken axle") in one.answered(State.REJECTED, 1, 7, "broken axle")


def test_a_rejection_on_the_way_is_an_alarm_and_no_step_back() -> None:
    one = received()
    one.answered(State.EN_ROUTE, 1, 5)
    assert one.answered(State.REJECTED, 1, 6, "accident") == [Raised(Alarm.WITHDRAWN, "accident")]
    assert one.state is State.EN_ROUTE
    assert Lowered(Alarm.WITHDRAWN) in one.answered(State.ON_SCENE, 1, 7)


def test_who_does_not_arrive_in_time_is_followed_further() -> None:
    one = received("resend", "alarm", arrive=900)
    one.answered(State.ACCEPTED, 1, 10)
    one.answered(State.EN_ROUTE, 1, 20)
    assert due(one) == (900, [Escalated("resend", "not on scene in time"), Publish(1)])
    assert due(one)[0] == 960
    assert one.alarms == {Alarm.UNANSWERED: "not on scene in time"}
    assert Lowered(Alarm.UNANSWERED) in one.answered(State.ON_SCENE, 1, 1000)
    assert one.next_deadline() is None
    one.answered(State.CLEARED, 1, 2000)
    assert one.settled


def test_with_its_ladder_used_up_a_missed_arrival_is_still_an_alarm() -> None:
    one = received("alarm")
    due(one)
    one.answered(State.ACCEPTED, 1, 70)
    assert not one.alarms
    due(one)
    assert one.alarms == {Alarm.UNANSWERED: "not on scene in time"}


# --- updates and cancellations ----------------------------------------------------------------------------------------


def test_an_update_is_a_sequence_of_its_own_and_keeps_the_state() -> None:
    one = received()
    one.answered(State.ACCEPTED, 1, 5)
    assert one.update(10, anew=False) == [Publish(2)]
    one.published(2, 10)
    assert one.answered(State.ACCEPTED, 1, 11) == [], "that was to the old sequence"
    assert one.wanted
    assert one.answered(State.ACCEPTED, 2, 12) == [Delivered(2)]
    assert one.state is State.ACCEPTED


def test_an_update_waits_for_the_publication_that_is_under_way() -> None:
    one = follow()
    one.start(0)
    assert one.update(1, anew=False) == []
    assert one.published(1, 2) == [Moved(State.PENDING, State.PUBLISHED, (State.PUBLISHED,)), Publish(2)]


def test_an_answer_without_a_sequence_is_to_the_latest() -> None:
    one = received()
    one.update(10, anew=False)
    assert Delivered(2) in one.answered(State.RECEIVED, None, 11)
    assert not one.knows(3)
    assert not one.knows(0)


def test_what_was_closed_begins_anew() -> None:
    one = received("agency:bpbd")
    one.answered(State.REJECTED, 1, 5)
    assert one.update(1000, anew=True) == [Moved(State.REJECTED, State.PENDING, ()), Publish(2)]
    one.published(2, 1000)
    assert one.answered(State.REJECTED, 1, 1001, "late") == [
        Noted("late_answer", "rejected to sequence 1, which a new order has replaced")
    ]
    one.answered(State.RECEIVED, 2, 1002)
    assert due(one) == (1060, [Engage("bpbd", "not accepted in time")])


def test_what_is_closed_while_its_update_is_written_stays_closed() -> None:
    one = received()
    one.answered(State.REJECTED, 1, 5)
    assert one.update(6, anew=False) == [Publish(2)]
    assert one.state is State.REJECTED


def test_an_update_a_day_later_is_delivered_like_any_other() -> None:
    one = received()
    one.answered(State.ON_SCENE, 1, 5)
    now = 2 * LIFETIME_S
    assert one.update(now, anew=False) == [Publish(2)]
    one.published(2, now)
    assert due(one)[1] == [Publish(2)]


def test_a_cancellation_ends_the_ladder_and_has_to_be_received() -> None:
    one = received("agency:bpbd")
    assert one.cancel(5) == [Moved(State.RECEIVED, State.CANCELLED, ()), Publish(2)]
    one.published(2, 5)
    assert due(one) == (10, [Publish(2)])
    assert one.answered(State.ACCEPTED, 1, 11) == []
    assert not one.settled
    assert one.answered(State.ACCEPTED, 2, 12) == [Delivered(2)]
    assert (one.state, one.settled) == (State.CANCELLED, True)


# --- after a restart --------------------------------------------------------------------------------------------------


def test_what_was_not_received_is_published_again() -> None:
    one = follow(past=Past(-30.0, -30.0, State.PUBLISHED, reached=frozenset({State.PUBLISHED})))
    assert one.start(0) == [Publish(1)]
    assert one.next_deadline() == 30


def test_the_ladder_goes_on_where_it_was() -> None:
    past = Past(-100.0, -100.0, State.RECEIVED, delivered=True, steps_taken=("resend",), step_at=-40.0)
    one = follow("resend", "agency:bpbd", past=past)
    assert one.start(0) == []
    assert due(one) == (20, [Engage("bpbd", "not accepted in time")])


def test_a_deadline_that_passed_meanwhile_is_due_at_once() -> None:
    one = follow("agency:bpbd", past=Past(-500.0, -500.0, State.RECEIVED, delivered=True))
    one.start(0)
    assert one.next_deadline() == -440
    assert one.handle_timer(0) == [Engage("bpbd", "not accepted in time")]


def test_the_alarm_that_stood_stands_again() -> None:
    alarms = {Alarm.WITHDRAWN: "engine broke down", Alarm.STEP_FAILED: "call:tel:113: busy"}
    past = Past(
        -500.0,
        -500.0,
        State.EN_ROUTE,
        delivered=True,
        steps_taken=("agency:bpbd", "alarm"),
        step_at=-400.0,
        alarms=alarms,
    )
    one = follow("agency:bpbd", "alarm", past=past)
    assert one.start(0) == []
    assert one.alarms == alarms
    assert one.answered(State.ON_SCENE, 1, 5)[1:] == [Lowered(Alarm.STEP_FAILED), Lowered(Alarm.WITHDRAWN)]


def test_who_was_relieved_is_still_left_alone() -> None:
    one = follow("alarm", past=Past(-500.0, -500.0, State.RECEIVED, delivered=True, relieved=True))
    assert one.start(0) == []
    assert one.next_deadline() is None
