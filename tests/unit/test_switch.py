"""The switch with the real stack, queue and record: no caller lost, no leg or port left, the row true in every case."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from siaga_pbx.call import events as told
from siaga_pbx.sip.message import Response
from siaga_pbx.sip.sdp import Direction, LocalAudio, Sdp, make_answer, make_offer
from tests.switch_bench import SEAT_2, Centre, Phone

NO_G711 = Sdp.parse("v=0\r\nc=IN IP4 198.51.100.1\r\nm=audio 40000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n")


@pytest.fixture
def centre() -> Iterator[Centre]:
    centre = Centre()
    yield centre
    centre.close()


def talking(centre: Centre, call_id: str = "call-1") -> tuple[Phone, Phone]:
    """A caller and a seat who hear each other."""
    seat, caller = centre.seat(), centre.caller(call_id)
    caller.call()
    seat_invite = [m for _, m in centre.sent]
    caller.our_tag = next(m.to.tag or "" for m in seat_invite if isinstance(m, Response) and m.status == 200)
    seat.take()
    caller.ack()
    centre.sent.clear()
    assert centre.row()["connected_at"] is not None
    return caller, seat


def test_a_call_from_its_invite_to_its_closed_row(centre: Centre) -> None:
    caller, seat = talking(centre)
    caller.bye()
    seat.said_ok(centre.sent_request("BYE"))
    centre.advance(40)
    row = centre.row()
    assert (row["outcome"], row["ended_by"], row["seat_id"]) == ("answered", "caller", "101")
    assert centre.is_idle()


def test_the_seat_hangs_up(centre: Centre) -> None:
    caller, seat = talking(centre)
    seat.bye()
    caller.said_ok(centre.sent_request("BYE"))
    centre.advance(40)
    assert (centre.row()["outcome"], centre.row()["ended_by"]) == ("answered", "seat")
    assert centre.is_idle()


def test_a_seat_without_our_codec_is_passed_over_and_the_caller_waits(centre: Centre) -> None:
    seat, other, caller = centre.seat(), centre.seat("102", SEAT_2), centre.caller()
    caller.call()
    seat.answer(centre.sent_request("INVITE"), 200, NO_G711)
    seat.said_ok(centre.sent_request("BYE"))
    centre.advance(3)
    assert other.take().uri.user == "102"
    assert centre.seat_states() == {"101": "resting", "102": "talking"}
    assert "no_common_codec" in centre.kinds()
    assert len(centre.media.opened) == 2


def test_a_caller_without_our_codec_gets_488_once_and_leaves_nothing(centre: Centre) -> None:
    caller = centre.caller()
    caller.call(sdp=NO_G711)
    refusal = centre.sent_response(488)
    assert Sdp.parse(refusal.body).media[0].formats == ("8", "0", "101")
    assert "no_common_codec_telkomsel" in centre.alarms.active
    centre.advance(40)
    assert (centre.row()["outcome"], centre.row()["sip_status"]) == ("failed", 488)
    assert [row["id"] for row in centre.reader.callbacks()] == [centre.row()["id"]]
    assert centre.is_idle()
    centre.caller("call-2").call()
    assert "no_common_codec_telkomsel" not in centre.alarms.active


def test_a_caller_hears_ringing_until_there_is_audio_again(centre: Centre) -> None:
    centre.media.ports = 0
    seat, caller = centre.seat(), centre.caller()
    caller.call()
    assert centre.take() == ["100 INVITE", "180 INVITE"]
    centre.advance(5)
    assert set(centre.take()) == {"180 INVITE"}
    centre.media.ports = 2
    centre.switch.callers.media_is_back()
    caller.our_tag = next(m.to.tag or "" for _, m in centre.sent if isinstance(m, Response) and m.status == 200)
    seat.take()
    assert centre.seat_states()["101"] == "talking"


def test_a_caller_who_heard_ringing_only_is_on_record_as_what_became_of_them(centre: Centre) -> None:
    centre.media.ports = 0
    first, second = centre.caller("first"), centre.caller("second")
    first.call()
    second.call()
    first.send(first.request("CANCEL", branch=first.invite.via.branch))
    assert centre.row()["outcome"] is None
    centre.switch.hang_up_all()
    assert centre.store.flush()
    assert [(row["outcome"], row["ended_by"]) for row in centre.reader.calls()] == [
        ("abandoned", "caller"),
        ("failed", "system"),
    ]
    centre.media.ports = 2
    centre.switch.callers.media_is_back()
    assert not centre.media.opened


def test_a_phone_that_moved_to_another_network_is_heard_from_there(centre: Centre) -> None:
    """Behind NAT its SDP names an address that we never see: its audio comes from where its SIP does now."""
    _, seat = talking(centre)
    leg = next(leg for leg in centre.tools.legs if leg.seat == "101")
    moved = Phone(centre, centre.seat("101", SEAT_2).flow, user="101", tag=seat.tag, cseq=seat.cseq)
    moved.call_id, moved.our_tag = seat.call_id, seat.our_tag
    moved.reinvite(make_offer(LocalAudio("10.0.0.7", 40000, 1, 2)))
    assert [str(network) for network in centre.media.remotes[leg.id].accept] == ["203.0.113.6/32"]


def test_a_seat_without_a_port_costs_a_miss_and_no_seat(centre: Centre) -> None:
    centre.media.ports = 1
    centre.seat()
    centre.caller().call()
    centre.advance(1.5)
    centre.media.ports = 1
    centre.sent.clear()
    centre.advance(3)
    centre.sent_request("INVITE")
    assert centre.seat_states()["101"] == "offered"


def test_a_caller_who_gives_up_takes_the_ringing_seat_along(centre: Centre) -> None:
    centre = Centre(queue={"answer": "by-seat"})
    seat, caller = centre.seat(), centre.caller()
    caller.call()
    invite = centre.sent_request("INVITE")
    seat.answer(invite, 180)
    caller.send(caller.request("CANCEL", branch=caller.invite.via.branch))
    seat.said_ok(centre.sent_request("CANCEL"))
    seat.answer(invite, 487)
    caller.ack(branch=caller.invite.via.branch)
    centre.advance(40)
    row = centre.row()
    assert (row["outcome"], row["ended_by"], row["sip_status"]) == ("abandoned", "caller", 487)
    assert centre.seat_states()["101"] == "ready"
    assert centre.is_idle()
    centre.close()


def test_our_description_keeps_its_version_until_it_says_something_new(centre: Centre) -> None:
    """RFC 3264 8: the same origin, and a version one higher only for a new description."""
    caller, _ = talking(centre)

    def origin(answer: Sdp) -> tuple[str, str]:
        session, version = next(value for letter, value in answer.lines if letter == "o").split()[1:3]
        return session, version

    session, version = origin(caller.reinvite(caller.audio))
    hold = make_offer(LocalAudio("198.51.100.1", 40000, 1, 2), Direction.SENDONLY)
    assert origin(caller.reinvite(hold)) == (session, str(int(version) + 1))
    assert origin(caller.reinvite(hold)) == (session, str(int(version) + 1))
    assert origin(caller.reinvite(caller.audio)) == (session, str(int(version) + 2))


def test_a_hold_and_its_end_reach_the_media_worker(centre: Centre) -> None:
    caller, _ = talking(centre)
    leg = next(iter(centre.switch.callers.live.values())).leg.id
    caller.reinvite(make_offer(LocalAudio("198.51.100.1", 40000, 1, 2), Direction.INACTIVE))
    assert not centre.media.remotes[leg].sending
    caller.reinvite(make_offer(LocalAudio("198.51.100.1", 40002, 1, 3)))
    assert centre.media.remotes[leg].sending
    assert centre.media.remotes[leg].port == 40002


def test_a_caller_without_an_offer_answers_in_the_ack(centre: Centre) -> None:
    caller = centre.caller()
    caller.call(offer=False)
    response = centre.sent_response(200)
    caller.our_tag = response.to.tag or ""
    leg = next(iter(centre.switch.callers.live.values())).leg.id
    assert leg not in centre.media.remotes
    caller.ack(make_answer(Sdp.parse(response.body), LocalAudio("198.51.100.1", 40000, 1, 1))[0])
    assert centre.media.remotes[leg].port == 40000


def test_a_caller_whose_ack_with_the_answer_never_comes_is_asked_for(centre: Centre) -> None:
    caller = centre.caller()
    caller.call(offer=False)
    caller.our_tag = centre.sent_response(200).to.tag or ""
    centre.advance(33)
    caller.answer(centre.sent_request("OPTIONS"), 481)
    centre.advance(40)
    assert (centre.row()["outcome"], centre.row()["ended_by"]) == ("failed", "fault")
    assert centre.is_idle()


def test_a_call_whose_ack_is_lost_stays(centre: Centre) -> None:
    caller = centre.caller()
    caller.call()
    centre.advance(40)
    assert "unacknowledged" in centre.kinds()
    assert len(centre.switch.callers) == 1
    assert "OPTIONS" not in centre.take()


def test_the_test_service_echoes_and_hangs_up(centre: Centre) -> None:
    caller = centre.caller()
    caller.call("urn:service:test.sos")
    caller.ok()
    assert [asked[0] for asked in centre.media.asked] == ["echo"]
    centre.advance(10)
    caller.said_ok(centre.sent_request("BYE"))
    centre.advance(40)
    assert centre.row()["outcome"] == "test"
    assert centre.is_idle()


def test_a_device_tests_once_in_two_minutes(centre: Centre) -> None:
    for call_id, user, status in (
        ("one", "62811222333", 200),
        ("two", "62811222333", 486),
        ("three", "62811222444", 200),
    ):
        centre.caller(call_id, user).call("urn:service:test.sos")
        centre.sent_response(status)
    centre.advance(121)
    centre.sent.clear()
    centre.caller("four").call("urn:service:test.sos")
    centre.sent_response(200)


def test_112_is_never_busy_for_who_calls_again(centre: Centre) -> None:
    for call_id in ("one", "two", "three"):
        centre.caller(call_id).call()
        centre.sent_response(200)


def test_the_service_stops_and_nobody_rings_on(centre: Centre) -> None:
    """A seat that the stop makes free must not be offered the next caller of those who are being hung up."""
    talking(centre)
    waiting = centre.caller("waiting")
    waiting.call()
    waiting.ok()
    centre.switch.hang_up_all()
    assert centre.take() == ["BYE", "BYE", "BYE"]
    assert not len(centre.tools.legs)
    assert centre.row()["outcome"] == "failed"
    assert centre.reader.callbacks() == [centre.row()]


def test_a_leg_that_the_stack_has_let_go_of_does_not_keep_its_seat(centre: Centre) -> None:
    talking(centre)
    leg = next(leg for leg in centre.tools.legs if leg.seat == "101")
    centre.stack.hang_up(leg.id, centre.now)  # and its Ended is lost
    centre.hub.audit()
    assert centre.seat_states()["101"] != "talking"
    assert len(centre.switch.callers) == 1, "the caller waits for the next"


def test_a_pause_outlives_a_restart(centre: Centre) -> None:
    centre.seat()
    centre.switch.tell(told.SeatPaused("101", "istirahat"))
    centre.switch.tell(told.SeatPaused("102", None))
    centre.switch.tell(told.SeatReady("102"))
    centre.restart()
    assert centre.seat_states() == {"101": "paused", "102": "offline"}
    assert centre.tools.queue.view().seats[0].reason == "istirahat"


def test_a_stored_registration_that_cannot_be_read_costs_that_seat_only(centre: Centre) -> None:
    centre.seat()
    centre.seat("102", SEAT_2)
    assert centre.store.flush()
    rows = centre.reader.bindings(centre.utc())
    rows[0]["flow"] = None
    again = Centre()
    again.hub.restore_bindings(rows)
    assert again.seat_states() == {"101": "offline", "102": "ready"}
    again.close()


def test_what_matched_no_route_is_forgotten_at_a_reload(centre: Centre) -> None:
    centre.caller().call("sip:113@192.0.2.10")
    centre.sent_response(200)
    assert "no_route_telkomsel" in centre.alarms.active
    centre.hub.configure(centre.config)
    assert "no_route_telkomsel" not in centre.alarms.active


def test_a_trunk_that_is_no_more_alarms_no_more(centre: Centre) -> None:
    centre.hub.check_peers()
    centre.advance(33)
    assert "trunk_down_telkomsel" in centre.alarms.active
    centre.hub.check_peers()
    centre.hub.configure(centre.config.model_copy(update={"trunks": ()}))
    assert "trunk_down_telkomsel" not in centre.alarms.active
    centre.advance(33)
    assert "trunk_down_telkomsel" not in centre.alarms.active
    assert centre.hub.trunks_up == {}


def test_a_call_goes_on_although_a_reload_took_its_trunk_away(centre: Centre) -> None:
    caller, seat = talking(centre)
    centre.do(centre.stack.configure(replace(centre.settings, trunks=()), centre.now))
    caller.reinvite(caller.audio)
    caller.bye()
    seat.said_ok(centre.sent_request("BYE"))
