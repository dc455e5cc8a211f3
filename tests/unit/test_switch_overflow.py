"""The overflow target's leg with the real stack and queue: whoever answers first has the call, and nothing is left."""

from collections.abc import Iterator

import pytest

from siaga_pbx.call import events as told
from siaga_pbx.sip.message import Response
from siaga_pbx.sip.sdp import Sdp
from tests.flows.bench import SEAT
from tests.switch_bench import Centre, Phone

NO_G711 = Sdp.parse("v=0\r\nc=IN IP4 198.51.100.1\r\nm=audio 40000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n")


@pytest.fixture
def centre() -> Iterator[Centre]:
    centre = Centre(queue={"overflow_s": 5, "overflow": "sip:112@192.0.2.9"})
    yield centre
    centre.close()


def waiting(centre: Centre) -> Phone:
    """A caller whom no seat has answered, at the time when the overflow target rings."""
    caller = centre.caller()
    caller.call()
    caller.ok()
    centre.advance(5)
    return caller


def target(centre: Centre) -> Phone:
    return centre.caller("overflow")


def bridges(centre: Centre) -> int:
    return sum(asked[0] == "bridge" for asked in centre.media.asked)


def test_the_target_answers_and_has_the_caller(centre: Centre) -> None:
    caller, other = waiting(centre), target(centre)
    assert str(other.take().uri) == "sip:112@192.0.2.9"
    assert bridges(centre) == 1
    caller.bye()
    other.said_ok(centre.sent_request("BYE"))
    centre.advance(40)
    assert (centre.row()["outcome"], centre.row()["ended_by"]) == ("overflowed", "caller")
    assert centre.is_idle()


def test_the_target_hangs_up(centre: Centre) -> None:
    caller, other = waiting(centre), target(centre)
    other.take()
    other.bye()
    caller.said_ok(centre.sent_request("BYE"))
    centre.advance(40)
    assert (centre.row()["outcome"], centre.row()["ended_by"]) == ("overflowed", "overflow")
    assert centre.is_idle()


def test_a_target_that_fails_is_tried_again_and_the_caller_waits(centre: Centre) -> None:
    waiting(centre)
    target(centre).answer(centre.sent_request("INVITE"), 486)
    assert "overflow_failed" in centre.alarms.active
    centre.sent.clear()
    centre.advance(10.1)
    target(centre).take()
    assert bridges(centre) == 1
    assert "overflow_failed" not in centre.alarms.active


def test_a_target_without_our_codec_does_not_get_the_caller(centre: Centre) -> None:
    waiting(centre)
    other = target(centre)
    other.answer(centre.sent_request("INVITE"), 200, NO_G711)
    other.said_ok(centre.sent_request("BYE"))
    assert bridges(centre) == 0
    assert len(centre.media.opened) == 1
    centre.advance(10.1)
    centre.sent_request("INVITE")


def test_a_seat_that_answers_first_ends_the_ringing_there(centre: Centre) -> None:
    centre.seat("101")
    centre.switch.tell(told.SeatPaused("101", None))
    waiting(centre)
    other, seat = target(centre), Phone(centre, SEAT, user="101", tag="seat")
    rings_there = centre.sent_request("INVITE")
    other.answer(rings_there, 180)
    centre.switch.tell(told.SeatReady("101"))
    seat.take()
    other.said_ok(centre.sent_request("CANCEL"))
    other.answer(rings_there, 487)
    centre.advance(40)
    assert bridges(centre) == 1
    assert len(centre.tools.legs) == 2
    assert centre.row()["seat_id"] == "101"


def test_a_caller_who_gives_up_ends_the_ringing_there(centre: Centre) -> None:
    caller, other = waiting(centre), target(centre)
    invite = centre.sent_request("INVITE")
    other.answer(invite, 180)
    caller.bye()
    other.said_ok(centre.sent_request("CANCEL"))
    other.answer(invite, 487)
    centre.advance(40)
    assert centre.row()["outcome"] == "abandoned"
    assert centre.is_idle()


def test_a_target_without_a_port_is_tried_again(centre: Centre) -> None:
    caller = centre.caller()
    caller.call()
    caller.ok()
    centre.media.ports = 0
    centre.advance(6.1)
    assert not [m for _, m in centre.sent if not isinstance(m, Response)]
    centre.media.ports = 2
    centre.advance(10)
    target(centre).take()
    assert bridges(centre) == 1
