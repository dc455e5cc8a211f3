"""What call-takers key and dial, with the real stack, queue and record."""

from collections.abc import Iterator

import pytest

from siaga_pbx.call.features import KeySource
from siaga_pbx.legs import Leg
from siaga_pbx.media.protocol import Played
from siaga_pbx.sip.message import Response
from tests.switch_bench import Centre, Phone, run


@pytest.fixture
def centre() -> Iterator[Centre]:
    centre = Centre()
    yield centre
    centre.close()


def dial(phone: Phone, code: str, call_id: str = "own") -> None:
    """A code dialled when idle: challenged, answered."""
    phone.call_id, phone.our_tag = call_id, ""
    centre = phone.bench

    def dialled() -> None:
        phone.dial(code)
        phone.ok()

    run(dialled)
    assert centre.media.asked


def said(centre: Centre) -> list[object]:
    return [name for asked in centre.media.asked if asked[0] == "play" for name in asked[2:]]


def leg_of(centre: Centre, seat: str) -> Leg:
    return next(leg for leg in centre.tools.legs if leg.seat == seat)


def talking(centre: Centre) -> tuple[Phone, Phone]:
    seat, caller = centre.seat(), centre.caller()
    caller.call()
    caller.our_tag = next(m.to.tag or "" for _, m in centre.sent if isinstance(m, Response) and m.status == 200)
    seat.take()
    caller.ack()
    centre.sent.clear()
    return caller, seat


def press(centre: Centre, leg: Leg, keys: str) -> None:
    def pressed() -> None:
        for digit in keys:
            centre.lines.key(leg, digit, KeySource.RTP)
        centre.advance(5)

    run(pressed)


def test_a_seat_pauses_by_dialling_and_hears_so(centre: Centre) -> None:
    seat = centre.seat()
    dial(seat, "*8")
    assert said(centre) == ["paused"]
    centre.hub.on_media(Played(leg_of(centre, "101").id))
    seat.said_ok(centre.sent_request("BYE"))
    centre.advance(40)
    assert centre.seat_states()["101"] == "paused"
    assert centre.is_idle()


def test_a_prompt_that_nobody_plays_does_not_keep_the_seat(centre: Centre) -> None:
    seat = centre.seat()
    dial(seat, "*9")
    assert centre.seat_states()["101"] == "talking"
    centre.advance(16)
    seat.said_ok(centre.sent_request("BYE"))
    assert centre.seat_states()["101"] == "ready"


def test_a_seat_with_two_calls_of_its_own_is_idle_after_both(centre: Centre) -> None:
    first = centre.seat()
    second = Phone(centre, first.flow, user="101", tag="second")
    dial(first, "*9", "one")
    dial(second, "*9", "two")
    first.bye()
    assert centre.seat_states()["101"] == "talking"
    centre.caller().call()
    assert "INVITE" not in centre.take()
    second.bye()
    centre.sent_request("INVITE")


def test_what_is_no_code_is_404_and_leaves_nothing(centre: Centre) -> None:
    seat = centre.seat()
    seat.call_id = "own"
    run(lambda: seat.dial("777"))
    centre.sent_response(404)
    centre.advance(40)
    assert centre.is_idle()
    assert centre.seat_states()["101"] == "ready"


def test_a_dispatch_keyed_in_a_call_is_for_that_call(centre: Centre) -> None:
    talking(centre)
    seat = leg_of(centre, "101")
    centre.media.asked.clear()
    press(centre, seat, "*1")
    assert centre.dispatched == [(centre.row()["id"], "fire", "101")]
    assert centre.media.asked == [("play", seat.id, "confirmed")], "the call-taker alone hears it"
    centre.hub.on_media(Played(seat.id))
    caller = next(iter(centre.switch.callers.live.values())).leg.id
    assert centre.media.asked[1] == ("bridge", caller, seat.id), "and talks on"


def test_what_else_is_keyed_in_a_call_does_not_disturb_the_talk(centre: Centre) -> None:
    talking(centre)
    centre.media.asked.clear()
    press(centre, leg_of(centre, "101"), "*8")
    assert [asked for asked in centre.media.asked if asked[0] == "play"] == []


def test_a_dispatch_that_fails_is_said_to_the_call_taker_who_then_talks_on(centre: Centre) -> None:
    talking(centre)
    centre.dispatch_works = False
    seat = leg_of(centre, "101")
    centre.media.asked.clear()
    press(centre, seat, "*1")
    assert centre.media.asked == [("play", seat.id, "dispatch-failed")]
    assert "feature_failed" in centre.kinds()
    centre.hub.on_media(Played(seat.id))
    caller = next(iter(centre.switch.callers.live.values())).leg.id
    assert centre.media.asked[1] == ("bridge", caller, seat.id)


def test_a_code_that_is_none_is_said_to_the_call_taker(centre: Centre) -> None:
    """Who believes that help is on its way must be right."""
    talking(centre)
    press(centre, leg_of(centre, "101"), "*7")
    assert said(centre)[-1] == "not-known"


def lost_call(centre: Centre) -> str:
    """A caller who gave up."""
    caller = centre.caller("lost")
    caller.call()
    caller.ok()
    caller.bye()
    centre.sent.clear()
    return str(centre.row()["id"])


def called_back(centre: Centre, seat: Phone) -> Phone:
    """The lost caller, who has taken our call back."""
    dial(seat, "*5")
    far = centre.caller("far")
    invite = far.take()
    assert invite.headers.get("Priority") == "psap-callback"
    return far


def test_a_lost_caller_is_called_back_and_leaves_the_list(centre: Centre) -> None:
    lost, seat = lost_call(centre), centre.seat()
    far = called_back(centre, seat)
    assert centre.media.asked[-2][0] == "bridge"
    assert centre.store.flush()
    assert centre.reader.callbacks() == []
    assert "callback_called" in [event["kind"] for event in centre.reader.events(call_id=lost)]
    far.bye()
    seat.said_ok(centre.sent_request("BYE"))
    centre.advance(40)
    assert centre.is_idle()


def test_what_is_keyed_to_who_was_called_back_is_for_their_call(centre: Centre) -> None:
    """Not for the call before: an engine would be sent to the wrong place."""
    talking(centre)[0].bye()
    centre.advance(1)
    lost = lost_call(centre)
    seat = Phone(centre, centre.seat().flow, user="101", tag="again")
    called_back(centre, seat)
    press(centre, leg_of(centre, "101"), "*1")
    seat.bye()
    dial(seat, "*1", "after")
    assert centre.dispatched == [(lost, "fire", "101"), (lost, "fire", "101")]


def test_keys_are_not_for_the_ear_of_who_is_called_back(centre: Centre) -> None:
    lost_call(centre)
    called_back(centre, centre.seat())
    assert centre.media.asked[-1] == ("relay_events", leg_of(centre, "101").id, False)


def test_who_does_not_answer_stays_on_the_list(centre: Centre) -> None:
    lost, seat = lost_call(centre), centre.seat()
    dial(seat, "*5")
    centre.caller("far").answer(centre.sent_request("INVITE"), 480)
    assert "BYE" in centre.take()
    assert centre.store.flush()
    assert [row["id"] for row in centre.reader.callbacks()] == [lost]
